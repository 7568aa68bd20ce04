"""The interval trigger: every so often, counted from a fixed instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Self, cast, overload

from mahavishnu.errors import InvalidTriggerError, nearest
from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.triggers.base import aware_utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["INTERVAL_FIELDS", "IntervalTimes", "IntervalTrigger"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND_US = 1000
_MAX_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
INTERVAL_FIELDS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
_UNITS_US = {
    "week": 604_800_000_000,
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": _MILLISECOND_US,
}


class IntervalTrigger:
    """Fires at `start + k * interval` for k = 0, 1, 2, … up to and including `end`.

    Times are computed from `start`, never from the last run, so they do not drift; local clock changes do
    not matter. The interval is the sum of the durations given.

    Args:
        start: The first fire time, and the origin of all others; aware, or ISO 8601 text with an offset.
        end: No fire time is later than this; `None` (default): without end.
        weeks: Weeks, default 0.
        days: Days of 24 hours, default 0.
        hours: Hours, default 0.
        minutes: Minutes, default 0.
        seconds: Seconds, default 0; fractions are allowed down to the millisecond.
        milliseconds: Milliseconds, default 0.

    Raises:
        InvalidTriggerError: The interval is not a whole number of milliseconds, at least 1; or an instant is
            naive; or `end` lies before `start`.
    """

    __slots__ = ("_end_us", "_interval_us", "_start_us")

    def __init__(
        self,
        *,
        start: datetime | str,
        end: datetime | str | None = None,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> None:
        given = (weeks, days, hours, minutes, seconds, milliseconds)
        parts: dict[str, object] = dict(zip(INTERVAL_FIELDS, given, strict=True))
        self._interval_us = _interval_us(parts)
        self._start_us = _to_us(aware_utc(start, "start"))
        self._end_us = _MAX_US if end is None else _to_us(aware_utc(end, "end"))
        if self._end_us < self._start_us:
            problem = f"its end {end} lies before its start {start}, so it never fires"
            raise InvalidTriggerError("interval", problem, "choose a later end")

    @classmethod
    def every(cls, interval: timedelta, *, anchor: datetime, end: datetime | str | None = None) -> Self:
        """Return the trigger that fires every `interval`, counted from `anchor`.

        Args:
            interval: At least one millisecond, a whole number of them.
            anchor: The origin, usually the current instant: then the first fire time is one interval later.
            end: No fire time is later than this; `None` (default): without end.

        Raises:
            InvalidTriggerError: The interval is too short or no `timedelta`.
        """
        if not isinstance(interval, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] - users may not type-check
            problem = f"the interval is of type {type(interval).__name__}"
            raise InvalidTriggerError(f"every={interval!r}", problem, "write every=timedelta(seconds=30)")
        return cls(
            start=anchor,
            end=end,
            days=interval.days,
            seconds=interval.seconds,
            milliseconds=interval.microseconds / _MILLISECOND_US,
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, object], *, anchor: datetime) -> Self:
        """Return the trigger described by keyword arguments whose names are still to be checked.

        Args:
            fields: `weeks` to `milliseconds`, at least one of them, and optionally `start` and `end`.
            anchor: The origin where `fields` has no `start`.

        Raises:
            InvalidTriggerError: A name is unknown (the nearest valid one is named), or a value cannot be used.
        """
        known = (*INTERVAL_FIELDS, "start", "end")
        for name in fields:
            if name not in known:
                raise InvalidTriggerError("interval", f"it has no field {name!r}{nearest(name, known)}")
        arguments: dict[str, object] = {"start": anchor, **fields}
        return cls(**arguments)  # pyright: ignore[reportArgumentType] - the constructor checks every value

    @property
    def interval(self) -> timedelta:
        """The time between two fire times."""
        return timedelta(microseconds=self._interval_us)

    @property
    def start(self) -> datetime:
        """The first fire time (UTC)."""
        return _from_us(self._start_us)

    @property
    def end(self) -> datetime | None:
        """The instant after which nothing fires (UTC); `None`: without end."""
        return None if self._end_us == _MAX_US else _from_us(self._end_us)

    def next_after_us(self, instant_us: int) -> int | None:
        """Return the first fire time strictly later than an instant, both as Unix microseconds, or `None`."""
        start, interval = self._start_us, self._interval_us
        found = start if instant_us < start else instant_us + interval - (instant_us - start) % interval
        return found if found <= self._end_us else None

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first fire time strictly later than `instant` (aware), in UTC; `None` beyond `end`."""
        found = self.next_after_us(_to_us(instant))
        return None if found is None else _EPOCH + timedelta(microseconds=found)

    def between(self, after: datetime, until: datetime | None) -> IntervalTimes:
        """Return the fire times `t` with `after < t <= until`, as a sequence that takes no memory."""
        first = self.next_after_us(_to_us(after))
        last = self._end_us if until is None else min(_to_us(until), self._end_us)
        if first is None:
            return IntervalTimes(range(0))
        return IntervalTimes(range(first, last + 1, self._interval_us))

    def spec(self) -> TriggerSpec:
        """Return the interval with its origin, so that a restart does not move the fire times."""
        fields: dict[str, str | int | float] = {"interval_us": self._interval_us, "start": self.start.isoformat()}
        if self.end is not None:
            fields["end"] = self.end.isoformat()
        return TriggerSpec(kind=TriggerKind.INTERVAL, fields=fields)

    def describe(self) -> str:
        """Return the rule in plain words, such as `every 30 seconds`."""
        rest, parts = self._interval_us, list[str]()
        for unit, size_us in _UNITS_US.items():
            count, rest = divmod(rest, size_us)
            if count:
                parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
        words = " ".join(parts)
        every = f"every {words.removeprefix('1 ') if len(parts) == 1 else words}"
        return every if self.end is None else f"{every} until {self.end.isoformat()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalTrigger):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<IntervalTrigger {self.describe()}, from {self.start.isoformat()}>"

    def _key(self) -> tuple[int, int, int]:
        return self._interval_us, self._start_us, self._end_us


class IntervalTimes(Sequence[datetime]):
    """Evenly spaced instants, computed on access."""

    __slots__ = ("_range",)

    def __init__(self, microseconds: range) -> None:
        self._range = microseconds

    @overload
    def __getitem__(self, index: int) -> datetime: ...

    @overload
    def __getitem__(self, index: slice) -> IntervalTimes: ...

    def __getitem__(self, index: int | slice) -> datetime | IntervalTimes:
        """Return one instant, or a part of the sequence."""
        if isinstance(index, slice):
            return IntervalTimes(self._range[index])
        return _from_us(self._range[index])

    def __iter__(self) -> Iterator[datetime]:
        """Iterate over all of them; much faster than by index."""
        if not self._range:
            return iter(())
        steps = repeat(timedelta(microseconds=self._range.step), len(self._range) - 1)
        return cast("Iterator[datetime]", accumulate(steps, initial=self[0]))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._range)


def _interval_us(parts: Mapping[str, object]) -> int:
    shown = ", ".join(f"{name}={value!r}" for name, value in parts.items() if value != 0) or "seconds=0"
    for name, value in parts.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"{name} is of type {type(value).__name__}, not a number"
            raise InvalidTriggerError(f"interval {shown}", problem, f"write for example {name}=5")
    try:
        interval = timedelta(**parts)  # pyright: ignore[reportArgumentType] - checked above
    except (ValueError, OverflowError):
        problem = "the interval is not a finite number of days below a thousand million"
        raise InvalidTriggerError(f"interval {shown}", problem, "write for example hours=1") from None
    interval_us = interval // _MICROSECOND
    if interval_us < _MILLISECOND_US:
        problem = "the interval must be longer than nothing, and is 1 millisecond at least"
        raise InvalidTriggerError(f"interval {shown}", problem, "write for example seconds=30")
    if interval_us % _MILLISECOND_US:
        problem = "the interval is not a whole number of milliseconds"
        remedy = f"write milliseconds={round(interval_us / _MILLISECOND_US)}"
        raise InvalidTriggerError(f"interval {shown}", problem, remedy)
    return interval_us


def _to_us(instant: datetime) -> int:
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _from_us(instant_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant_us)
