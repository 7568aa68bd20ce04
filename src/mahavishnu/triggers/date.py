"""The date trigger: once, at an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.triggers.base import aware_utc

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["DateTrigger"]


class DateTrigger:
    """Fires once.

    Args:
        run_date: When: an aware datetime in any zone, or ISO 8601 text with an offset or `Z`; kept to the
            millisecond.

    Raises:
        InvalidTriggerError: It is naive or cannot be read.
    """

    __slots__ = ("_run_date",)

    def __init__(self, run_date: datetime | str) -> None:
        self._run_date = aware_utc(run_date, "run_date")

    @property
    def run_date(self) -> datetime:
        """When it fires (UTC)."""
        return self._run_date

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the fire time if it is strictly later than `instant` (aware), else `None`."""
        return self._run_date if self._run_date > instant else None

    def spec(self) -> TriggerSpec:
        """Return the instant as ISO 8601 text."""
        return TriggerSpec(kind=TriggerKind.DATE, fields={"run_date": self._run_date.isoformat()})

    def describe(self) -> str:
        """Return the rule in plain words, such as `once at 2026-03-08T07:00:00+00:00`."""
        return f"once at {self._run_date.isoformat()}"

    def __eq__(self, other: object) -> bool:
        return self._run_date == other._run_date if isinstance(other, DateTrigger) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._run_date)

    def __repr__(self) -> str:
        return f"DateTrigger({self._run_date.isoformat()!r})"
