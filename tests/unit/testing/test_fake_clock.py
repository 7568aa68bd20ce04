"""The clock that tests advance."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.testing import FakeClock


def test_time_passes_by_advancing_only():
    """All three readings move together, and only when told."""
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    before = clock.now(), clock.now_ms(), clock.monotonic()
    assert (clock.now(), clock.now_ms(), clock.monotonic()) == before
    clock.advance(timedelta(seconds=90))
    assert clock.now() == datetime(2026, 3, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.now_ms() - before[1] == 90_000
    assert clock.monotonic() - before[2] == 90


def test_the_wall_clock_can_jump_back():
    """Setting the wall clock leaves monotonic time alone; advancing backwards is refused."""
    clock = FakeClock()
    clock.advance(timedelta(seconds=5))
    clock.set_wall_clock(datetime(2020, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.monotonic() == 5
    with pytest.raises(ValueError, match="cannot be advanced"):
        clock.advance(timedelta(seconds=-1))


def test_importing_needs_no_pytest():
    """The package can be used where pytest is not installed."""
    code = "import sys; sys.modules['pytest'] = None; import mahavishnu.testing, mahavishnu.testing.factories"
    subprocess.run([sys.executable, "-c", code], check=True)
