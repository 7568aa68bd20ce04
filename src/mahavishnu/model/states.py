"""The states of runs and occurrences, and the one table of their transitions."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FINAL_RUN_STATES", "RUN_TRANSITIONS", "OccurrenceState", "RunState", "can_move"]


class RunState(StrEnum):
    """Where one attempt at a job stands."""

    SCHEDULED = "scheduled"
    """Accepted, due at a later time."""
    QUEUED = "queued"
    """Accepted and due; no worker has it yet."""
    RUNNING = "running"
    """A worker, this process or Prefect is executing it."""
    SUCCEEDED = "succeeded"
    """Returned; final."""
    FAILED = "failed"
    """Raised; final for this attempt, a later attempt may follow (`next_attempt_at`)."""
    TIMED_OUT = "timed_out"
    """Stopped because its time was up; final for this attempt."""
    RETRYING = "retrying"
    """Returned `Retry`: final for this attempt, the next one is due at `next_attempt_at`."""
    SNOOZED = "snoozed"
    """Returned `Snooze`: not an attempt, the same attempt is due again at `next_attempt_at`."""
    CANCELLED = "cancelled"
    """Returned `Cancel` or was cancelled from outside; final, never retried."""
    INTERRUPTED = "interrupted"
    """Handed back because its process was stopping; not an attempt."""
    LOST = "lost"
    """Its process died or lost the lease; the job runs again."""
    DEAD = "dead"
    """Parked as a dead letter without having run (unknown workflow, unreadable bytes, crash loop)."""


class OccurrenceState(StrEnum):
    """What became of one fire time of a schedule."""

    CLAIMED = "claimed"
    """A scheduler process has taken it and is dispatching it; another one takes over if that process dies."""
    HELD = "held"
    """Waiting for the previous occurrence to finish (overlap policy `queue_one`)."""
    DISPATCHED = "dispatched"
    """Became a job; final. Its runs tell the rest."""
    SKIPPED = "skipped"
    """Deliberately not run, with the reason; final."""


_LIVE = frozenset({RunState.SCHEDULED, RunState.QUEUED, RunState.RUNNING})
FINAL_RUN_STATES = frozenset(RunState) - _LIVE

RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.SCHEDULED: frozenset({RunState.QUEUED, RunState.RUNNING, RunState.CANCELLED, RunState.DEAD}),
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.DEAD}),
    RunState.RUNNING: FINAL_RUN_STATES - {RunState.DEAD},
    **{state: frozenset[RunState]() for state in FINAL_RUN_STATES},
}
"""From each state, the states it may move to. A final state moves nowhere: the first outcome stands."""


def can_move(old: RunState | None, new: RunState) -> bool:
    """Return whether a run may go from `old` (`None`: not recorded yet) to `new`."""
    return old is None or new in RUN_TRANSITIONS[old]
