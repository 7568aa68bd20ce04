"""Local clocks as stretches of constant UTC offset, and what cron does where two stretches meet.

Cron sees a clock that counts local minutes. It remembers up to which local minute the fixed jobs have run;
where the clock jumps, the distance between the two decides what is made up, held back, or taken as it is.
A stretch carries that decision for its own start, so that finding fire times needs no history.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import tzlocal

from mahavishnu.errors import InvalidTriggerError, nearest

__all__ = ["MAX_YEAR", "MIN_YEAR", "LocalClock", "Stretch", "local_clock", "machine_clock", "zone_name"]

MIN_YEAR = 2
MAX_YEAR = 9998
"""The years for which every local time in every zone is a valid datetime."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400
_LARGE_MINUTES = 180
_SMALL_MINUTES = 5
# A hold lasts three hours at most, so two days before a year decide how it begins.
_RUN_UP = 2 * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A span of constant UTC offset, within one UTC year.

    Local minutes are whole minutes since 1970-01-01 00:00 on the wall clock.

    Attributes:
        start: First second, Unix time.
        end: The second after the last one.
        offset: Seconds east of UTC.
        first: The first local minute that begins in the stretch.
        last: The last one; less than `first` where none does.
        fixed_from: The first local minute for which fixed jobs run: those before it have had their turn.
        skipped: The local minutes before `first` that the clock jumped over and whose fixed jobs are run at
            `first`, as an inclusive span; `None` where there are none.
        wildcards_caught_up: Whether other jobs of the skipped minutes run too, as after a tiny jump.
    """

    start: int
    end: int
    offset: int
    first: int
    last: int
    fixed_from: int
    skipped: tuple[int, int] | None = None
    wildcards_caught_up: bool = False


class LocalClock:
    """The stretches of one zone, found year by year as they are asked for. Safe for use by several threads."""

    __slots__ = ("_lock", "_years", "_zone")

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._years: dict[int, tuple[Stretch, ...]] = {}
        self._lock = Lock()

    def stretches(self, year: int) -> tuple[Stretch, ...]:
        """Return the stretches of one UTC year, which cover it without gaps; none outside `MIN_YEAR..MAX_YEAR`."""
        known = self._years.get(year)
        if known is not None:
            return known
        if not MIN_YEAR <= year <= MAX_YEAR:
            return ()
        with self._lock:
            return self._years.setdefault(year, self._compute(year))

    def at(self, second: int) -> Stretch | None:
        """Return the stretch that contains a Unix second; `None` outside `MIN_YEAR..MAX_YEAR`."""
        year = (_EPOCH + timedelta(seconds=second)).year
        return next((s for s in self.stretches(year) if s.start <= second < s.end), None)

    def after(self, stretch: Stretch) -> Stretch | None:
        """Return the stretch that follows; `None` at the end of `MAX_YEAR`."""
        return self.at(stretch.end)

    def _compute(self, year: int) -> tuple[Stretch, ...]:
        start, end = _year_start(year), _year_start(year + 1)
        found: list[Stretch] = []
        virtual: int | None = None
        for span in self._spans(start - _RUN_UP, start, end):
            stretch, virtual = _meet(span, virtual)
            if stretch.start >= start:
                found.append(stretch)
        return tuple(found)

    def _spans(self, run_up: int, start: int, end: int) -> list[tuple[int, int, int]]:
        """Return `(start, end, offset)` of constant offset, split at `start` too."""
        bounds = [run_up, *self._changes(run_up, start), start, *self._changes(start, end), end]
        return [(a, b, self._offset(a)) for a, b in pairwise(bounds) if a < b]

    def _changes(self, start: int, end: int) -> list[int]:
        """Return the seconds in `(start, end)` from which another offset holds, looking at every day.

        Days are close enough: in no zone on record do two changes follow each other within three of them.
        """
        changes: list[int] = []
        low = start
        while low < end:
            high = min(low + _DAY, end)
            if self._offset(high) == self._offset(low):
                low = high
            else:
                low = self._first_change(low, high)
                changes.append(low)
        return [c for c in changes if c < end]

    def _first_change(self, low: int, high: int) -> int:
        before = self._offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, second: int) -> int:
        offset = (_EPOCH + timedelta(seconds=second)).astimezone(self._zone).utcoffset()
        assert offset is not None  # a zone answers for every aware datetime
        return offset.days * _DAY + offset.seconds


def _meet(span: tuple[int, int, int], virtual: int | None) -> tuple[Stretch, int]:
    """Return the stretch of a span, and the local minute up to which fixed jobs have run at its end.

    `virtual` is that minute at its start. The limits are those of cron's main loop: a jump of up to five
    minutes is a late awakening, up to three hours a clock change, and anything more a correction.
    """
    start, end, offset = span
    first = -(-(start + offset) // 60)
    last = -(-(end + offset) // 60) - 1
    if last < first:
        stretch = Stretch(start=start, end=end, offset=offset, first=first, last=last, fixed_from=first)
        return stretch, first - 1 if virtual is None else virtual
    jump = 1 if virtual is None else first - virtual
    held = virtual is not None and -_LARGE_MINUTES < jump <= 0
    caught_up = virtual is not None and 1 < jump <= _LARGE_MINUTES
    stretch = Stretch(
        start=start,
        end=end,
        offset=offset,
        first=first,
        last=last,
        fixed_from=virtual + 1 if held and virtual is not None else first,
        skipped=(virtual + 1, first - 1) if caught_up and virtual is not None else None,
        wildcards_caught_up=caught_up and jump <= _SMALL_MINUTES,
    )
    return stretch, max(last, virtual) if held and virtual is not None else last


def _year_start(year: int) -> int:
    return (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH).days * _DAY


@lru_cache(maxsize=64)
def local_clock(name: str) -> LocalClock:
    """Return the clock of a named zone; every trigger of one zone shares it.

    Raises:
        InvalidTriggerError: There is no such zone.
    """
    try:
        return LocalClock(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = available_timezones()
    remedy = (
        f"write an IANA name such as 'Europe/London'{nearest(name, known) if _is_close(name, known) else ''}"
        if known
        else "this machine has no time zone data: install the tzdata package"
    )
    raise InvalidTriggerError(name, "it is no time zone", remedy)


def _is_close(name: str, known: set[str]) -> bool:
    return nearest(name, known).startswith("; did")


@lru_cache(maxsize=1)
def machine_clock() -> LocalClock:
    """Return the clock of this machine's zone, found at the first call."""
    return LocalClock(tzlocal.get_localzone())


def zone_name(timezone: str | tzinfo) -> str:
    """Return the name under which a zone can be stored.

    Raises:
        InvalidTriggerError: It is not a zone with an IANA name.
    """
    if isinstance(timezone, str):
        return timezone
    if timezone is UTC:
        return "UTC"
    if isinstance(timezone, ZoneInfo) and timezone.key:
        return timezone.key
    remedy = "write an IANA name such as timezone='Europe/London'; for a fixed offset of +2 hours, 'Etc/GMT-2'"
    raise InvalidTriggerError(str(timezone), "a time zone must have a name to be stored", remedy)
