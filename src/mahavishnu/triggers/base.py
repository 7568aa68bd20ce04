"""What a trigger is: a pure rule that yields fire times. No clock is read here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mahavishnu.errors import InvalidTriggerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeGuard

    from mahavishnu.model.trigger import TriggerSpec

__all__ = ["BulkTrigger", "Trigger", "aware_utc", "due_times", "fire_times"]


class Trigger(Protocol):
    """A pure rule that yields fire times.

    Implementations are immutable, compare by definition, and may be used from several threads at once. Fire
    times are whole milliseconds, so that they survive being stored as such.
    """

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first fire time strictly later than `instant`.

        Args:
            instant: Aware, in any zone.

        Returns:
            An aware UTC datetime, or `None` where there is never another.
        """
        ...

    def spec(self) -> TriggerSpec:
        """Return the definition as plain values; `build` makes an equal trigger of it."""
        ...

    def describe(self) -> str:
        """Return the rule in plain words, such as `every 30 seconds`."""
        ...


@runtime_checkable
class BulkTrigger(Protocol):
    """A trigger that enumerates many fire times faster than one `next_after` each."""

    def between(self, after: datetime, until: datetime | None) -> Sequence[datetime] | Iterator[datetime]:
        """Return the fire times `t` with `after < t <= until`, ascending; `None`: without end."""
        ...


def fire_times(
    trigger: Trigger, after: datetime, until: datetime | None = None, limit: int | None = None
) -> Iterator[datetime]:
    """Yield fire times in ascending order.

    Args:
        trigger: Whose.
        after: Strictly later than this aware instant.
        until: Up to and including this aware instant; `None`: without end.
        limit: At most this many; `None`: without limit.
    """
    if isinstance(trigger, BulkTrigger):
        times = iter(trigger.between(after, until))
    else:
        times = _one_by_one(trigger, after, until)
    return islice(times, limit)


def due_times(trigger: Trigger, after: datetime, now: datetime) -> Sequence[datetime]:
    """Return the fire times `t` with `after < t <= now`, ascending.

    For an interval the answer is computed on access and takes no memory, however long the time was; for
    the others it is a list.

    Args:
        trigger: Whose.
        after: The last fire time that was decided upon, or when the schedule was made; aware.
        now: The current instant, aware.
    """
    times = trigger.between(after, now) if isinstance(trigger, BulkTrigger) else _one_by_one(trigger, after, now)
    return times if _is_sequence(times) else list(times)


def aware_utc(value: datetime | str, what: str) -> datetime:
    """Return `value` as an aware UTC datetime, on the whole millisecond at or before it.

    Args:
        value: An aware datetime, or ISO 8601 text with an offset or `Z`.
        what: Which argument this is, for the error.

    Raises:
        InvalidTriggerError: It is naive, or cannot be read.
    """
    instant = _parsed(value, what) if isinstance(value, str) else _checked(value, what)
    if instant.utcoffset() is None:
        example = f"{instant.isoformat(timespec='seconds')}+00:00"
        remedy = f"add its offset ('{example}'), or give a datetime with tzinfo=UTC or tzinfo=ZoneInfo('Europe/London')"
        raise InvalidTriggerError(str(value), f"{what} has no time zone, so it is no definite instant", remedy)
    try:
        instant = instant.astimezone(UTC)
    except OverflowError:
        raise InvalidTriggerError(str(value), f"{what} lies outside the years 1 to 9999 in UTC") from None
    return instant - timedelta(microseconds=instant.microsecond % 1000)


def _parsed(text: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        remedy = "write ISO 8601 with an offset, for example '2026-03-08T02:30:00+00:00'"
        raise InvalidTriggerError(text, f"{what} is not a date and time", remedy) from None


def _checked(value: object, what: str) -> datetime:
    if not isinstance(value, datetime):
        problem = f"{what} is of type {type(value).__name__}, not a date and time"
        raise InvalidTriggerError(str(value), problem, "give an aware datetime or ISO 8601 text with an offset")
    return value


def _one_by_one(trigger: Trigger, after: datetime, until: datetime | None) -> Iterator[datetime]:
    instant = trigger.next_after(after)
    while instant is not None and (until is None or instant <= until):
        yield instant
        instant = trigger.next_after(instant)


def _is_sequence(times: Sequence[datetime] | Iterator[datetime]) -> TypeGuard[Sequence[datetime]]:
    return hasattr(times, "__getitem__")
