"""What tests of Mahavishnu, and of providers written elsewhere, are made with.

`mahavishnu.testing.provider_suite` needs pytest; the rest does not.
"""

from __future__ import annotations

from mahavishnu.testing.clock import FakeClock

__all__ = ["FakeClock"]
