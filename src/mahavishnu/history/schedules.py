"""What becomes of a stored schedule when it is put again, paused, resumed or advanced. Pure: every store asks here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mahavishnu.history.rows import definition_of
from mahavishnu.model.schedule import ScheduleState

if TYPE_CHECKING:
    from datetime import datetime

    from mahavishnu.history.store import Advance
    from mahavishnu.model.schedule import Schedule

__all__ = ["SCHEDULE_REMOVED", "first_stored", "last_decided", "paused_or_resumed", "replaced"]

SCHEDULE_REMOVED = "the schedule was removed while this occurrence was held"


def first_stored(schedule: Schedule, now: datetime) -> Schedule:
    """Return a schedule whose id is new, as it is to be stored."""
    return replace(_at_rest(schedule), created_at=now, updated_at=now, revision=1)


def replaced(old: Schedule, new: Schedule, now: datetime) -> Schedule:
    """Return what is to be stored where `new` takes the place of `old`; `old` itself if that changes nothing.

    With an equal trigger, progress and pause are kept. A schedule that moved to another engine takes its next
    fire time from `new`, since engines differ in whether the ledger keeps it.
    """
    kept = replace(
        new,
        created_at=old.created_at,
        updated_at=old.updated_at,
        revision=old.revision,
        external_id=old.external_id if new.external_id is None else new.external_id,
    )
    if new.trigger == old.trigger:
        kept = replace(
            kept,
            state=old.state if new.state is ScheduleState.ACTIVE else new.state,
            last_fire_at=old.last_fire_at,
            next_fire_at=old.next_fire_at if new.engine is old.engine else new.next_fire_at,
        )
    kept = _at_rest(kept)
    return old if _same(old, kept) else replace(kept, updated_at=now, revision=old.revision + 1)


def paused_or_resumed(schedule: Schedule, paused: bool, next_fire_at: datetime | None, now: datetime) -> Schedule:
    """Return the schedule paused or going on; itself if it is so already, or has ended."""
    wanted = ScheduleState.PAUSED if paused else ScheduleState.ACTIVE
    if schedule.state in {wanted, ScheduleState.ENDED}:
        return schedule
    changed = replace(schedule, state=wanted, next_fire_at=next_fire_at, updated_at=now, revision=schedule.revision + 1)
    return _at_rest(changed)


def last_decided(advance: Advance, skipped_until: datetime | None) -> datetime | None:
    """Return the last fire time this step decides upon; `None`: it decides upon none."""
    times = [*advance.dispatch, *(fire_at for fire_at, _ in advance.hold)]
    if skipped_until is not None:
        times.append(skipped_until)
    return max(times, default=None)


def _at_rest(schedule: Schedule) -> Schedule:
    """Return the schedule without a next fire time unless it is active."""
    return schedule if schedule.state is ScheduleState.ACTIVE else replace(schedule, next_fire_at=None)


def _same(old: Schedule, new: Schedule) -> bool:
    facts = [(it.task, it.engine, it.state, it.external_id, it.next_fire_at, it.last_fire_at) for it in (old, new)]
    return facts[0] == facts[1] and definition_of(old) == definition_of(new)
