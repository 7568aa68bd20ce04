"""One request to run a task: its options, its retry policy, and what the caller gets back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

__all__ = ["DEFAULT_BACKOFF", "DEFAULT_QUEUE", "BackoffPolicy", "EnqueuedJob", "JobOptions", "JobRequest"]

DEFAULT_QUEUE = "default"
PRIORITY_RANGE = range(10)
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """How long to wait before attempt n + 1: `initial * factor ** (n - 1)`, at most `maximum`, less some jitter.

    Attributes:
        initial: Delay after the first failure, 2 s by default.
        factor: Growth per attempt, 2 by default; 1 keeps the delay constant.
        maximum: Ceiling of the delay before jitter, 15 min by default.
        jitter: Share of the delay that is random, 0 to 1, default 0.5: the delay lies in
            `[delay * (1 - jitter), delay]`, so that many failures at once do not come back at once.
    """

    initial: timedelta = timedelta(seconds=2)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=15)
    jitter: float = 0.5


DEFAULT_BACKOFF = BackoffPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How one job is to be treated; `None` means the workflow's own setting, then the product's default.

    Attributes:
        schedule_time: Not before this aware instant; `None`: at once.
        idempotency_key: Equal keys of one workflow within the window make one job.
        priority: 0 (least urgent) to 9 (most urgent), default 5.
        max_attempts: How many times it may run until it succeeds, at least 1.
        timeout: How long one attempt may take.
        queue: The queue it waits in, default `"default"`.
        labels: Free-form text pairs, kept in the ledger.
    """

    schedule_time: datetime | None = None
    idempotency_key: str | None = None
    priority: int = DEFAULT_PRIORITY
    max_attempts: int | None = None
    timeout: timedelta | None = None
    queue: str = DEFAULT_QUEUE
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


_NO_OPTIONS = JobOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """One request to run a registered workflow on some engine.

    Attributes:
        task: The workflow's key, or the task's name on the in-process engine.
        context: The keyword arguments, already checked against the signature.
        options: How the job is to be treated.
        job_id: The id the job shall have; `None`: a new one.
        schedule_id: The schedule this is an occurrence of.
        scheduled_for: The fire time of that occurrence.
        repo: The repository's name, where the job is one of a cross-repository workflow.
        parent_id: The id of that cross-repository workflow's execution.
        provider: On the durable engine, which queue provider; `None`: the default one.
        commit_sha: The repository's commit when the job was made.
    """

    task: str
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    options: JobOptions = _NO_OPTIONS
    job_id: str | None = None
    schedule_id: str | None = None
    scheduled_for: datetime | None = None
    repo: str | None = None
    parent_id: str | None = None
    provider: str | None = None
    commit_sha: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedJob(Mapping[str, Any]):
    """What `enqueue_workflow` returns: attributes, also readable as a mapping.

    Attributes:
        job_id: The job's id; of the job that exists already where `deduplicated` is true.
        workflow: The workflow's key.
        provider: The queue provider that holds the job.
        queue: The queue it waits in.
        scheduled_for: When it becomes due (UTC); `None`: at once.
        deduplicated: Whether an equal idempotency key had made this job before.
    """

    job_id: str
    workflow: str
    provider: str
    queue: str
    scheduled_for: datetime | None = None
    deduplicated: bool = False

    def __getitem__(self, key: str) -> Any:
        """Return the attribute named `key`."""
        if key not in _ENQUEUED_FIELDS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the attribute names."""
        return iter(_ENQUEUED_FIELDS)

    def __len__(self) -> int:
        """Return how many attributes there are."""
        return len(_ENQUEUED_FIELDS)


_ENQUEUED_FIELDS = tuple(f.name for f in fields(EnqueuedJob))
