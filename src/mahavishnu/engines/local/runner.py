"""Run in-process jobs: inline where they do not wait, retried where their workflow says so, recorded always."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.engines.local.occurrences import Entry
from mahavishnu.errors import StorageError
from mahavishnu.execution.attempt import Attempt, StopReason
from mahavishnu.execution.executor import Executor
from mahavishnu.execution.outcomes import Settlement, Verb, running_run
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import Events, RunFinished

if TYPE_CHECKING:
    from datetime import timedelta

    from mahavishnu.clock import Clock
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["Runner"]

OnEnd = Callable[[Entry], None]
NOTE_RUNNING_SECONDS = 0.5
KILL_SECONDS = 3.0
LAST_SECONDS = 1.0


class _Job(msgspec.Struct, eq=False, gc=False):
    """An attempt to run, and the schedule it is for; collected without the cycle detector, for it is in no cycle."""

    attempt: Attempt
    entry: Entry | None


class Runner:
    """Runs attempts on the event loop and writes what became of them to the ledger.

    Jobs that are due together share a task for as long as none of them waits: a task costs as much as a short
    job. When one does wait, the next turn of the loop gives those behind it a task of their own.

    Args:
        history: The ledger.
        events: Told of starts and ends.
        registry: Workflows known by key.
        clock: Source of time.
        owner: This process's id, for the ledger.
        threads: Most sync functions at once.
        on_end: Told of each schedule whose job has ended.
    """

    def __init__(
        self,
        *,
        history: HistoryStore,
        events: Events,
        registry: WorkflowRegistry,
        clock: Clock,
        owner: str,
        threads: int,
        on_end: OnEnd,
    ) -> None:
        self._history = history
        self._events = events
        self._registry = registry
        self._clock = clock
        self._owner = owner
        self._threads = threads
        self._on_end = on_end
        self._executor: Executor | None = None
        self._is_stopping = False
        self._pending: deque[_Job] = deque()
        self._current: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: dict[asyncio.TimerHandle, _Job] = {}
        self._is_starting = False
        self._noting: asyncio.TimerHandle | None = None
        self._noted: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    @property
    def active(self) -> int:
        """How many jobs wait for something right now."""
        return 0 if self._executor is None else len(self._executor.active)

    @property
    def job_ids(self) -> set[str]:
        """The ids of the jobs that are running, or wait for their next attempt."""
        return {*self._current, *(job.attempt.job_id for job in self._later.values())}

    def start(self) -> None:
        """Be ready to run. Idempotent."""
        if self._executor is None:
            self._is_stopping = False
            self._executor = Executor(
                worker=self._owner,
                events=self._events,
                registry=self._registry,
                clock=self._clock,
                threads=self._threads,
                owns_tasks=True,
                on_abandoned=self._on_abandoned,
            )

    async def stop(self, grace: timedelta) -> None:
        """Let running jobs finish for at most `grace`, then interrupt them. What has not begun is cancelled.

        Takes at most four seconds more than `grace`; what ignores the interruption for three is abandoned.
        """
        executor = self._executor
        if executor is None:
            return
        self._is_stopping = True
        self._cancel_later()
        if not await self._drained(grace.total_seconds()):
            executor.stop_all(StopReason.SHUTDOWN)
            if not await self._drained(KILL_SECONDS):
                executor.abandon_all()
                await self._drained(LAST_SECONDS)
        self._executor = None
        if self._noting is not None:
            self._noting.cancel()
            self._noting = None
        if self._writing is not None:
            await self._writing
        executor.close()

    async def _drained(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        while self._current or self._pending:
            left = give_up - loop.time()
            if left <= 0:
                return False
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)
        return True

    def run(self, attempt: Attempt, entry: Entry | None = None) -> None:
        """Run an attempt in the loop's next turn."""
        self._pending.append(_Job(attempt, entry))
        if not self._is_starting:
            self._start_task()

    def run_later(self, attempt: Attempt, delay_seconds: float, entry: Entry | None = None) -> None:
        """Run an attempt after a while, unless the process stops before."""
        job = _Job(attempt, entry)
        if self._is_stopping:
            self._never_ran(job, "the process stopped before it could begin")
            return
        handle: asyncio.TimerHandle

        def begin() -> None:
            del self._later[handle]
            self.run(attempt, entry)

        handle = asyncio.get_running_loop().call_later(delay_seconds, begin)
        self._later[handle] = job

    def cancel(self, job_id: str) -> bool:
        """Stop a job that is running or waits for its next attempt; returns whether there was one."""
        for handle, job in list(self._later.items()):
            if job.attempt.job_id == job_id:
                handle.cancel()
                del self._later[handle]
                self._never_ran(job, "cancelled on request")
                return True
        return self._executor is not None and self._executor.stop_jobs({job_id}, StopReason.CANCEL) > 0

    # --- sharing tasks ---

    def _start_task(self) -> None:
        self._is_starting = True
        task = asyncio.get_running_loop().create_task(self._run_pending(), name="mahavishnu-run")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look_after(self) -> None:
        """Give what is pending a task of its own: whoever had it before is waiting for something."""
        if self._pending and not self._is_starting:
            self._start_task()
        if self._current and self._noting is None:
            self._noting = asyncio.get_running_loop().call_later(NOTE_RUNNING_SECONDS, self._note_running)

    async def _run_pending(self) -> None:
        pending, current, executor = self._pending, self._current, self._executor
        assert executor is not None, "nothing is run before start"
        self._is_starting = False
        asyncio.get_running_loop().call_soon(self._look_after)
        while pending:
            job = pending.popleft()
            job_id = job.attempt.job_id
            current[job_id] = job
            try:
                settlement = await executor.execute(job.attempt)
            except BaseException:  # the interpreter is told to end; whoever waits for this job must not wait for ever
                self._forget(job)
                raise
            if settlement is not None:
                self._settle(job, settlement)

    def _forget(self, job: _Job) -> None:
        if self._current.pop(job.attempt.job_id, None) is not None and job.entry is not None:
            self._on_end(job.entry)

    # --- outcomes ---

    def _settle(self, job: _Job, settlement: Settlement) -> None:
        self._history.note_runs((settlement.run,))
        job_id = job.attempt.job_id
        del self._current[job_id]
        if self._noted:
            self._noted.discard(job_id)
        if settlement.verb is Verb.REPEAT and settlement.due_ms is not None:
            delay = max(0.0, (settlement.due_ms - self._clock.now_ms()) / 1000)
            self.run_later(_next_attempt(job.attempt, settlement), delay, job.entry)
        elif job.entry is not None:
            self._on_end(job.entry)

    def _on_abandoned(self, attempt: Attempt, settlement: Settlement) -> None:
        job = self._current.get(attempt.job_id)
        if job is not None and job.attempt is attempt:
            self._settle(job, settlement)

    def _cancel_later(self) -> None:
        later, self._later = self._later, {}
        for handle, job in later.items():
            handle.cancel()
            self._never_ran(job, "the process stopped before it could begin")

    def _never_ran(self, job: _Job, reason: str) -> None:
        now_ms = self._clock.now_ms()
        run = running_run(job.attempt, now_ms, self._owner)
        run = msgspec.structs.replace(run, state=RunState.CANCELLED, finished_at_ms=now_ms, reason=reason)
        self._history.note_runs((run,))
        self._events.emit(RunFinished(run))
        if job.entry is not None:
            self._on_end(job.entry)

    # --- long jobs show up while they run ---

    def _note_running(self) -> None:
        self._noting = None
        executor = self._executor
        if executor is None or not executor.active:
            return
        before_ms = self._clock.now_ms() - round(NOTE_RUNNING_SECONDS * 500)
        fresh = [
            running_run(running.attempt, running.started_ms, self._owner)
            for running in executor.active
            if running.started_ms <= before_ms and running.attempt.job_id not in self._noted
        ]
        if fresh:
            self._noted.update(run.job_id for run in fresh)
            self._history.note_runs(fresh)
            self._write_now()
        self._noting = asyncio.get_running_loop().call_later(NOTE_RUNNING_SECONDS, self._note_running)

    def _write_now(self) -> None:
        """Have the ledger written soon: should the process be killed, it shall say what was running."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._flush(), name="mahavishnu-note-running")

    async def _flush(self) -> None:
        with suppress(StorageError):  # the notes are kept and tried again; the ledger's own log tells
            await self._history.flush()


def _next_attempt(attempt: Attempt, settlement: Settlement) -> Attempt:
    again = settlement.next_attempt == attempt.attempt  # a snooze: the same attempt, delivered once more
    return msgspec.structs.replace(
        attempt, attempt=settlement.next_attempt, delivery=attempt.delivery + 1 if again else 1
    )
