"""Whether an occurrence runs that Prefect starts late: a pure decision, made first thing in the flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mahavishnu.model.policies import MisfireKind
from mahavishnu.model.schedule import ScheduleState
from mahavishnu.triggers import build, due_times, plan_due

if TYPE_CHECKING:
    from datetime import datetime

    from mahavishnu.model.schedule import Schedule

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one occurrence, as far as its lateness goes.

    Attributes:
        skip: Why it does not run; `None`: it runs.
        in_turn: Whether it is one of several missed ones that are made up, one after the other.
    """

    skip: str | None = None
    in_turn: bool = False


def judge(schedule: Schedule, fire_at: datetime, now: datetime) -> Verdict:
    """Apply a schedule's misfire policy to one occurrence that is about to run.

    Each occurrence is judged in a process of its own, and all come to the same plan: which ones run depends on the
    fire times from this one to the present only.

    Args:
        schedule: As the ledger has it now.
        fire_at: When it was due, aware.
        now: The current instant, aware.
    """
    if schedule.state is ScheduleState.PAUSED:
        return Verdict(skip="the schedule is paused")
    if fire_at >= now:
        return Verdict()
    policy = schedule.misfire
    due = [fire_at, *due_times(build(schedule.trigger), fire_at, now)]
    plan = plan_due(due, now, policy)
    if fire_at not in plan.run:
        return Verdict(skip=plan.skipped[0].reason)
    is_late = now - fire_at > policy.grace
    return Verdict(in_turn=is_late and policy.kind in {MisfireKind.ALL, MisfireKind.CAP})
