"""One attempt to be made at a job: what the executor is given, and what may have happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

import msgspec

from mahavishnu.model.engine import EngineName
from mahavishnu.workflows.registry import Workflow

__all__ = ["Attempt", "Happened", "Raised", "Refused", "Returned", "StopReason", "Stopped"]


class StopReason(StrEnum):
    """Why a running job is made to stop."""

    TIMEOUT = "timeout"
    """Its time was up."""
    CANCEL = "cancel"
    """Somebody cancelled it."""
    SHUTDOWN = "shutdown"
    """The process is stopping; the job is handed back."""
    LEASE_LOST = "lease-lost"
    """The queue has given it to somebody else."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt at a job, from any engine.

    A struct and not a dataclass because one is made for every run, up to tens of thousands a second; the garbage
    collector need not look at it, since nothing it holds leads back to it.

    Attributes:
        job_id: The job's id.
        task: The workflow's key, or the task's name.
        engine: Which engine runs it.
        context: The keyword arguments, encoded or plain.
        workflow: What to run; `None`: the one registered under `task`.
        attempt: From 1.
        delivery: Which run of this attempt, from 1.
        max_attempts: `None`: the workflow's own setting.
        timeout_ms: How long it may take; `None`: the workflow's own setting.
        schedule_id: The schedule it is an occurrence of.
        scheduled_for_ms: The fire or due time, Unix milliseconds.
        provider: The queue provider, on the durable engine.
        queue: The queue, on the durable engine.
        repo: The repository it runs for.
        commit_sha: That repository's commit.
        parent_id: The cross-repository execution it belongs to.
        labels: The job's labels.
        run_id: The run's id where it is not made of job, attempt and delivery: Prefect's flow run.
    """

    job_id: str
    task: str
    engine: EngineName
    context: bytes | Mapping[str, object] = b"\x80"
    workflow: Workflow | None = None
    attempt: int = 1
    delivery: int = 1
    max_attempts: int | None = None
    timeout_ms: int | None = None
    schedule_id: str | None = None
    scheduled_for_ms: int | None = None
    provider: str | None = None
    queue: str | None = None
    repo: str | None = None
    commit_sha: str | None = None
    parent_id: str | None = None
    labels: dict[str, str] | None = None
    run_id: str | None = None


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The function returned a value, which may be a `Retry`, a `Snooze` or a `Cancel`."""

    value: object


class Raised(msgspec.Struct, frozen=True):
    """The function raised, be it an exception, a `CancelledError` of its own or a `SystemExit`."""

    error: BaseException


class Stopped(msgspec.Struct, frozen=True):
    """The function was made to stop, whatever it did about it; `limit_ms` is the time limit that was up."""

    reason: StopReason
    limit_ms: int | None = None
    abandoned: bool = False


class Refused(msgspec.Struct, frozen=True):
    """The function was not called: the code of the dead letter's reason, and what is wrong in one line."""

    code: str
    problem: str


Happened: TypeAlias = Returned | Raised | Stopped | Refused
"""All there is to know about one attempt, when it is over."""
