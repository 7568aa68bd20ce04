"""Rows of the ledger's tables to values and back.

A run's row has as columns only what listings and retention filter by; the rest is one MessagePack array, which
is half the size of the columns it stands for and twice as fast to write. Numbers stand for states and engines
there; they are part of the file's layout and never change their meaning.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

import msgspec

from mahavishnu.errors import ContextError
from mahavishnu.history.store import ProcessInfo, Request, RequestKind
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import JobOptions
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.schedule import Occurrence, Schedule, ScheduleState
from mahavishnu.model.states import OccurrenceState, RunState
from mahavishnu.model.trigger import TriggerKind, TriggerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ENGINE_CODES",
    "RUN_CODES",
    "definition_of",
    "from_us",
    "may_replace",
    "occurrence_from_row",
    "printable_run",
    "process_from_row",
    "process_row",
    "request_from_row",
    "run_from_row",
    "run_row",
    "schedule_from_row",
    "schedule_row",
    "to_us",
]

RUN_CODES = {
    RunState.SCHEDULED: 0,
    RunState.QUEUED: 1,
    RunState.RUNNING: 2,
    RunState.SUCCEEDED: 10,
    RunState.FAILED: 11,
    RunState.TIMED_OUT: 12,
    RunState.RETRYING: 13,
    RunState.SNOOZED: 14,
    RunState.CANCELLED: 15,
    RunState.INTERRUPTED: 16,
    RunState.LOST: 17,
    RunState.DEAD: 18,
}
"""Live states in their order, then the final ones, from 10."""

ENGINE_CODES = {EngineName.APSCHEDULER: 1, EngineName.ONEIRIC: 2, EngineName.PREFECT: 3}

_STATES = {code: state for state, code in RUN_CODES.items()}
_ENGINES = {code: engine for engine, code in ENGINE_CODES.items()}
_FIRST_FINAL = 10
_RUNNING, _DEAD = RUN_CODES[RunState.RUNNING], RUN_CODES[RunState.DEAD]
_JOB_GOES_ON = frozenset({RUN_CODES[RunState.INTERRUPTED], RUN_CODES[RunState.LOST]})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@overload
def to_us(instant: datetime) -> int: ...


@overload
def to_us(instant: None) -> None: ...


@overload
def to_us(instant: datetime | None) -> int | None: ...


def to_us(instant: datetime | None) -> int | None:
    """Return whole microseconds since the Unix epoch, or `None` for none: fire times are kept exactly."""
    return None if instant is None else (instant - _EPOCH) // _MICROSECOND


def from_us(instant_us: int) -> datetime:
    """Return the aware UTC datetime `instant_us` microseconds after the Unix epoch."""
    return _EPOCH + timedelta(microseconds=instant_us)


def may_replace(old: RunState, new: RunState) -> bool:
    """Return whether a run recorded as `old` may become `new`: a live state itself again, or any it can reach.

    States in between may be missing, since not every run is recorded as running before it ends.
    The statement `upsert_run` says the same in SQL.
    """
    before, after = RUN_CODES[old], RUN_CODES[new]
    return before < _FIRST_FINAL and after >= before and not (before == _RUNNING and after == _DEAD)


# --- runs ---


class _Details(msgspec.Struct, array_like=True, frozen=True):
    """What of a run is in no column, in the stored order. Fields are only ever added at the end, with a default."""

    attempt: int = 1
    delivery: int = 1
    scheduled_for_ms: int | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    worker: str | None = None
    provider: str | None = None
    queue: str | None = None
    result: str | None = None
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    next_attempt_at_ms: int | None = None
    repo: str | None = None
    commit_sha: str | None = None
    labels: dict[str, str] | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack_details = msgspec.msgpack.Decoder(_Details).decode


def run_row(run: Run, now_ms: int) -> tuple[Any, ...]:
    """Return the parameters of `upsert_run`. Called for every run: kept flat.

    Args:
        run: The run.
        now_ms: Stands in for the times a run has not.
    """
    state = RUN_CODES[run.state]
    final = state >= _FIRST_FINAL
    job_id = run.job_id
    started, due, finished, again = run.started_at_ms, run.scheduled_for_ms, run.finished_at_ms, run.next_attempt_at_ms
    derived = "." not in job_id and run.id == run_id(job_id, run.attempt, run.delivery)
    return (
        run.id,
        None if derived else job_id,
        run.task,
        ENGINE_CODES[run.engine],
        state,
        1 if final and again is None and state not in _JOB_GOES_ON else 0,
        run.schedule_id,
        run.parent_id,
        started if started is not None else due if due is not None else finished if finished is not None else now_ms,
        (now_ms if finished is None else finished) if final else None,
        _pack(
            (
                run.attempt,
                run.delivery,
                due,
                started,
                finished,
                run.worker,
                run.provider,
                run.queue,
                run.result,
                run.reason,
                run.error,
                run.traceback,
                again,
                run.repo,
                run.commit_sha,
                run.labels,
            )
        ),
    )


def run_from_row(row: Sequence[Any]) -> Run:
    """Return the run of `(id, job_id, task, engine, state, schedule_id, parent_id, details, ...)`."""
    details = _unpack_details(row[7])
    return Run(
        id=row[0],
        job_id=row[0].partition(".")[0] if row[1] is None else row[1],
        task=row[2],
        engine=_ENGINES[row[3]],
        state=_STATES[row[4]],
        schedule_id=row[5],
        parent_id=row[6],
        **msgspec.structs.asdict(details),
    )


def printable_run(run: Run) -> Run:
    """Return the run with text that cannot be stored (lone surrogates, as in odd file names) made visible instead."""
    return msgspec.convert(_printable(msgspec.structs.asdict(run)), Run)


def _printable(value: Any) -> Any:
    match value:
        case RunState() | EngineName():
            return value
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_printable(key): _printable(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


# --- schedules ---


class _Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What of a schedule is in no column."""

    trigger_kind: TriggerKind
    trigger_fields: dict[str, str | int | float]
    context: dict[str, Any]
    options: JobOptions
    misfire: MisfirePolicy
    overlap: OverlapPolicy
    max_running: int | None = None
    provider: str | None = None
    reasons: tuple[str, ...] = ()
    jitter: timedelta = timedelta(0)


_sorted_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_unpack_definition = msgspec.msgpack.Decoder(_Definition).decode


def definition_of(schedule: Schedule) -> bytes:
    """Return what a person or program defined, without progress and state; equal definitions give equal bytes.

    Raises:
        ContextError: The context is not plain data.
    """
    definition = _Definition(
        trigger_kind=schedule.trigger.kind,
        trigger_fields=dict(schedule.trigger.fields),
        context=dict(schedule.context),
        options=schedule.options,
        misfire=schedule.misfire,
        overlap=schedule.overlap,
        max_running=schedule.max_running,
        provider=schedule.provider,
        reasons=schedule.reasons,
        jitter=schedule.jitter,
    )
    try:
        return _sorted_pack(definition)
    except (TypeError, ValueError) as exc:  # ValueError: UnicodeEncodeError among others
        raise ContextError(schedule.task, f"it cannot be stored with schedule {schedule.id!r}: {exc}") from exc


def schedule_row(schedule: Schedule) -> dict[str, Any]:
    """Return the parameters of `put_schedule`."""
    return {
        "id": schedule.id,
        "task": schedule.task,
        "engine": schedule.engine.value,
        "state": schedule.state.value,
        "revision": schedule.revision,
        "next_fire_us": to_us(schedule.next_fire_at),
        "last_fire_us": to_us(schedule.last_fire_at),
        "created_us": to_us(schedule.created_at),
        "updated_us": to_us(schedule.updated_at),
        "external_id": schedule.external_id,
        "definition": definition_of(schedule),
    }


def schedule_from_row(row: Sequence[Any]) -> Schedule:
    """Return the schedule of a row with the columns of `schedule_row`, in that order."""
    definition = _unpack_definition(row[10])
    return Schedule(
        id=row[0],
        task=row[1],
        engine=EngineName(row[2]),
        state=ScheduleState(row[3]),
        revision=row[4],
        next_fire_at=_instant(row[5]),
        last_fire_at=_instant(row[6]),
        created_at=_instant(row[7]),
        updated_at=_instant(row[8]),
        external_id=row[9],
        trigger=TriggerSpec(kind=definition.trigger_kind, fields=definition.trigger_fields),
        context=definition.context,
        options=definition.options,
        misfire=definition.misfire,
        overlap=definition.overlap,
        max_running=definition.max_running,
        provider=definition.provider,
        reasons=definition.reasons,
        jitter=definition.jitter,
    )


def _instant(instant_us: int | None) -> datetime | None:
    return None if instant_us is None else from_us(instant_us)


# --- the rest ---


def occurrence_from_row(row: Sequence[Any]) -> Occurrence:
    """Return the occurrence of a row of `list_occurrences`."""
    return Occurrence(
        schedule_id=row[0],
        fire_at=from_us(row[1]),
        state=OccurrenceState(row[2]),
        until=from_us(row[3]),
        count=row[4],
        reason=row[5],
        job_id=row[6],
        decided_at=from_us(row[7]),
        owner=row[8],
        revision=row[9],
    )


def request_from_row(row: Sequence[Any]) -> Request:
    """Return the request of a row of `list_requests`."""
    return Request(id=row[0], kind=RequestKind(row[1]), target=row[2], asked_ms=row[3], job_id=row[4])


def process_row(process: ProcessInfo) -> tuple[Any, ...]:
    """Return the parameters of `upsert_process`."""
    details = msgspec.json.encode(process.details).decode()
    return (process.id, process.kind, process.started_ms, process.seen_ms, details)


def process_from_row(row: Sequence[Any]) -> ProcessInfo:
    """Return the process of a row of `list_processes`."""
    details = msgspec.json.decode(row[4], type=dict[str, str])
    return ProcessInfo(id=row[0], kind=row[1], started_ms=row[2], seen_ms=row[3], details=details)
