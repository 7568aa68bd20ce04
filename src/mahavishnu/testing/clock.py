"""A clock that stands still until it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mahavishnu.model.instants import to_ms

__all__ = ["FakeClock"]

_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `Clock` for tests: wall-clock and monotonic time move together, by `advance` only.

    Args:
        start: The aware instant it begins at, 2026-01-01 00:00 UTC by default.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._now = start.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        return self._now

    def now_ms(self) -> int:
        """Return the current instant as whole milliseconds since the Unix epoch."""
        return to_ms(self._now)

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        return self._monotonic

    def advance(self, duration: timedelta) -> None:
        """Let time pass.

        Raises:
            ValueError: The duration is negative; a clock that goes back is set with `set_wall_clock`.
        """
        if duration < timedelta(0):
            raise ValueError(f"a clock cannot be advanced by {duration}")
        self._now += duration
        self._monotonic += duration.total_seconds()

    def set_wall_clock(self, instant: datetime) -> None:
        """Set the wall clock, as an administrator or a time server would; monotonic time is not touched."""
        self._now = instant.astimezone(UTC)
