"""What may be given as a deployment's schedule, and what Prefect gets for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, TypeAlias

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, NoSchedule, RRuleSchedule
from prefect.schedules import Schedule

from mahavishnu.engines.prefect.calendar import PlannedSchedule, machine_zone, plan_cron
from mahavishnu.errors import CapabilityError, InvalidTriggerError
from mahavishnu.triggers.cron_fields import CronExpression

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CronSchedule", "ScheduleLike", "plan_schedule"]

ScheduleLike: TypeAlias = SCHEDULE_TYPES | Schedule | str | timedelta
"""Prefect's schedules of either kind, a cron expression, or the time between two runs."""

_SHORTEST = timedelta(minutes=1)
_DATES_LOOKED_AT = 100
_CRON_FIELDS = 5


def plan_schedule(schedule: ScheduleLike | None, now: datetime) -> PlannedSchedule | None:
    """Return what Prefect is given for a schedule; `None` for none.

    A zone that is not said is this machine's, as in cron, not UTC.

    Args:
        schedule: As given by the user.
        now: The current instant, aware.

    Raises:
        CapabilityError: It fires more often than once a minute.
        InvalidTriggerError: It cannot be used.
    """
    match schedule:
        case None | NoSchedule():
            return None
        case str():
            return _plan_cron(schedule, None, now)
        case timedelta():
            return _plan_interval(IntervalSchedule(interval=schedule, anchor_date=now))
        case Schedule():
            return plan_schedule(DeploymentScheduleCreate.from_schedule(schedule).schedule, now)
        case CronSchedule():
            _refuse_day_or(schedule)
            return _plan_cron(schedule.cron, schedule.timezone, now)
        case IntervalSchedule():
            return _plan_interval(schedule)
        case RRuleSchedule():
            return _plan_rrule(schedule)
        case _:
            raise InvalidTriggerError(
                repr(schedule), f"a {type(schedule).__name__} is no schedule", "give a CronSchedule or a timedelta"
            )


def _plan_cron(expression: str, timezone: str | None, now: datetime) -> PlannedSchedule:
    if len(expression.split()) > _CRON_FIELDS:
        raise _too_often(f"the cron expression {expression!r}, which has a field for seconds")
    return plan_cron(expression, timezone or machine_zone(), now)


def _refuse_day_or(schedule: CronSchedule) -> None:
    if not schedule.day_or and not CronExpression.parse(schedule.cron).needs_both_days:
        raise InvalidTriggerError(
            schedule.cron,
            "day_or=False is not cron's rule: where neither day field starts with *, either may match",
            "leave day_or out, and look at the weekday in the flow",
        )


def _plan_interval(schedule: IntervalSchedule) -> PlannedSchedule:
    if schedule.interval < _SHORTEST:
        raise _too_often(f"an interval of {schedule.interval.total_seconds():g} s")
    return PlannedSchedule(schedule=schedule)


def _plan_rrule(schedule: RRuleSchedule) -> PlannedSchedule:
    if "timezone" not in schedule.model_fields_set:
        schedule = RRuleSchedule(rrule=schedule.rrule, timezone=machine_zone())
    # From the rule's own start: reaching the present takes minutes where a rule is this dense.
    dates: Iterable[datetime] = islice(schedule.to_rrule(), _DATES_LOOKED_AT)
    if any(later - earlier < _SHORTEST for earlier, later in pairwise(dates)):
        raise _too_often(f"the rule {schedule.rrule!r}")
    return PlannedSchedule(schedule=schedule)


def _too_often(what: str) -> CapabilityError:
    return CapabilityError(
        "engine 'prefect'", what, "it starts a run at most once a minute", ["schedule_internal_task"]
    )
