"""Times, durations and sizes as people read them, in the machine's zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = ["clock_time", "counted", "local_time", "relative", "size", "span", "when"]

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NOW_SECONDS = 1.0


def relative(instant: datetime, now: datetime) -> str:
    """Return how far away an instant is: `in 3 min`, `2 h ago`, `now`."""
    seconds = (instant - now).total_seconds()
    if abs(seconds) < _NOW_SECONDS:
        return "now"
    words = _largest(abs(seconds))
    return f"in {words}" if seconds > 0 else f"{words} ago"


def local_time(instant: datetime) -> str:
    """Return an instant in the machine's zone, to the second."""
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock_time(instant: datetime) -> str:
    """Return the time of day of an instant in the machine's zone."""
    return instant.astimezone().strftime("%H:%M:%S")


def when(instant: datetime | None, now: datetime, *, never: str = "-") -> str:
    """Return an instant in the machine's zone and how far away it is; `never` for `None`."""
    return never if instant is None else f"{local_time(instant)} ({relative(instant, now)})"


def span(duration: timedelta | None) -> str:
    """Return a duration in its two largest units: `340 ms`, `1.2 s`, `3 min 5 s`; `-` for `None`."""
    if duration is None:
        return "-"
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    parts: list[str] = []
    left = int(seconds)
    for length, unit in _UNITS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def counted(count: int, what: str) -> str:
    """Return a number with its noun: `1 job`, `2 jobs`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes in a unit that keeps it short: `4.0 KB`."""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _largest(seconds: float) -> str:
    length, unit = next(item for item in _UNITS if seconds >= item[0])
    return f"{int(seconds // length)} {unit}"
