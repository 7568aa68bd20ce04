"""What a task may return to say more than "done": values, not exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = ["Cancel", "Retry", "Snooze"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again later; counts as an attempt.

    Attributes:
        after: How long to wait. `None` (default): the workflow's own backoff.
        reason: Why, for the ledger.
    """

    after: timedelta | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """Come back at a set time; does not count as an attempt.

    Attributes:
        until: An aware instant. One that has passed means at once.
        reason: Why, for the ledger.
    """

    until: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop here for good: not a success, not a failure, never retried.

    Attributes:
        reason: Why, for the ledger.
    """

    reason: str = ""
