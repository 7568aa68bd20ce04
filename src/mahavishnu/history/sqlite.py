"""The ledger in one SQLite file, shared by every process of this machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mahavishnu.errors import StorageError
from mahavishnu.history import sqlite_runs as run_rows
from mahavishnu.history import sqlite_schedules as schedule_rows
from mahavishnu.history.notes import NoteBuffer
from mahavishnu.history.rows import to_us
from mahavishnu.history.sqlite_schedules import Claim
from mahavishnu.history.statements import migrations, sql
from mahavishnu.history.waiting import WriteSignal
from mahavishnu.storage.sqlite import Database

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from mahavishnu.clock import Clock
    from mahavishnu.history.notes import Notes
    from mahavishnu.history.store import Advance, ProcessInfo, Request, RequestKind, Skip
    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.run import Run, RunFilter
    from mahavishnu.model.schedule import Occurrence, OnConflict, Schedule
    from mahavishnu.storage.sqlite import Connection

__all__ = ["SqliteHistory"]

_INCREMENTAL = 2
_NEW_FILE_PAGES = 64


class SqliteHistory:
    """A ledger kept in a SQLite file; see `HistoryStore` for what each method promises.

    Args:
        path: The file, `ledger.db` in the state folder; made at `open`, with missing parent folders.
        clock: Tells when things were decided.
        busy_seconds: How long to wait for another process's lock; default 30.
    """

    def __init__(self, path: Path, *, clock: Clock, busy_seconds: float = 30.0) -> None:
        self.path = path
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._opening = asyncio.Lock()
        self._database: Database | None = None
        self._notes = NoteBuffer(self._write_notes, name=path.name)
        self._signal = WriteSignal()

    @property
    def url(self) -> str:
        """Where it is kept."""
        return f"sqlite:///{self.path}"

    async def open(self) -> None:
        """Open, creating and migrating what is needed. Idempotent.

        Raises:
            StorageError: The folder or file cannot be used, or was written by a newer version.
        """
        async with self._opening:
            if self._database is None:
                self._database = await self._opened_database()
                self._notes = NoteBuffer(self._write_notes, name=self.path.name)
                self._signal = WriteSignal()
                self._notes.start()

    async def _opened_database(self) -> Database:
        database = Database(self.path, migrations=migrations(), busy_seconds=self._busy_seconds)
        await database.open()
        with suppress(StorageError):  # another process is busy with it; whoever opens it next may do this
            await database.read(_let_it_shrink)
        return database

    async def close(self) -> None:
        """Write what was noted, then let go. Idempotent."""
        async with self._opening:
            if self._database is not None:
                await self._notes.stop()
                await self._database.close()
                self._database = None

    @property
    def _open_database(self) -> Database:
        if self._database is None:
            raise StorageError(str(self.path), "the ledger is closed", "open it first")
        return self._database

    # --- schedules ---

    async def put_schedule(self, schedule: Schedule, *, on_conflict: OnConflict) -> Schedule:
        """Store a schedule and return it as stored."""
        now = self._clock.now()
        return await self._open_database.write(lambda it: schedule_rows.put_schedule(it, schedule, on_conflict, now))

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """Return one schedule."""
        return await self._open_database.read(lambda it: schedule_rows.get_schedule(it, schedule_id))

    async def list_schedules(self, *, engine: EngineName | None = None, task: str | None = None) -> list[Schedule]:
        """Return schedules by id."""
        return await self._open_database.read(lambda it: schedule_rows.list_schedules(it, engine, task))

    async def schedule_revisions(self, engine: EngineName) -> dict[str, int]:
        """Return the revision of each of the engine's schedules by id."""
        return await self._open_database.read(lambda it: schedule_rows.schedule_revisions(it, engine))

    async def set_paused(self, schedule_id: str, paused: bool, *, next_fire_at: datetime | None) -> Schedule:
        """Pause or resume a schedule."""
        now = self._clock.now()
        return await self._open_database.write(
            lambda it: schedule_rows.set_paused(it, schedule_id, paused, next_fire_at, now)
        )

    async def set_external_id(self, schedule_id: str, external_id: str | None) -> None:
        """Remember the engine's own name for the schedule."""
        await self._open_database.write(lambda it: schedule_rows.set_external_id(it, schedule_id, external_id))

    async def delete_schedule(self, schedule_id: str) -> None:
        """Forget a schedule. What it held is skipped; what somebody has claimed is left to them."""
        now = self._clock.now()
        await self._open_database.write(lambda it: schedule_rows.delete_schedule(it, schedule_id, now))

    # --- occurrences ---

    async def due_schedules(self, engine: EngineName, now: datetime, *, limit: int) -> list[Schedule]:
        """Return active schedules that are due, earliest first."""
        return await self._open_database.read(lambda it: schedule_rows.due_schedules(it, engine, now, limit))

    async def next_due(self, engine: EngineName) -> datetime | None:
        """Return the earliest next fire time of any active schedule."""
        return await self._open_database.read(lambda it: schedule_rows.next_due(it, engine))

    async def advance(self, advances: Sequence[Advance], *, owner: str, lease: timedelta) -> list[Occurrence]:
        """Step schedules past fire times, each only if nobody else did so first."""
        claim = self._claim(owner, lease)
        return await self._open_database.write(lambda it: schedule_rows.advance(it, advances, claim))

    async def mark_dispatched(self, occurrences: Sequence[Occurrence]) -> None:
        """Record that occurrences became the jobs named in their `job_id`."""
        now = self._clock.now()
        await self._open_database.write(lambda it: schedule_rows.mark_dispatched(it, occurrences, now))

    async def release_held(
        self, occurrences: Sequence[Occurrence], *, owner: str, lease: timedelta
    ) -> list[Occurrence]:
        """Claim held occurrences for dispatch."""
        claim = self._claim(owner, lease)
        return await self._open_database.write(lambda it: schedule_rows.release_held(it, occurrences, claim))

    async def has_open_occurrences(self) -> bool:
        """Return whether any occurrence is held, or claimed and not dispatched."""
        return bool(self._open_database.peek(sql("open_occurrences_exist")))

    async def claim_abandoned(self, *, owner: str, lease: timedelta, limit: int) -> list[Occurrence]:
        """Take over claimed occurrences whose lease ran out. Writes only where there are any."""
        claim = self._claim(owner, lease)
        database = self._open_database
        if not await database.read(lambda it: schedule_rows.abandoned_exist(it, claim.now)):
            return []
        return await database.write(lambda it: schedule_rows.claim_abandoned(it, claim, limit))

    async def held_occurrences(self) -> list[Occurrence]:
        """Return every held occurrence, oldest first."""
        return await self._open_database.read(schedule_rows.held_occurrences)

    async def skip_claimed(self, occurrences: Sequence[Occurrence], *, reason: str) -> None:
        """Record that claimed or held occurrences will not run after all."""
        now = self._clock.now()
        await self._open_database.write(lambda it: schedule_rows.skip_claimed(it, occurrences, reason, now))

    def note_skips(self, skips: Sequence[Skip]) -> None:
        """Record fire times that were deliberately not run, soon."""
        _ = self._open_database
        self._notes.add_skips(skips)

    async def list_occurrences(self, schedule_id: str, *, limit: int = 100) -> list[Occurrence]:
        """Return what became of fire times of one schedule, newest first."""
        return await self._open_database.read(lambda it: schedule_rows.list_occurrences(it, schedule_id, limit))

    async def unfinished_jobs(self, schedule_id: str) -> list[str]:
        """Return dispatched jobs without a run that ends them, oldest first."""
        return (await self._unfinished([schedule_id]))[schedule_id]

    async def unfinished_counts(self, schedule_ids: Collection[str]) -> dict[str, int]:
        """Return how many claimed occurrences and dispatched jobs of each schedule have not ended yet."""
        jobs = await self._unfinished(schedule_ids)
        claimed = await self._open_database.read(schedule_rows.claimed_counts)
        return {name: len(found) + claimed.get(name, 0) for name, found in jobs.items()}

    async def _unfinished(self, schedule_ids: Collection[str]) -> dict[str, list[str]]:
        """Note what is found to have ended, so that the next call looks at newer occurrences only."""
        database = self._open_database
        wanted = tuple(schedule_ids)
        unfinished, ended = await database.read(lambda it: schedule_rows.unfinished_jobs(it, wanted))
        if ended:
            await database.write(lambda it: schedule_rows.mark_ended(it, ended), durable=False)
        return unfinished

    # --- runs ---

    async def record_runs(self, runs: Sequence[Run]) -> None:
        """Write runs durably, in one transaction."""
        now_ms = self._clock.now_ms()
        await self._open_database.write(lambda it: run_rows.write_runs(it, runs, now_ms))
        self._signal.notify()

    def note_runs(self, runs: Sequence[Run]) -> None:
        """Write runs soon, in the background."""
        if self._database is None:
            raise StorageError(str(self.path), "the ledger is closed", "open it first")
        self._notes.add_runs(runs)

    async def flush(self) -> None:
        """Return after everything noted before is written.

        Raises:
            StorageError: It cannot be written now; it is kept, and tried again in the background.
        """
        _ = self._open_database
        await self._notes.flush()

    async def list_runs(self, where: RunFilter) -> list[Run]:
        """Return runs, newest first."""
        return await self._open_database.read(lambda it: run_rows.list_runs(it, where))

    async def get_run(self, run_or_job_id: str) -> Run:
        """Return one run by its id, or a job's latest run by the job's id."""
        return await self._open_database.read(lambda it: run_rows.find_run(it, run_or_job_id))

    async def ended_jobs(self, job_ids: Collection[str]) -> dict[str, Run]:
        """Return, for each of these jobs that has ended, the run that ended it."""
        wanted = tuple(job_ids)
        return await self._open_database.read(lambda it: run_rows.ended_jobs(it, wanted))

    async def lost_runs(self, worker_prefix: str) -> list[Run]:
        """Return runs still running in the ledger whose worker starts with this prefix."""
        return await self._open_database.read(lambda it: run_rows.lost_runs(it, worker_prefix))

    # --- between processes ---

    async def changed(self, *, within: timedelta) -> None:
        """Return once this process has written runs, or after `within`."""
        _ = self._open_database
        self._notes.hurry()
        await self._signal.wait(within)

    async def version(self) -> int:
        """Return a number that changes whenever any process wrote to the ledger."""
        return self._open_database.version()

    async def steering_version(self) -> int:
        """Return a number that changes with every schedule stored or removed, and every request."""
        return self._open_database.peek(sql("steering_version"))

    async def ask(self, request: Request) -> None:
        """Leave a request for whichever process holds its target."""
        await self._open_database.write(lambda it: run_rows.add_request(it, request))

    async def take_requests(self, kind: RequestKind, targets: Collection[str] | None) -> list[Request]:
        """Remove and return requests of this kind for these targets. Writes only where there are any."""
        database = self._open_database
        found = await database.read(lambda it: run_rows.requests_for(it, kind, targets))
        return await database.write(lambda it: run_rows.remove_requests(it, found)) if found else []

    async def report_process(self, process: ProcessInfo) -> None:
        """Say that this process is alive, soon."""
        _ = self._open_database
        self._notes.add_process(process)

    async def forget_process(self, process_id: str) -> None:
        """Say that this process has stopped."""
        self._notes.forget_process(process_id)
        statement = sql("delete_process")
        await self._open_database.write(lambda it: it.execute(statement, {"id": process_id}) and None)

    async def list_processes(self, *, seen_since_ms: int) -> list[ProcessInfo]:
        """Return processes that reported since then."""
        return await self._open_database.read(lambda it: run_rows.list_processes(it, seen_since_ms))

    # --- retention ---

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` rows decided before `before`, and give their space back."""
        before_us = to_us(before)
        return await self._open_database.write(partial(run_rows.prune, before_us=before_us, limit=limit), durable=False)

    # --- inside ---

    def _claim(self, owner: str, lease: timedelta) -> Claim:
        return Claim(owner=owner, now=self._clock.now(), lease=lease)

    async def _write_notes(self, notes: Notes) -> None:
        now = self._clock.now()
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> None:
            run_rows.write_runs(connection, notes.runs.values(), now_ms)
            if notes.skips:
                schedule_rows.write_skips(connection, notes.skips, now)
            if notes.processes:
                run_rows.write_processes(connection, notes.processes.values())

        await self._open_database.write(write, durable=False)
        if notes.runs:
            self._signal.notify()


def _let_it_shrink(connection: Connection) -> None:
    """Have a new file keep track of its free pages, so that deleting gives space back.

    That is decided when a file is made, or by rewriting it, which is done only while it is next to empty.
    """
    mode = connection.execute("PRAGMA auto_vacuum").fetchone()[0]
    if mode != _INCREMENTAL and connection.execute("PRAGMA page_count").fetchone()[0] < _NEW_FILE_PAGES:
        connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
        connection.execute("VACUUM")
