"""Operations on the SQLite ledger's schedules and occurrences.

Each runs in the file's reader thread, or in its writer thread inside a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mahavishnu.errors import ScheduleExistsError, ScheduleNotFoundError
from mahavishnu.history.rows import from_us, occurrence_from_row, schedule_from_row, schedule_row, to_us
from mahavishnu.history.schedules import SCHEDULE_REMOVED, first_stored, last_decided, paused_or_resumed, replaced
from mahavishnu.history.statements import sql
from mahavishnu.model.instants import from_ms
from mahavishnu.model.schedule import Occurrence, OnConflict
from mahavishnu.model.states import OccurrenceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from mahavishnu.history.store import Advance, Skip
    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.schedule import Schedule
    from mahavishnu.storage.sqlite import Connection

__all__ = [
    "Claim",
    "abandoned_exist",
    "advance",
    "claim_abandoned",
    "claimed_counts",
    "delete_schedule",
    "due_schedules",
    "get_schedule",
    "held_occurrences",
    "list_occurrences",
    "list_schedules",
    "mark_dispatched",
    "mark_ended",
    "next_due",
    "put_schedule",
    "release_held",
    "schedule_revisions",
    "set_external_id",
    "set_paused",
    "skip_claimed",
    "unfinished_jobs",
    "write_skips",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who takes occurrences, when, and for how long."""

    owner: str
    now: datetime
    lease: timedelta

    def parameters(self) -> dict[str, Any]:
        """Return it as parameters of a statement."""
        return {"owner": self.owner, "now_us": to_us(self.now), "lease_until_us": to_us(self.now + self.lease)}


# --- schedules ---


def put_schedule(connection: Connection, schedule: Schedule, on_conflict: OnConflict, now: datetime) -> Schedule:
    """Store a schedule, or what comes of it and the one that is there; returns what is stored."""
    row = connection.execute(sql("get_schedule"), {"id": schedule.id}).fetchone()
    if row is None:
        return _stored(connection, first_stored(schedule, now))
    if on_conflict is OnConflict.ERROR:
        raise ScheduleExistsError(schedule.id)
    old = schedule_from_row(row)
    if on_conflict is OnConflict.KEEP:
        return old
    new = replaced(old, schedule, now)
    return old if new is old else _stored(connection, new)


def _stored(connection: Connection, schedule: Schedule) -> Schedule:
    row = schedule_row(schedule)
    connection.execute(sql("put_schedule"), row)
    return schedule_from_row(tuple(row.values()))


def get_schedule(connection: Connection, schedule_id: str) -> Schedule:
    """Return one schedule."""
    row = connection.execute(sql("get_schedule"), {"id": schedule_id}).fetchone()
    if row is None:  # asked for every new schedule: naming the nearest id is left to whoever shows the error
        raise ScheduleNotFoundError(schedule_id)
    return schedule_from_row(row)


def list_schedules(connection: Connection, engine: EngineName | None, task: str | None) -> list[Schedule]:
    """Return schedules by id."""
    rows = connection.execute(sql("list_schedules"), {"engine": engine and engine.value, "task": task})
    return [schedule_from_row(row) for row in rows]


def schedule_revisions(connection: Connection, engine: EngineName) -> dict[str, int]:
    """Return each schedule's revision by id."""
    return dict(connection.execute(sql("schedule_revisions"), {"engine": engine.value}).fetchall())


def set_paused(
    connection: Connection, schedule_id: str, paused: bool, next_fire_at: datetime | None, now: datetime
) -> Schedule:
    """Pause or resume a schedule; returns it as stored."""
    old = get_schedule(connection, schedule_id)
    new = paused_or_resumed(old, paused, next_fire_at, now)
    return old if new is old else _stored(connection, new)


def set_external_id(connection: Connection, schedule_id: str, external_id: str | None) -> None:
    """Remember the engine's own name for a schedule."""
    parameters = {"id": schedule_id, "external_id": external_id}
    if not connection.execute(sql("set_external_id"), parameters).rowcount:
        raise ScheduleNotFoundError(schedule_id)


def delete_schedule(connection: Connection, schedule_id: str, now: datetime) -> None:
    """Delete a schedule. What it held is skipped; what somebody has claimed is left to them."""
    if not connection.execute(sql("delete_schedule"), {"id": schedule_id}).rowcount:
        raise ScheduleNotFoundError(schedule_id)
    parameters = {"id": schedule_id, "reason": SCHEDULE_REMOVED, "now_us": to_us(now)}
    connection.execute(sql("skip_held"), parameters)


def due_schedules(connection: Connection, engine: EngineName, now: datetime, limit: int) -> list[Schedule]:
    """Return active schedules that are due, earliest first."""
    parameters = {"engine": engine.value, "now_us": to_us(now), "limit": limit}
    return [schedule_from_row(row) for row in connection.execute(sql("due_schedules"), parameters)]


def next_due(connection: Connection, engine: EngineName) -> datetime | None:
    """Return the earliest next fire time."""
    row = connection.execute(sql("next_due"), {"engine": engine.value}).fetchone()
    return None if row is None else from_us(row[0])


# --- occurrences ---


def advance(connection: Connection, advances: Sequence[Advance], claim: Claim) -> list[Occurrence]:
    """Step schedules, each only if it is still as it was read; returns the occurrences won."""
    won: list[Occurrence] = []
    for step in advances:
        if _moved(connection, step):
            won.extend(_claimed(connection, step, claim))
            _held(connection, step, claim)
            write_skips(connection, step.skips, claim.now)
    return won


def _moved(connection: Connection, step: Advance) -> bool:
    skipped_until = from_ms(max(skip.last_ms for skip in step.skips)) if step.skips else None
    parameters = {
        "id": step.schedule.id,
        "revision": step.schedule.revision,
        "expected_us": to_us(step.schedule.next_fire_at),
        "next_us": to_us(step.next_fire_at),
        "last_us": to_us(last_decided(step, skipped_until)),
    }
    return connection.execute(sql("advance_schedule"), parameters).rowcount == 1


def _claimed(connection: Connection, step: Advance, claim: Claim) -> Iterable[Occurrence]:
    for fire_at in step.dispatch:
        occurrence = _occurrence(step, fire_at, OccurrenceState.CLAIMED, claim)
        if _inserted(connection, step, occurrence, claim):
            yield occurrence


def _held(connection: Connection, step: Advance, claim: Claim) -> None:
    for fire_at, reason in step.hold:
        _inserted(connection, step, _occurrence(step, fire_at, OccurrenceState.HELD, claim, reason), claim)


def _occurrence(step: Advance, fire_at: datetime, state: OccurrenceState, claim: Claim, reason: str = "") -> Occurrence:
    return Occurrence(
        schedule_id=step.schedule.id,
        fire_at=fire_at,
        state=state,
        until=fire_at,
        reason=reason,
        decided_at=claim.now,
        owner=claim.owner if state is OccurrenceState.CLAIMED else None,
        revision=step.schedule.revision,
    )


def _inserted(connection: Connection, step: Advance, occurrence: Occurrence, claim: Claim) -> bool:
    """Insert an occurrence; false if this fire time was decided before in the schedule's present life."""
    lease = claim.parameters() if occurrence.owner else {"lease_until_us": None}
    parameters = _occurrence_parameters(occurrence) | {
        "decided_us": to_us(claim.now),
        "lease_until_us": lease["lease_until_us"],
        "created_us": to_us(step.schedule.created_at),
    }
    return connection.execute(sql("insert_occurrence"), parameters).rowcount == 1


def _occurrence_parameters(occurrence: Occurrence) -> dict[str, Any]:
    return {
        "schedule_id": occurrence.schedule_id,
        "fire_us": to_us(occurrence.fire_at),
        "state": occurrence.state.value,
        "until_us": to_us(occurrence.until),
        "count": occurrence.count,
        "reason": occurrence.reason,
        "job_id": occurrence.job_id,
        "owner": occurrence.owner,
        "revision": occurrence.revision,
    }


def mark_dispatched(connection: Connection, occurrences: Sequence[Occurrence], now: datetime) -> None:
    """Record the jobs that occurrences became; a second time changes nothing."""
    rows = [_occurrence_parameters(occurrence) | {"decided_us": to_us(now)} for occurrence in occurrences]
    connection.executemany(sql("mark_dispatched"), rows)


def skip_claimed(connection: Connection, occurrences: Sequence[Occurrence], reason: str, now: datetime) -> None:
    """Record that claimed or held occurrences do not run; what was decided stays."""
    decided = {"reason": reason, "decided_us": to_us(now)}
    connection.executemany(sql("skip_claimed"), [_occurrence_parameters(it) | decided for it in occurrences])


def release_held(connection: Connection, occurrences: Sequence[Occurrence], claim: Claim) -> list[Occurrence]:
    """Claim held occurrences; returns those that were still held."""
    keys = [{"schedule_id": it.schedule_id, "fire_us": to_us(it.fire_at)} for it in occurrences]
    found = [connection.execute(sql("release_held"), claim.parameters() | key).fetchone() for key in keys]
    return [occurrence_from_row(row) for row in found if row is not None]


def abandoned_exist(connection: Connection, now: datetime) -> bool:
    """Return whether any claimed occurrence's lease has run out."""
    return connection.execute(sql("abandoned_exist"), {"now_us": to_us(now)}).fetchone() is not None


def claim_abandoned(connection: Connection, claim: Claim, limit: int) -> list[Occurrence]:
    """Take claimed occurrences whose lease has run out, oldest first."""
    rows = connection.execute(sql("claim_abandoned"), claim.parameters() | {"limit": limit}).fetchall()
    return sorted((occurrence_from_row(row) for row in rows), key=lambda it: (it.fire_at, it.schedule_id))


def held_occurrences(connection: Connection) -> list[Occurrence]:
    """Return held occurrences, oldest first."""
    return [occurrence_from_row(row) for row in connection.execute(sql("held_occurrences"))]


def write_skips(connection: Connection, skips: Iterable[Skip], now: datetime) -> None:
    """Record spans of fire times that do not run."""
    rows = [
        {
            "schedule_id": skip.schedule_id,
            "fire_us": skip.first_ms * 1000,
            "until_us": skip.last_ms * 1000,
            "count": skip.count,
            "reason": skip.reason,
            "decided_us": to_us(now),
        }
        for skip in skips
    ]
    connection.executemany(sql("insert_skip"), rows)


def list_occurrences(connection: Connection, schedule_id: str, limit: int) -> list[Occurrence]:
    """Return occurrences of a schedule, newest first."""
    parameters = {"schedule_id": schedule_id, "limit": limit}
    return [occurrence_from_row(row) for row in connection.execute(sql("list_occurrences"), parameters)]


def unfinished_jobs(
    connection: Connection, schedule_ids: Iterable[str]
) -> tuple[dict[str, list[str]], list[tuple[str, int, str]]]:
    """Return each schedule's unfinished jobs, oldest first, and the occurrences that `mark_ended` may note."""
    statement = sql("unfinished_jobs")
    unfinished: dict[str, list[str]] = {}
    ended: list[tuple[str, int, str]] = []
    for schedule_id in schedule_ids:
        jobs = unfinished[schedule_id] = []
        for fire_us, job_id, has_ended in connection.execute(statement, {"schedule_id": schedule_id}):
            if has_ended:
                ended.append((schedule_id, fire_us, job_id))
            else:
                jobs.append(job_id)
    return unfinished, ended


def claimed_counts(connection: Connection) -> dict[str, int]:
    """Return how many occurrences of each schedule are on their way to the queue."""
    return dict(connection.execute(sql("claimed_counts")).fetchall())


def mark_ended(connection: Connection, keys: Sequence[tuple[str, int, str]]) -> None:
    """Note that the jobs of these occurrences have ended, so that nobody looks for their runs again."""
    connection.executemany(sql("mark_ended"), keys)
