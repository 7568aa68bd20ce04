"""A cron expression in plain words, so that `*/30 * * * *` cannot be taken for seconds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mahavishnu.triggers.cron_fields import FieldName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.triggers.cron_fields import CronExpression, CronField

__all__ = ["in_words"]

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_FEW = 6


def in_words(expression: CronExpression) -> str:
    """Return when an expression fires, in English, such as `every 30 minutes, at :00 and :30`.

    Args:
        expression: As read, leniently or strictly.
    """
    if expression.is_reboot:
        return "when the machine starts"
    if expression.never_fires:
        return "never"
    days = [part for part in (_days(expression), _months(expression.field(FieldName.MONTH))) if part]
    times = _times(expression.field(FieldName.MINUTE), expression.field(FieldName.HOUR))
    if times.startswith("at ") and not _days(expression):
        times = f"every day {times}"
    return ", ".join([times, *days])


def _times(minute: CronField, hour: CronField) -> str:
    minutes, hours = minute.values, hour.values
    if minute.is_every:
        return "every minute" + ("" if hour.is_every else f" of {_hour_list(hours)}")
    if len(minutes) * len(hours) <= _FEW:
        return "at " + _listed([f"{h:02}:{m:02}" for h in hours for m in minutes])
    gap = _gap(minutes, 60)
    if len(minutes) > 1 and gap:
        listed = _minute_list(minutes)
        each = listed if listed.startswith("every") else f"every {gap} minutes, {listed}"
        return each if hour.is_every else f"{each}, in {_hour_list(hours)}"
    if hour.is_every:
        return f"every hour, {_minute_list(minutes)}"
    hour_gap = _gap(hours, 24)
    each = f"every {hour_gap} hours" if hour_gap else "every hour" if len(hours) > _FEW else ""
    return ", ".join(part for part in (each, _minute_list(minutes), f"in {_hour_list(hours)}") if part)


def _minute_list(minutes: Sequence[int]) -> str:
    runs = _runs(minutes)
    if len(runs) <= _FEW:
        return "at " + _listed([f":{a:02}" if a == b else f":{a:02} to :{b:02}" for a, b in runs])
    gaps = {b - a for a, b in pairwise(minutes)}
    rate = f"every {gaps.pop()} minutes" if len(gaps) == 1 else f"{len(minutes)} times"
    return f"{rate} from :{minutes[0]:02} to :{minutes[-1]:02}"


def _hour_list(hours: Sequence[int]) -> str:
    spans = [f"{a:02}" if a == b else f"{a:02} to {b:02}" for a, b in _runs(hours)]
    return ("hour " if len(hours) == 1 else "hours ") + _listed(spans)


def _days(expression: CronExpression) -> str:
    day, weekday = expression.field(FieldName.DAY), expression.field(FieldName.WEEKDAY)
    by_date, by_weekday = _dates(day.values), _weekdays(weekday.values)
    if expression.needs_both_days:
        if day.is_every or weekday.is_every:
            return "" if day.is_every and weekday.is_every else by_date if weekday.is_every else by_weekday
        return f"{by_weekday} whose date is {_ranges(day.values)}"
    if day.is_every or weekday.is_every:
        return ""
    return " and also ".join(part for part in (by_date if day.mask else "", by_weekday if weekday.mask else "") if part)


def _dates(days: Sequence[int]) -> str:
    return f"on day{'' if len(days) == 1 else 's'} {_ranges(days)} of the month"


def _weekdays(days: Sequence[int]) -> str:
    if tuple(days) == (1, 2, 3, 4, 5):
        return "on Monday to Friday"
    return "on " + _listed([f"{_WEEKDAYS[d]}s" for d in days])


def _months(month: CronField) -> str:
    if month.is_every:
        return ""
    spans = [_MONTHS[a - 1] if a == b else f"{_MONTHS[a - 1]} to {_MONTHS[b - 1]}" for a, b in _runs(month.values)]
    return "in " + _listed(spans)


def _ranges(values: Sequence[int]) -> str:
    return _listed([str(a) if a == b else f"{a} to {b}" for a, b in _runs(values)])


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return the values as spans of three or more consecutive ones, and single ones."""
    spans: list[tuple[int, int]] = []
    for value in values:
        if spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    pairs = [[(a, a), (b, b)] if b - a == 1 else [(a, b)] for a, b in spans]
    return [span for pair in pairs for span in pair]


def _gap(values: Sequence[int], size: int) -> int:
    """Return the distance between neighbours if it is the same all round the clock, else 0."""
    gaps = {(b - a) % size for a, b in zip(values, [*values[1:], values[0]], strict=True)}
    return gaps.pop() if len(gaps) == 1 and len(values) > 1 else 0


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
