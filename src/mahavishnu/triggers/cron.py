"""The cron trigger: Debian's cron on every engine, clock changes included.

A job whose minute and hour both start with something other than `*` is *fixed*: times skipped by a clock
change run once at the first minute after it, and times that come again are not repeated. Any other job
follows the wall clock. A change by three hours or more is a correction, and nothing is made up or held back.
"""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Self

from mahavishnu.errors import InvalidTriggerError, nearest
from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.triggers.calendar import calendar_of
from mahavishnu.triggers.cron_fields import CronExpression
from mahavishnu.triggers.cron_strict import strict_expression
from mahavishnu.triggers.cron_words import in_words
from mahavishnu.triggers.zones import local_clock, machine_clock, zone_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from mahavishnu.triggers.zones import LocalClock, Stretch

__all__ = ["GIVE_UP_YEARS", "CronTrigger"]

GIVE_UP_YEARS = 40
"""A search for the next fire time looks this far; beyond it a job never fires."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELD_ORDER = ("month", "day", "day_of_week", "hour", "minute")
_MINIMUM = {"month": "1", "day": "1", "day_of_week": "*", "hour": "0", "minute": "0"}
_NOT_IN_CRON = {
    "second": "cron has no seconds; use an interval: trigger_type='interval', seconds=…",
    "week": "cron has no week of the year; use day= and month=, or an interval of weeks",
    "year": "cron has no year; use a date trigger for a single time, or check the year in the task",
}


class CronTrigger:
    """Fires at the times of a cron expression in a zone, by the rules of Debian's cron.

    Args:
        expression: Five fields or an `@word`, held to the strict reading: what cron merely tolerates (dropped
            tails, reversed ranges, times that never come) is refused. Or a `CronExpression`, taken as it is.
        timezone: An IANA name or a `ZoneInfo`; `None` (default): this machine's zone, looked up at first use.

    Raises:
        InvalidTriggerError: The expression or the zone cannot be used; it says what to write instead.
    """

    __slots__ = ("_calendar", "_clock", "_expression", "_never", "_stretch", "_timezone")

    def __init__(self, expression: str | CronExpression, timezone: str | tzinfo | None = None) -> None:
        read = expression if isinstance(expression, CronExpression) else strict_expression(expression)
        if read.is_reboot:
            problem = "it names the start of a machine, not a time"
            raise InvalidTriggerError(read.text, problem, "run the task when the app starts", code="reboot")
        self._expression = read.text
        self._calendar = calendar_of(read)
        self._never = read.never_fires
        self._timezone = None if timezone is None else zone_name(timezone)
        self._clock: LocalClock | None = None if self._timezone is None else local_clock(self._timezone)
        self._stretch: Stretch | None = None

    @classmethod
    def from_fields(cls, *, timezone: str | tzinfo | None = None, **fields: str | int) -> Self:
        """Build a trigger from `minute`, `hour`, `day`, `month` and `day_of_week`.

        As in APScheduler's `CronTrigger` (the keywords and their defaults are documented there), fields
        before the last one given, in the order month, day, day_of_week, hour, minute, default to `*`, and
        those after it to their minimum (day_of_week: `*`). So `hour="*"` is minute 0 of every hour, and
        `day=1` is midnight on the first. The values mean what they mean in cron: weekday 0 is Sunday, and day
        and day_of_week together fire when either matches.

        Args:
            timezone: As for the constructor.
            fields: Values as in a cron expression, text or whole numbers.

        Raises:
            InvalidTriggerError: No field is given, one is unknown to cron, or a value cannot be used.
        """
        _check_names(fields)
        given = [name for name in _FIELD_ORDER if name in fields]
        last = _FIELD_ORDER.index(given[-1])
        defaults = {name: "*" if i < last else _MINIMUM[name] for i, name in enumerate(_FIELD_ORDER)}
        values = {name: _field_text(name, fields[name]) if name in fields else defaults[name] for name in _FIELD_ORDER}
        order = ("minute", "hour", "day", "month", "day_of_week")
        return cls(" ".join(values[name] for name in order), timezone=timezone)

    @property
    def expression(self) -> CronExpression:
        """The expression, read."""
        return CronExpression.parse(self._expression)

    @property
    def timezone(self) -> str | None:
        """The zone's IANA name; `None`: this machine's."""
        return self._timezone

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first fire time strictly later than `instant`.

        Args:
            instant: Aware, in any zone; also one inside a repeated hour.

        Returns:
            An aware UTC datetime, or `None` where there is none within 40 years.
        """
        since = instant - _EPOCH
        second = since.days * 86_400 + since.seconds
        stretch = self._stretch
        if stretch is None or not stretch.start <= second < stretch.end:
            stretch = self._stretch = self._local_clock().at(second)
        if stretch is None or self._never:
            return None
        minute = self._calendar.next_in(stretch, (second + stretch.offset) // 60 + 1)
        if minute is None:
            return self._next_beyond(stretch, instant)
        return _EPOCH + timedelta(seconds=minute * 60 - stretch.offset)

    def between(self, after: datetime, until: datetime | None) -> Iterator[datetime]:
        """Return the fire times `t` with `after < t <= until`, ascending; `None`: without end.

        Much faster than one `next_after` each.
        """
        return chain.from_iterable(self._days_between(after, until))

    def _days_between(self, after: datetime, until: datetime | None) -> Iterator[list[datetime]]:
        second = (after - _EPOCH) // timedelta(seconds=1)
        end = None if until is None else (until - _EPOCH) // timedelta(seconds=1)
        stretch = None if self._never else self._local_clock().at(second)
        give_up, latest = _years_later(after), None
        while stretch is not None and (end is None or stretch.start <= end) and stretch.start <= give_up:
            first = (second + stretch.offset) // 60 + 1
            last = stretch.last if end is None else (end + stretch.offset) // 60
            for times in self._calendar.days_in(stretch, first, last):
                yield times
                latest = times[-1]
            give_up = give_up if latest is None else _years_later(latest)
            stretch = self._local_clock().after(stretch)

    def spec(self) -> TriggerSpec:
        """Return the expression and, where one was given, the zone."""
        fields = {"expression": self._expression}
        if self._timezone is not None:
            fields["timezone"] = self._timezone
        return TriggerSpec(kind=TriggerKind.CRON, fields=fields)

    def describe(self) -> str:
        """Return the rule in plain words, such as `every 30 minutes, at :00 and :30`."""
        words = in_words(self.expression)
        return words if self._timezone is None else f"{words} ({self._timezone})"

    def _next_beyond(self, stretch: Stretch, instant: datetime) -> datetime | None:
        give_up = _years_later(instant)
        following = self._local_clock().after(stretch)
        while following is not None and following.start <= give_up:
            minute = self._calendar.next_in(following, following.first)
            if minute is not None:
                second = minute * 60 - following.offset
                return _EPOCH + timedelta(seconds=second) if second <= give_up else None
            following = self._local_clock().after(following)
        return None

    def _local_clock(self) -> LocalClock:
        if self._clock is None:
            self._clock = machine_clock()
        return self._clock

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronTrigger):
            return NotImplemented
        return (self._expression, self._timezone) == (other._expression, other._timezone)

    def __hash__(self) -> int:
        return hash((self._expression, self._timezone))

    def __repr__(self) -> str:
        zone = "" if self._timezone is None else f", timezone={self._timezone!r}"
        return f"CronTrigger({self._expression!r}{zone})"


def _years_later(instant: datetime) -> int:
    """Return the Unix second 40 years after an instant, 28 February standing in for the 29th."""
    utc = instant.astimezone(UTC)
    year = min(utc.year + GIVE_UP_YEARS, MAXYEAR)
    try:
        later = utc.replace(year=year)
    except ValueError:
        later = utc.replace(year=year, day=28)
    return (later - _EPOCH) // timedelta(seconds=1)


def _check_names(fields: dict[str, str | int]) -> None:
    shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    if not fields:
        problem = "no cron field is given"
        raise InvalidTriggerError("cron", problem, "give at least one of minute, hour, day, month, day_of_week")
    for name in fields:
        if name in _NOT_IN_CRON:
            raise InvalidTriggerError(shown, f"{name}= is given", _NOT_IN_CRON[name])
        if name not in _FIELD_ORDER:
            raise InvalidTriggerError(shown, f"cron has no field {name!r}{nearest(name, _FIELD_ORDER)}")


def _field_text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        problem = f"{name} is of type {type(value).__name__}"
        raise InvalidTriggerError(f"{name}={value!r}", problem, "give text such as '*/5' or a whole number")
    text = str(value).strip()
    if not text or len(text.split()) > 1:
        raise InvalidTriggerError(f"{name}={value!r}", "a field is one word", "separate values by commas, no blanks")
    return text
