"""Cron on Prefect: its own cron where its dates equal ours, our dates one by one where they do not.

Prefect reads cron with another library. The fields agree once they are spelled out. The clock changes do not:
what Prefect does with a local time that is skipped or comes twice depends even on its version, and the server
decides. So nothing is left to it there: an expression goes to Prefect as cron only if none of its times falls
into an hour that a change skips or repeats within the horizon, or if it can be said in UTC. Nor are days of the
month with which its search goes astray in February.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import tzlocal
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule

from mahavishnu.errors import ConfigurationError
from mahavishnu.triggers.cron import CronTrigger
from mahavishnu.triggers.cron_fields import CronField, FieldName
from mahavishnu.triggers.zones import local_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.schemas.schedules import SCHEDULE_TYPES

    from mahavishnu.triggers.cron_fields import CronExpression
    from mahavishnu.triggers.zones import Stretch

__all__ = ["HORIZON", "PlannedSchedule", "machine_zone", "plan_cron"]

HORIZON = timedelta(days=400)
"""How far ahead Prefect's dates are made to equal ours: past every yearly clock change."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Prefect takes a rule of 6500 characters; a date and its comma have 17.
_MOST_DATES = 370
_FEBRUARY = 28
_LONGEST_MONTH = 31
# The spellings that both libraries read alike; anything else is written out as a list of values.
_PLAIN = re.compile(r"\*/\d+|\d+(,\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSchedule:
    """A schedule as it goes to Prefect.

    Attributes:
        schedule: What Prefect is given.
        exact_until: Until when its dates are ours; apply the deployment again before. `None`: for good.
        note: What is worth telling the user about it; usually empty.
    """

    schedule: SCHEDULE_TYPES
    exact_until: datetime | None = None
    note: str = ""


def plan_cron(expression: str, timezone: str, now: datetime) -> PlannedSchedule:
    """Return a schedule whose dates from `now` on are those of Debian's cron.

    Args:
        expression: Five fields or an `@word`, held to the strict reading.
        timezone: An IANA name.
        now: The current instant, aware.

    Raises:
        InvalidTriggerError: The expression or the zone cannot be used.
    """
    trigger = CronTrigger(expression, timezone=timezone)
    until = now + HORIZON
    stretches = list(_stretches(timezone, now, until))
    if _overruns_february(trigger.expression):
        return _as_dates(trigger, now, until, "Prefect skips the first days of March after such days of the month")
    if not _fires_in_change(trigger.expression, stretches):
        return PlannedSchedule(schedule=_as_cron(trigger.expression, timezone), exact_until=until)
    minutes = _minutes_in_utc(trigger.expression, stretches)
    if minutes is not None:
        schedule = CronSchedule(cron=f"{minutes} * * * *", timezone="UTC")
        return PlannedSchedule(schedule=schedule, exact_until=until)
    return _as_dates(trigger, now, until, "some of its times fall into a clock change")


def machine_zone() -> str:
    """Return the IANA name of this machine's time zone.

    Raises:
        ConfigurationError: It has none.
    """
    name = getattr(tzlocal.get_localzone(), "key", None)
    if not isinstance(name, str):
        raise ConfigurationError("this machine's time zone has no IANA name; set TZ, for example TZ=Europe/London")
    return name


def _stretches(timezone: str, now: datetime, until: datetime) -> Iterator[Stretch]:
    """Yield the spans of constant UTC offset from `now` to `until`."""
    clock = local_clock(timezone)
    stretch = clock.at(_second(now))
    while stretch is not None and stretch.start <= _second(until):
        yield stretch
        stretch = clock.after(stretch)


def _overruns_february(expression: CronExpression) -> bool:
    """Whether its days of the month hold a late one and an early one.

    From the end of February Prefect goes ahead to the 29th, 30th or 31st, which is in March, and on from there.
    """
    day = expression.field(FieldName.DAY)
    return not day.is_every and day.values[-1] > _FEBRUARY and day.values[0] <= _LONGEST_MONTH - _FEBRUARY


def _fires_in_change(expression: CronExpression, stretches: list[Stretch]) -> bool:
    """Whether a local time of the expression is skipped or comes twice at one of the changes."""
    on_the_wall = CronTrigger(expression, timezone="UTC")
    for before, after in pairwise(stretches):
        offsets = sorted((before.offset, after.offset))
        first, end = (_EPOCH + timedelta(seconds=after.start + offset) for offset in offsets)
        fire = on_the_wall.next_after(first - timedelta(seconds=1))
        if fire is not None and fire < end:
            return True
    return False


def _as_cron(expression: CronExpression, timezone: str) -> CronSchedule:
    fields = {field.name: _spelled(field) for field in expression.fields}
    days = [expression.field(FieldName.DAY), expression.field(FieldName.WEEKDAY)]
    restricted = not any(field.is_every for field in days)
    if not restricted and not expression.needs_both_days:
        # Either may match and one always does. Prefect would take its `*` for "look at the other only".
        fields |= {field.name: "*" for field in days}
    both = restricted and expression.needs_both_days
    return CronSchedule(cron=" ".join(fields.values()), timezone=timezone, day_or=not both)


def _spelled(field: CronField) -> str:
    if field.is_every:
        return "*"
    # Prefect's weekdays end at 6, so that steps and 7 come out differently.
    if field.name is not FieldName.WEEKDAY and _PLAIN.fullmatch(field.text):
        return field.text
    return ",".join(str(value) for value in field.values)


def _minutes_in_utc(expression: CronExpression, stretches: list[Stretch]) -> str | None:
    """Return the minute field, in UTC, of a job that fires alike in every hour of every day; else `None`."""
    minute, *others = expression.fields
    into_hour = {stretch.offset // 60 % 60 for stretch in stretches if stretch.offset % 60 == 0}
    if not expression.is_wildcard or not all(field.is_every for field in others):
        return None
    if len(into_hour) != 1 or any(stretch.offset % 60 for stretch in stretches):
        return None
    shift = into_hour.pop()
    return "*" if minute.is_every else ",".join(str(v) for v in sorted((v - shift) % 60 for v in minute.values))


def _as_dates(trigger: CronTrigger, now: datetime, until: datetime, why: str) -> PlannedSchedule:
    # At least one, however far: 29 February may lie beyond the horizon, and a rule of no dates is refused.
    dates = list(islice(trigger.between(now, until), _MOST_DATES)) or list(islice(trigger.between(now, None), 1))
    rule = "RDATE:" + ",".join(date.strftime("%Y%m%dT%H%M%SZ") for date in dates)
    return PlannedSchedule(
        schedule=RRuleSchedule(rrule=rule, timezone="UTC"),
        exact_until=dates[-1] if len(dates) == _MOST_DATES else until,
        note=f"Prefect is given the dates one by one: {why}, where it differs from cron",
    )


def _second(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(seconds=1)
