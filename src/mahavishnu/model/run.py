"""One attempt at a job, as the ledger keeps it."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import from_ms
from mahavishnu.model.states import FINAL_RUN_STATES, RunState

__all__ = ["AttemptNote", "Run", "RunFilter", "run_id"]


def run_id(job_id: str, attempt: int, delivery: int = 1) -> str:
    """Return the id of one run: the job, the attempt, and which delivery of that attempt (after a lost one)."""
    return f"{job_id}.{attempt}" if delivery == 1 else f"{job_id}.{attempt}.{delivery}"


class AttemptNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job remembers of an earlier attempt, carried with it to its dead letter.

    Attributes:
        attempt: Which attempt, from 1.
        state: How it ended.
        at_ms: When it ended, Unix milliseconds.
        error: One line: the exception's type and message, or the reason.
        worker: Who ran it.
    """

    attempt: int
    state: RunState
    at_ms: int
    error: str = ""
    worker: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at a job on any engine.

    A struct and not a dataclass because one is made for every run, up to tens of thousands a second.

    Attributes:
        id: `run_id(job_id, attempt, delivery)`.
        job_id: The job this is an attempt at.
        task: The workflow's key or the task's name.
        engine: Which engine ran it.
        state: Where it stands.
        attempt: From 1.
        delivery: Which run of this attempt, from 1; more than 1 after a lost, interrupted or snoozed one.
        schedule_id: The schedule it is an occurrence of.
        scheduled_for_ms: The fire time or due time, Unix milliseconds.
        provider: The queue provider, on the durable engine.
        queue: The queue, on the durable engine.
        started_at_ms: When it began, Unix milliseconds.
        finished_at_ms: When it ended, Unix milliseconds.
        worker: Who ran it: `host:pid:…`.
        reason: Why it ended as it did, in words, where that is not an exception.
        error: The exception's type and message in one line.
        traceback: The formatted traceback, bounded.
        result: What it returned, as JSON, bounded.
        next_attempt_at_ms: When the next attempt is due, where one follows.
        repo: The repository it ran for.
        commit_sha: That repository's commit at the start.
        parent_id: The cross-repository execution it belongs to.
        labels: The job's labels.
    """

    id: str
    job_id: str
    task: str
    engine: EngineName
    state: RunState
    attempt: int = 1
    delivery: int = 1
    schedule_id: str | None = None
    scheduled_for_ms: int | None = None
    provider: str | None = None
    queue: str | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    result: str | None = None
    next_attempt_at_ms: int | None = None
    repo: str | None = None
    commit_sha: str | None = None
    parent_id: str | None = None
    labels: dict[str, str] | None = None

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire or due time, aware, in UTC."""
        return _instant(self.scheduled_for_ms)

    @property
    def started_at(self) -> datetime | None:
        """When it began, aware, in UTC."""
        return _instant(self.started_at_ms)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, aware, in UTC."""
        return _instant(self.finished_at_ms)

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the next attempt is due, aware, in UTC; `None` where none follows."""
        return _instant(self.next_attempt_at_ms)

    @property
    def duration(self) -> timedelta | None:
        """How long it took; `None` until it has ended."""
        if self.started_at_ms is None or self.finished_at_ms is None:
            return None
        return timedelta(milliseconds=self.finished_at_ms - self.started_at_ms)

    @property
    def is_final(self) -> bool:
        """Whether this run has ended."""
        return self.state in FINAL_RUN_STATES

    @property
    def ends_job(self) -> bool:
        """Whether its job has ended with it: final, and no further attempt is to come."""
        again = self.next_attempt_at_ms is not None or self.state in {RunState.INTERRUPTED, RunState.LOST}
        return self.is_final and not again


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; `None` means any. Newest first.

    Attributes:
        schedule_id: Of this schedule.
        task: Of this task.
        engine: On this engine.
        state: In this state.
        job_id: Attempts at this job.
        parent_id: Of this cross-repository execution.
        since: Begun, or due, at or after this aware instant.
        limit: At most this many, default 100.
    """

    schedule_id: str | None = None
    task: str | None = None
    engine: EngineName | None = None
    state: RunState | None = None
    job_id: str | None = None
    parent_id: str | None = None
    since: datetime | None = None
    limit: int = 100


def _instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else from_ms(at_ms)
