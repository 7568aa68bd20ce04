"""The contract of the ledger: what every engine writes and every listing reads.

All methods are safe to call concurrently from one event loop. After `close` every other method raises
`StorageError`. `record_runs` and every schedule operation are durable when they return; `note_runs` is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.run import Run, RunFilter
    from mahavishnu.model.schedule import Occurrence, OnConflict, Schedule

__all__ = ["Advance", "HistoryStore", "ProcessInfo", "Request", "RequestKind", "Skip"]


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """Fire times of one schedule that were deliberately not run.

    Attributes:
        schedule_id: The schedule.
        first_ms: The first of them, Unix milliseconds.
        last_ms: The last of them.
        count: How many.
        reason: Why, in words.
    """

    schedule_id: str
    first_ms: int
    last_ms: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """One schedule's step past some fire times, valid only if nobody else made it first.

    Attributes:
        schedule: As it was read; its `revision` and `next_fire_at` must still be the stored ones.
        dispatch: Fire times that become jobs.
        hold: Fire times that wait for the previous occurrence, with the reason.
        skips: Fire times that do not run.
        next_fire_at: The next fire time afterwards; `None`: the trigger has ended.
    """

    schedule: Schedule
    dispatch: Sequence[datetime] = ()
    hold: Sequence[tuple[datetime, str]] = ()
    skips: Sequence[Skip] = ()
    next_fire_at: datetime | None = None


class RequestKind(StrEnum):
    """What a process may ask of the one that holds a schedule or a run."""

    CANCEL_RUN = "cancel-run"
    """Stop the running job named by the target."""
    RUN_NOW = "run-now"
    """Fire the in-process schedule named by the target once, now."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Something asked of another process.

    Attributes:
        id: Its id.
        kind: What is asked.
        target: A schedule's or a job's id.
        asked_ms: When, Unix milliseconds.
        job_id: With `RUN_NOW`, the id the job shall have.
    """

    id: str
    kind: RequestKind
    target: str
    asked_ms: int
    job_id: str | None = None


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler or worker process, as it last reported itself.

    Attributes:
        id: `host:pid:…`, unique.
        kind: `scheduler`, `worker` or `up`.
        started_ms: When it started, Unix milliseconds.
        seen_ms: When it last reported.
        details: Free text pairs: queues, provider, concurrency, version.
    """

    id: str
    kind: str
    started_ms: int
    seen_ms: int
    details: dict[str, str] = {}


class HistoryStore(Protocol):
    """The ledger of schedules, occurrences and runs of all engines."""

    @property
    def url(self) -> str:
        """Where it is kept, without credentials."""
        ...

    async def open(self) -> None:
        """Open, creating and migrating what is needed. Idempotent."""
        ...

    async def close(self) -> None:
        """Write what was noted, then let go. Idempotent; close without open is fine."""
        ...

    # --- schedules ---

    async def put_schedule(self, schedule: Schedule, *, on_conflict: OnConflict) -> Schedule:
        """Store a schedule and return it as stored, with its revision and times.

        With `REPLACE`, an existing schedule whose trigger is equal keeps `next_fire_at`, `last_fire_at`,
        `created_at` and its pause; nothing at all changes (not even the revision) if the rest is equal too.

        Raises:
            ScheduleExistsError: The id is taken and `on_conflict` is `ERROR`.
        """
        ...

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """Return one schedule.

        Raises:
            ScheduleNotFoundError: There is none of this id.
        """
        ...

    async def list_schedules(self, *, engine: EngineName | None = None, task: str | None = None) -> list[Schedule]:
        """Return schedules by id."""
        ...

    async def schedule_revisions(self, engine: EngineName) -> dict[str, int]:
        """Return the revision of each of the engine's schedules by id: cheap, to see which ones changed or went."""
        ...

    async def set_paused(self, schedule_id: str, paused: bool, *, next_fire_at: datetime | None) -> Schedule:
        """Pause or resume a schedule; `next_fire_at` is where it goes on. A paused one has none.

        Raises:
            ScheduleNotFoundError: There is none of this id.
        """
        ...

    async def set_external_id(self, schedule_id: str, external_id: str | None) -> None:
        """Remember the engine's own name for the schedule."""
        ...

    async def delete_schedule(self, schedule_id: str) -> None:
        """Forget a schedule; its runs stay in the ledger until retention removes them.

        Raises:
            ScheduleNotFoundError: There is none of this id.
        """
        ...

    # --- occurrences ---

    async def due_schedules(self, engine: EngineName, now: datetime, *, limit: int) -> list[Schedule]:
        """Return active schedules whose `next_fire_at` is not after `now`, earliest first."""
        ...

    async def next_due(self, engine: EngineName) -> datetime | None:
        """Return the earliest `next_fire_at` of any active schedule; `None`: there is none."""
        ...

    async def advance(self, advances: Sequence[Advance], *, owner: str, lease: timedelta) -> list[Occurrence]:
        """Step schedules past fire times in one transaction, each only if nobody else did so first.

        Returns:
            The occurrences to dispatch that this call won, in state `CLAIMED`, owned by `owner` for `lease`.
        """
        ...

    async def mark_dispatched(self, occurrences: Sequence[Occurrence]) -> None:
        """Record that claimed or held occurrences became the jobs named in their `job_id`."""
        ...

    async def release_held(
        self, occurrences: Sequence[Occurrence], *, owner: str, lease: timedelta
    ) -> list[Occurrence]:
        """Claim held occurrences for dispatch; returns those won, in state `CLAIMED`."""
        ...

    async def has_open_occurrences(self) -> bool:
        """Return whether any occurrence is held, or claimed and not dispatched. Cheap: a few microseconds."""
        ...

    async def claim_abandoned(self, *, owner: str, lease: timedelta, limit: int) -> list[Occurrence]:
        """Take over claimed occurrences whose owner's lease ran out before they were dispatched."""
        ...

    async def held_occurrences(self) -> list[Occurrence]:
        """Return every held occurrence, oldest first."""
        ...

    async def skip_claimed(self, occurrences: Sequence[Occurrence], *, reason: str) -> None:
        """Record that claimed or held occurrences will not run after all, with the reason."""
        ...

    def note_skips(self, skips: Sequence[Skip]) -> None:
        """Record fire times that were deliberately not run. Buffered like `note_runs`."""
        ...

    async def list_occurrences(self, schedule_id: str, *, limit: int = 100) -> list[Occurrence]:
        """Return what became of fire times of one schedule, newest first."""
        ...

    async def unfinished_jobs(self, schedule_id: str) -> list[str]:
        """Return the ids of dispatched jobs of the schedule that have no run ending them yet, oldest first."""
        ...

    async def unfinished_counts(self, schedule_ids: Collection[str]) -> dict[str, int]:
        """Return, for each of these schedules, how many of its occurrences are under way; 0 included.

        Those are the jobs that `unfinished_jobs` would name, and the occurrences claimed and not yet dispatched.
        """
        ...

    # --- runs ---

    async def record_runs(self, runs: Sequence[Run]) -> None:
        """Write runs durably, in one transaction. A final state in the ledger is never overwritten."""
        ...

    def note_runs(self, runs: Sequence[Run]) -> None:
        """Write runs soon, in the background; at most about three seconds are lost if the process is killed."""
        ...

    async def flush(self) -> None:
        """Return after everything noted before is written."""
        ...

    async def list_runs(self, where: RunFilter) -> list[Run]:
        """Return runs, newest first."""
        ...

    async def get_run(self, run_or_job_id: str) -> Run:
        """Return one run by its id, or a job's latest run by the job's id.

        Raises:
            RunNotFoundError: There is none.
        """
        ...

    async def ended_jobs(self, job_ids: Collection[str]) -> dict[str, Run]:
        """Return, for each of these jobs that has ended, the run that ended it."""
        ...

    async def lost_runs(self, worker_prefix: str) -> list[Run]:
        """Return runs still `RUNNING` in the ledger whose `worker` starts with this prefix."""
        ...

    # --- between processes ---

    async def changed(self, *, within: timedelta) -> None:
        """Return once this process has written runs, or after `within`; what others write shows in `version`."""
        ...

    async def version(self) -> int:
        """Return a number that changes whenever any process wrote to the ledger. Cheap: a few microseconds."""
        ...

    async def steering_version(self) -> int:
        """Return a number that changes whenever any process stored or removed a schedule, or left a request.

        Runs do not change it. Cheap: a few microseconds.
        """
        ...

    async def ask(self, request: Request) -> None:
        """Leave a request for whichever process holds its target."""
        ...

    async def take_requests(self, kind: RequestKind, targets: Collection[str] | None) -> list[Request]:
        """Remove and return requests of this kind for these targets (`None`: all)."""
        ...

    async def report_process(self, process: ProcessInfo) -> None:
        """Say that this process is alive. Buffered like `note_runs`."""
        ...

    async def forget_process(self, process_id: str) -> None:
        """Say that this process has stopped."""
        ...

    async def list_processes(self, *, seen_since_ms: int) -> list[ProcessInfo]:
        """Return processes that reported since then."""
        ...

    # --- retention ---

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete runs and occurrences decided before `before`, and requests and processes as old; at most `limit`.

        Runs that are not final and occurrences that are not decided stay.

        Returns:
            How many rows went; fewer than `limit` means that nothing is left to delete.
        """
        ...
