"""Triggers as Prefect's schedules, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.schedules import Schedule as PrefectSchedule

from mahavishnu.engines.prefect.calendar import PlannedSchedule, machine_zone, plan_cron
from mahavishnu.engines.prefect.instants import anchor_of
from mahavishnu.engines.prefect.schedules import plan_schedule
from mahavishnu.errors import CapabilityError
from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger, build

if TYPE_CHECKING:
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

    from mahavishnu.engines.prefect.schedules import ScheduleLike
    from mahavishnu.model.trigger import TriggerSpec

__all__ = ["is_current", "plan_trigger", "trigger_of"]

_DATE = re.compile(r"\d{8}T\d{6}Z")
_DATE_FORM = "%Y%m%dT%H%M%SZ"


def plan_trigger(spec: TriggerSpec, now: datetime) -> PlannedSchedule | None:
    """Return what Prefect is given for a trigger; `None` where it has no further time.

    Raises:
        CapabilityError: It fires more often than once a minute, or has an end.
        InvalidTriggerError: It cannot be used.
    """
    trigger = build(spec)
    match trigger:
        case IntervalTrigger():
            if trigger.end is not None:
                able = ["apscheduler", "oneiric"]
                raise CapabilityError("engine 'prefect'", "an interval's end", "its intervals have none", able)
            return plan_schedule(IntervalSchedule(interval=trigger.interval, anchor_date=trigger.start), now)
        case DateTrigger():
            if trigger.next_after(now) is None:
                return None
            at = trigger.run_date + timedelta(microseconds=999_999)  # whole seconds, and never early
            return PlannedSchedule(schedule=RRuleSchedule(rrule=f"RDATE:{at:{_DATE_FORM}}", timezone="UTC"))
        case _:
            zone = spec.fields.get("timezone")
            return plan_cron(str(spec.fields["expression"]), str(zone) if zone else machine_zone(), now)


def is_current(existing: SCHEDULE_TYPES, plan: PlannedSchedule, now: datetime) -> bool:
    """Return whether a schedule on the server, made of the same trigger earlier, still does.

    Writing it again would delete the runs that Prefect has prepared, late ones too.
    """
    wanted = plan.schedule
    if isinstance(existing, IntervalSchedule) and isinstance(wanted, IntervalSchedule):
        return True
    if isinstance(existing, RRuleSchedule) and isinstance(wanted, RRuleSchedule):
        dates = _DATE.findall(existing.rrule)
        if not dates or not _DATE.search(wanted.rrule):
            return (existing.rrule, existing.timezone) == (wanted.rrule, wanted.timezone)
        if plan.exact_until is None:
            return True
        last = datetime.strptime(dates[-1], _DATE_FORM).replace(tzinfo=UTC)
        return last >= _last_date(wanted) - (plan.exact_until - now) / 2
    if isinstance(existing, CronSchedule) and isinstance(wanted, CronSchedule):
        return (existing.cron, existing.timezone, existing.day_or) == (wanted.cron, wanted.timezone, wanted.day_or)
    return False


def _last_date(rule: RRuleSchedule) -> datetime:
    return datetime.strptime(_DATE.findall(rule.rrule)[-1], _DATE_FORM).replace(tzinfo=UTC)


def trigger_of(schedule: ScheduleLike | None, now: datetime) -> TriggerSpec | None:
    """Return a schedule as given by the user as a trigger; `None` for none, or a rule that no trigger expresses.

    Args:
        schedule: One of Prefect's, a cron expression or a timedelta.
        now: From where a timedelta is counted.

    Raises:
        InvalidTriggerError: It cannot be used.
    """
    match schedule:
        case str():
            return CronTrigger(schedule).spec()
        case timedelta():
            return IntervalTrigger.every(schedule, anchor=now).spec()
        case PrefectSchedule():
            return trigger_of(DeploymentScheduleCreate.from_schedule(schedule).schedule, now)
        case CronSchedule():
            return CronTrigger(schedule.cron, timezone=schedule.timezone).spec()
        case IntervalSchedule():
            return IntervalTrigger.every(schedule.interval, anchor=anchor_of(schedule)).spec()
        case _:
            return None
