"""What becomes of a job after an attempt: one `match` from what happened to what is done and recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec

from mahavishnu.execution.attempt import Attempt, Happened, Raised, Refused, Returned, Stopped, StopReason
from mahavishnu.execution.backoff import backoff_delay
from mahavishnu.execution.report import error_line, result_json, traceback_text
from mahavishnu.model.instants import to_due_ms
from mahavishnu.model.job import DEFAULT_BACKOFF
from mahavishnu.model.outcome import Cancel, Retry, Snooze
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.states import RunState
from mahavishnu.workflows.registry import DEFAULT_MAX_ATTEMPTS, Workflow

__all__ = ["Settlement", "Timing", "Verb", "decide", "running_run"]

EXHAUSTED = "attempts-exhausted"
_MILLISECOND = timedelta(milliseconds=1)
_STOPPED_WORDS = {
    StopReason.CANCEL: "cancelled on request",
    StopReason.SHUTDOWN: "interrupted because the process was stopping",
    StopReason.LEASE_LOST: "its lease was lost while it ran",
}


class Verb(Enum):
    """What is done with the job."""

    ACK = "ack"
    """It is finished: forget it."""
    REPEAT = "repeat"
    """It runs again, at `due_ms`, as attempt `next_attempt`."""
    HAND_BACK = "hand-back"
    """It runs again at once, elsewhere; this was no attempt."""
    BURY = "bury"
    """It is parked for a person, with the code `bury_as`."""
    DROP = "drop"
    """It is somebody else's by now: leave it alone."""


class Timing(msgspec.Struct, frozen=True, gc=False):
    """When an attempt began and ended, Unix milliseconds, and who made it."""

    started_ms: int
    finished_ms: int
    worker: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is done with a job after one attempt, and what is recorded of that attempt.

    Attributes:
        run: The attempt as the ledger keeps it, in a final state.
        verb: What is done with the job.
        due_ms: With `REPEAT`, when.
        next_attempt: With `REPEAT`, the number of the coming attempt; after a snooze the same as before.
        bury_as: With `BURY`, the code of the reason.
        exception: What the job raised, if anything.
    """

    run: Run
    verb: Verb
    due_ms: int | None = None
    next_attempt: int = 1
    bury_as: str = ""
    exception: BaseException | None = None


def decide(attempt: Attempt, happened: Happened, workflow: Workflow | None, timing: Timing) -> Settlement:
    """Return what becomes of the job.

    Args:
        attempt: The attempt that was made.
        happened: How it went.
        workflow: What was run; `None` where nothing could be.
        timing: When, and by whom.
    """
    try:
        return _decide(attempt, happened, workflow, timing)
    except Exception as exc:  # what the job returned is unusable: a naive `until`, an `after` that is no duration
        return _failed(attempt, exc, workflow, timing)


def _decide(attempt: Attempt, happened: Happened, workflow: Workflow | None, timing: Timing) -> Settlement:
    match happened:
        case Returned(value=None):
            return Settlement(run=final_run(attempt, timing, RunState.SUCCEEDED), verb=Verb.ACK)
        case Returned(value=Retry() as retry):
            return _retry(attempt, retry, workflow, timing)
        case Returned(value=Snooze() as snooze):
            return _snooze(attempt, snooze, timing)
        case Returned(value=Cancel() as cancel):
            return _ended(attempt, timing, RunState.CANCELLED, reason=cancel.reason)
        case Returned(value=value):
            run = final_run(attempt, timing, RunState.SUCCEEDED, result=result_json(value))
            return Settlement(run=run, verb=Verb.ACK)
        case Raised(error=error):
            return _failed(attempt, error, workflow, timing)
        case Stopped(reason=StopReason.TIMEOUT):
            return _timed_out(attempt, happened, workflow, timing)
        case Stopped(reason=StopReason.CANCEL):
            return _ended(attempt, timing, RunState.CANCELLED, reason=_STOPPED_WORDS[StopReason.CANCEL])
        case Stopped(reason=StopReason.SHUTDOWN):
            run = final_run(attempt, timing, RunState.INTERRUPTED, reason=_STOPPED_WORDS[StopReason.SHUTDOWN])
            return Settlement(run=run, verb=Verb.HAND_BACK, next_attempt=attempt.attempt)
        case Stopped():
            run = final_run(attempt, timing, RunState.LOST, reason=_STOPPED_WORDS[StopReason.LEASE_LOST])
            return Settlement(run=run, verb=Verb.DROP)
        case Refused(code=code, problem=problem):
            run = final_run(attempt, timing, RunState.DEAD, reason=code, error=problem)
            return Settlement(run=run, verb=Verb.BURY, bury_as=code)


def _ended(attempt: Attempt, timing: Timing, state: RunState, *, reason: str) -> Settlement:
    return Settlement(run=final_run(attempt, timing, state, reason=_words(reason)), verb=Verb.ACK)


def _failed(attempt: Attempt, error: BaseException, workflow: Workflow | None, timing: Timing) -> Settlement:
    settlement = _again_or_bury(attempt, workflow, timing, RunState.FAILED, error=error_line(error))
    run = msgspec.structs.replace(settlement.run, traceback=traceback_text(error))
    return msgspec.structs.replace(settlement, run=run, exception=error)


def _timed_out(attempt: Attempt, stopped: Stopped, workflow: Workflow | None, timing: Timing) -> Settlement:
    limit = "" if stopped.limit_ms is None else f" of {stopped.limit_ms / 1000:g} s"
    ignored = "; it did not stop when told to and was abandoned" if stopped.abandoned else ""
    error = f"TimeoutError: the time limit{limit} was up{ignored}"
    return _again_or_bury(attempt, workflow, timing, RunState.TIMED_OUT, error=error)


def _retry(attempt: Attempt, retry: Retry, workflow: Workflow | None, timing: Timing) -> Settlement:
    after_ms = None if retry.after is None else max(0, -(-retry.after // _MILLISECOND))
    reason = _words(retry.reason)
    if attempt.attempt >= _max_attempts(attempt, workflow):
        error = f"Retry: {reason}" if reason else "Retry: asked for on the last attempt"
        return _again_or_bury(attempt, workflow, timing, RunState.FAILED, error=error)
    return _again_or_bury(attempt, workflow, timing, RunState.RETRYING, reason=reason, after_ms=after_ms)


def _snooze(attempt: Attempt, snooze: Snooze, timing: Timing) -> Settlement:
    due_ms = max(_due_ms_of(snooze.until), timing.finished_ms)
    run = final_run(attempt, timing, RunState.SNOOZED, reason=_words(snooze.reason), next_ms=due_ms)
    return Settlement(run=run, verb=Verb.REPEAT, due_ms=due_ms, next_attempt=attempt.attempt)


def _again_or_bury(
    attempt: Attempt,
    workflow: Workflow | None,
    timing: Timing,
    state: RunState,
    *,
    reason: str | None = None,
    error: str | None = None,
    after_ms: int | None = None,
) -> Settlement:
    """Return the settlement of an attempt that did not succeed: the next attempt, or the dead letter after the last."""
    if attempt.attempt >= _max_attempts(attempt, workflow):
        run = final_run(attempt, timing, state, reason=reason, error=error)
        return Settlement(run=run, verb=Verb.BURY, bury_as=EXHAUSTED)
    if after_ms is None:
        policy = (workflow.backoff if workflow else None) or DEFAULT_BACKOFF
        after_ms = backoff_delay(policy, attempt.attempt) // _MILLISECOND
    due_ms = timing.finished_ms + after_ms
    run = final_run(attempt, timing, state, reason=reason, error=error, next_ms=due_ms)
    return Settlement(run=run, verb=Verb.REPEAT, due_ms=due_ms, next_attempt=attempt.attempt + 1)


def _max_attempts(attempt: Attempt, workflow: Workflow | None) -> int:
    if attempt.max_attempts is not None:
        return attempt.max_attempts
    return workflow.max_attempts if workflow else DEFAULT_MAX_ATTEMPTS


def _due_ms_of(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("Snooze.until has no time zone; give an aware datetime")
    return to_due_ms(instant)


def _words(reason: str) -> str | None:
    return reason.encode(errors="backslashreplace").decode()[:1_000] or None


def running_run(attempt: Attempt, started_ms: int, worker: str) -> Run:
    """Return the attempt as it stands in the ledger while it runs."""
    return _run(attempt, RunState.RUNNING, started_ms, None, worker)


def final_run(
    attempt: Attempt,
    timing: Timing,
    state: RunState,
    *,
    reason: str | None = None,
    error: str | None = None,
    result: str | None = None,
    next_ms: int | None = None,
) -> Run:
    """Return the attempt as the ledger keeps it when it is over."""
    run = _run(attempt, state, timing.started_ms, timing.finished_ms, timing.worker)
    if reason is None and error is None and result is None and next_ms is None:
        return run  # the usual case, and the fastest
    return msgspec.structs.replace(run, reason=reason, error=error, result=result, next_attempt_at_ms=next_ms)


def _run(attempt: Attempt, state: RunState, started_ms: int, finished_ms: int | None, worker: str) -> Run:
    return Run(
        id=attempt.run_id or run_id(attempt.job_id, attempt.attempt, attempt.delivery),
        job_id=attempt.job_id,
        task=attempt.task,
        engine=attempt.engine,
        state=state,
        attempt=attempt.attempt,
        delivery=attempt.delivery,
        schedule_id=attempt.schedule_id,
        scheduled_for_ms=attempt.scheduled_for_ms,
        provider=attempt.provider,
        queue=attempt.queue,
        started_at_ms=started_ms,
        finished_at_ms=finished_ms,
        worker=worker,
        repo=attempt.repo,
        commit_sha=attempt.commit_sha,
        parent_id=attempt.parent_id,
        labels=attempt.labels,
    )
