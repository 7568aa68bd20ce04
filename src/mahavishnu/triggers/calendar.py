"""Which local minutes a cron expression matches, on bit masks, and in which of them a stretch really fires."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from mahavishnu.triggers.cron_fields import FieldName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mahavishnu.triggers.cron_fields import CronExpression
    from mahavishnu.triggers.zones import Stretch

__all__ = ["CronCalendar", "calendar_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAY_MINUTES = 1440
_EVERY_SEVENTH = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28


class CronCalendar:
    """An expression reduced to masks; immutable, small, and shared by the triggers of one expression.

    Local minutes and local days are counted from 1970-01-01 on the wall clock.
    """

    __slots__ = ("_both_days", "_days", "_hours", "_is_wildcard", "_minutes", "_months", "_weekdays")

    def __init__(self, expression: CronExpression) -> None:
        masks = {field.name: field.mask for field in expression.fields}
        self._minutes = masks[FieldName.MINUTE]
        self._hours = masks[FieldName.HOUR]
        self._days = masks[FieldName.DAY]
        self._months = masks[FieldName.MONTH]
        self._weekdays = masks[FieldName.WEEKDAY]
        self._both_days = expression.needs_both_days
        self._is_wildcard = expression.is_wildcard

    def next_in(self, stretch: Stretch, minute: int) -> int | None:
        """Return the first local minute at or after `minute` at which the stretch fires, or `None`."""
        if minute <= stretch.first:
            if self._catches_up(stretch):
                return stretch.first
            minute = stretch.first
        if minute < stretch.fixed_from and not self._is_wildcard:
            minute = stretch.fixed_from
        return self._next_match(minute, stretch.last)

    def days_in(self, stretch: Stretch, minute: int, last: int) -> Iterator[list[datetime]]:
        """Yield the UTC instants at which the stretch fires, from one local minute to another, inclusive.

        They come in lists of at most a day, none of them empty.
        """
        if minute <= stretch.first:
            minute = stretch.first
            if self._catches_up(stretch) and minute <= last:
                yield [_instant(minute, stretch)]
                minute += 1
        if not self._is_wildcard:
            minute = max(minute, stretch.fixed_from)
        last = min(last, stretch.last)
        times = _times_of_day(self._minutes, self._hours)
        first_day, first_time = divmod(minute, _DAY_MINUTES)
        last_day, last_time = divmod(last, _DAY_MINUTES)
        for day in self._matching_days(first_day, last_day):
            low = bisect_left(times, timedelta(minutes=first_time)) if day == first_day else 0
            high = bisect_right(times, timedelta(minutes=last_time)) if day == last_day else len(times)
            midnight = _instant(day * _DAY_MINUTES, stretch)
            if low < high:
                yield list(map(midnight.__add__, times[low:high]))

    def _catches_up(self, stretch: Stretch) -> bool:
        if stretch.skipped is None or (self._is_wildcard and not stretch.wildcards_caught_up):
            return False
        return self._next_match(*stretch.skipped) is not None

    def _next_match(self, minute: int, last: int) -> int | None:
        """Return the first matching local minute in `minute..last`, regardless of clock changes."""
        if minute > last:
            return None
        day, time = divmod(minute, _DAY_MINUTES)
        if self._matches_day(day):
            later = self._next_time(time)
            if later is not None:
                found = day * _DAY_MINUTES + later
                return found if found <= last else None
        start = self._next_time(0)
        if start is None:
            return None
        for following in self._matching_days(day + 1, last // _DAY_MINUTES):
            found = following * _DAY_MINUTES + start
            return found if found <= last else None
        return None

    def _next_time(self, time: int) -> int | None:
        """Return the first matching minute of the day at or after `time`."""
        hour, minute = divmod(time, 60)
        if self._hours >> hour & 1:
            rest = self._minutes >> minute
            if rest:
                return time + _lowest_bit(rest)
        hours = self._hours >> (hour + 1)
        if not hours or not self._minutes:
            return None
        return (hour + 1 + _lowest_bit(hours)) * 60 + _lowest_bit(self._minutes)

    def _matches_day(self, day: int) -> bool:
        ordinal = day + _EPOCH_ORDINAL
        local = date.fromordinal(ordinal)
        if not self._months >> local.month & 1:
            return False
        by_date = self._days >> local.day & 1
        by_weekday = self._weekdays >> ordinal % 7 & 1
        return bool(by_date & by_weekday if self._both_days else by_date | by_weekday)

    def _matching_days(self, first: int, last: int) -> Iterator[int]:
        if first > last:
            return
        local = date.fromordinal(first + _EPOCH_ORDINAL)
        year, month, day = local.year, local.month, local.day
        before_month = first - day
        while before_month < last:
            length = _month_length(year, month)
            if self._months >> month & 1:
                mask = self._month_mask(before_month, length) >> day << day
                while mask:
                    bit = mask & -mask
                    found = before_month + bit.bit_length() - 1
                    if found > last:
                        return
                    yield found
                    mask ^= bit
            before_month += length
            year, month, day = (year, month + 1, 0) if month < 12 else (year + 1, 1, 0)

    def _month_mask(self, before_month: int, length: int) -> int:
        """Return the matching days of a month as bits 1 to 31; `before_month` is the day before the first."""
        weekday = (before_month + 1 + _EPOCH_ORDINAL) % 7
        turned = (self._weekdays >> weekday | self._weekdays << (7 - weekday)) & 0x7F
        by_weekday = (turned * _EVERY_SEVENTH) << 1
        mask = self._days & by_weekday if self._both_days else self._days | by_weekday
        return mask & ((2 << length) - 2)


@lru_cache(maxsize=1024)
def calendar_of(expression: CronExpression) -> CronCalendar:
    """Return the calendar of an expression that is a time; equal expressions share one."""
    return CronCalendar(expression)


@lru_cache(maxsize=128)
def _times_of_day(minutes: int, hours: int) -> tuple[timedelta, ...]:
    return tuple(
        timedelta(hours=hour, minutes=minute)
        for hour in range(24)
        if hours >> hour & 1
        for minute in range(60)
        if minutes >> minute & 1
    )


def _month_length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _instant(local_minute: int, stretch: Stretch) -> datetime:
    return _EPOCH + timedelta(seconds=local_minute * 60 - stretch.offset)


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
