"""The in-process engine: APScheduler says when, the policies say whether, and the executor runs it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from mahavishnu.engines.base import EngineHealth
from mahavishnu.engines.local.occurrences import Entry, Occurrences
from mahavishnu.engines.local.plugins import Timetable
from mahavishnu.engines.local.runner import Runner
from mahavishnu.engines.local.watching import Watcher
from mahavishnu.errors import CapabilityError, EngineUnavailableError
from mahavishnu.execution.attempt import Attempt
from mahavishnu.history.store import HistoryStore, Request, RequestKind
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id
from mahavishnu.model.job import EnqueuedJob, JobRequest
from mahavishnu.model.schedule import Schedule, ScheduleState
from mahavishnu.model.trigger import TriggerKind
from mahavishnu.triggers import build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.clock import Clock
    from mahavishnu.model.run import Run
    from mahavishnu.observability.events import Events
    from mahavishnu.workflows.registry import Workflow, WorkflowRegistry

__all__ = ["LocalEngine"]

_MILLISECOND = timedelta(milliseconds=1)
_TICK = timedelta(microseconds=1)
_LARGE_CORRECTION = timedelta(hours=3)
"""Cron's own limit: a clock put back by less repeats no job; by more, it counts as a new time altogether."""


class LocalEngine:
    """Fires schedules in this process, on its event loop; sync functions run in threads.

    Every occurrence ends in the ledger: as runs, or as skipped with the reason. Rows are written in the
    background; about three seconds of them are lost if the process is killed. A run that takes longer than half a
    second is written as running at once, so that a killed process leaves a trace of it.

    Args:
        history: The ledger.
        events: Told of runs and skipped occurrences.
        registry: Workflows known by key.
        clock: Source of time.
        owner: This process's id.
        threads: Most sync functions at once.
    """

    name = EngineName.APSCHEDULER

    def __init__(
        self,
        *,
        history: HistoryStore,
        events: Events,
        registry: WorkflowRegistry,
        clock: Clock,
        owner: str,
        threads: int,
    ) -> None:
        self._history = history
        self._registry = registry
        self._clock = clock
        self._owner = owner
        self._entries: dict[str, Entry] = {}
        self._workflows: dict[str, Workflow] = {}
        self._timetable: Timetable | None = None
        self.runner: Runner = Runner(
            history=history,
            events=events,
            registry=registry,
            clock=clock,
            owner=owner,
            threads=threads,
            on_end=lambda entry: self._occurrences.ended(entry),
        )
        self._occurrences = Occurrences(history=history, events=events, runner=self.runner, clock=clock)
        self._watcher = Watcher(self, history=history, clock=clock)

    # --- lifecycle ---

    async def start(self) -> None:
        """Begin to fire the schedules applied so far. Idempotent."""
        if self._timetable is not None:
            return
        self.runner.start()
        self._timetable = Timetable(self._occurrences.fire, clock=self._clock, after_round=self._watcher.nudge)
        self._timetable.start()
        for entry in self._entries.values():
            entry.is_open = True
            self._arm(entry)
        await self._watcher.start()

    async def stop(self, grace: timedelta) -> None:
        """Fire no more, let running functions finish for at most `grace`, then interrupt them. Idempotent."""
        await self._watcher.stop()
        timetable, self._timetable = self._timetable, None
        if timetable is None:
            return
        timetable.stop()
        now = self._clock.now()
        for entry in self._entries.values():
            entry.applied_at = now
            self._shut(entry, "the process stopped while it waited for the occurrence before it")
        await self.runner.stop(grace)
        await asyncio.sleep(0)  # APScheduler shuts down in the loop's next turn
        await self._history.flush()

    # --- schedules ---

    def adopt(self, schedule_id: str, workflow: Workflow) -> None:
        """Say which function the schedule applied next under this id runs; it need not be registered."""
        self._workflows[schedule_id] = workflow

    async def apply(self, schedule: Schedule) -> Schedule:
        """Fire this schedule from now on, if the function is known to this process.

        One that is fired already keeps its place in time where its trigger is the same, and its unfinished
        occurrences count on.
        """
        workflow = self._workflow_of(schedule)
        if workflow is not None:
            self._take(schedule, workflow)
        return replace(schedule, next_fire_at=None)

    def _workflow_of(self, schedule: Schedule) -> Workflow | None:
        adopted = self._workflows.pop(schedule.id, None)
        if adopted is not None:
            return adopted
        known = self._entries.get(schedule.id)
        if known is not None and known.schedule.task == schedule.task:
            return known.workflow
        return self._registry.get(schedule.task) if schedule.task in self._registry else None

    def _take(self, schedule: Schedule, workflow: Workflow) -> None:
        entry = self._entries.get(schedule.id)
        if entry is None:
            entry = self._entries[schedule.id] = Entry(schedule, workflow, self._clock.now())
            self._arm(entry)
            return
        before = entry.schedule
        entry.take(schedule, workflow)
        if (before.trigger, before.state) != (schedule.trigger, schedule.state):
            entry.applied_at = self._clock.now()
            entry.is_open = schedule.state is ScheduleState.ACTIVE
            if not entry.is_open:
                self._occurrences.skip_held(entry, "the schedule was paused while it waited")
            self._arm(entry)

    def confirm(self, stored: Schedule) -> None:
        """Say that the ledger has the schedule that was applied last, in this revision."""
        entry = self._entries.get(stored.id)
        if entry is not None:
            self._take(stored, entry.workflow)

    async def withdraw(self, schedule: Schedule) -> None:
        """Stop firing this schedule. Idempotent."""
        self.forget(schedule.id)

    def forget(self, schedule_id: str) -> None:
        """Stop firing the schedule of this id, if this process does. What runs is left to finish."""
        entry = self._entries.pop(schedule_id, None)
        self._workflows.pop(schedule_id, None)
        if entry is not None:
            self._shut(entry, "the schedule was removed while it waited for the occurrence before it")
        if self._timetable is not None:
            self._timetable.drop(schedule_id)

    def _shut(self, entry: Entry, reason: str) -> None:
        entry.is_open = False
        self._occurrences.skip_held(entry, reason)

    def revisions(self) -> dict[str, int]:
        """Return the revision of each schedule of this process that is known to be in the ledger, by id."""
        return {name: it.schedule.revision for name, it in self._entries.items() if it.schedule.revision}

    @property
    def schedule_ids(self) -> list[str]:
        """The ids of the schedules this process fires."""
        return list(self._entries)

    def _arm(self, entry: Entry) -> None:
        """Have the schedule told of when it is due, from now on."""
        timetable, schedule = self._timetable, entry.schedule
        if timetable is None:
            return
        trigger = build(schedule.trigger)
        first = trigger.next_after(self._clock.now() - _TICK)
        if first is None:  # its last time passed between being applied and now: late, but not lost
            first = trigger.next_after(entry.applied_at)
        if first is None or schedule.state is not ScheduleState.ACTIVE:
            timetable.drop(schedule.id)
        else:
            timetable.put(schedule.id, entry, trigger, first)

    def clock_was_set(self, jump: timedelta) -> None:
        """Go by the clock as it shows now.

        Where it went forward, what is overdue fires at once, by its misfire policy. Where it went back, intervals go
        on from now; cron and date schedules fire no time twice, unless it went back by three hours or more.

        Args:
            jump: By how much; negative if it went back.
        """
        if self._timetable is None:
            return
        if jump < timedelta(0):
            for entry in self._entries.values():
                if entry.schedule.trigger.kind is TriggerKind.INTERVAL or -jump >= _LARGE_CORRECTION:
                    self._arm(entry)
        self._timetable.wake()

    # --- single jobs ---

    async def submit(self, requests: Sequence[JobRequest]) -> list[EnqueuedJob]:
        """Run jobs in this process, now; those of a schedule that another process fires are left to that one.

        Raises:
            CapabilityError: A job has an option that needs a durable queue.
            EngineUnavailableError: The engine is not running.
            WorkflowNotFoundError: A workflow is not registered here.
        """
        attempts = [self._attempt(request) for request in requests if request.schedule_id is None]
        for attempt in attempts:
            self.runner.run(attempt)
        singles = iter(attempts)
        accepted: list[EnqueuedJob] = []
        for request in requests:
            job_id = next(singles).job_id if request.schedule_id is None else await self._submit_scheduled(request)
            accepted.append(EnqueuedJob(job_id=job_id, workflow=request.task, provider="", queue=""))
        return accepted

    async def _submit_scheduled(self, request: JobRequest) -> str:
        job_id = request.job_id or new_id(self._clock.now_ms())
        schedule_id = request.schedule_id or ""
        if not self.run_scheduled(schedule_id, job_id):
            await self._ask(RequestKind.RUN_NOW, schedule_id, job_id)
        return job_id

    def run_scheduled(self, schedule_id: str, job_id: str | None) -> bool:
        """Fire a schedule of this process once, now; returns whether it is one, and the engine is running."""
        entry = self._entries.get(schedule_id)
        if entry is None or self._timetable is None:
            return False
        self._occurrences.run_once(entry, job_id)
        return True

    def _attempt(self, request: JobRequest) -> Attempt:
        if self._timetable is None:
            raise EngineUnavailableError(
                self.name, "it is not running in this process", "call this inside `async with scheduler.lifecycle()`"
            )
        _refuse_durable(request)
        options = request.options
        return Attempt(
            job_id=request.job_id or new_id(self._clock.now_ms()),
            task=request.task,
            engine=EngineName.APSCHEDULER,
            context=request.context,
            workflow=self._registry.get(request.task),
            max_attempts=options.max_attempts,
            timeout_ms=None if options.timeout is None else max(1, options.timeout // _MILLISECOND),
            repo=request.repo,
            commit_sha=request.commit_sha,
            parent_id=request.parent_id,
            labels=dict(options.labels) if options.labels else None,
        )

    async def cancel(self, run: Run) -> bool:
        """Stop a running job, in this process or by asking the one that runs it."""
        if self.runner.cancel(run.job_id):
            return True
        if run.ends_job or run.worker == self._owner:
            return False
        await self._ask(RequestKind.CANCEL_RUN, run.job_id, None)
        return True

    async def _ask(self, kind: RequestKind, target: str, job_id: str | None) -> None:
        now_ms = self._clock.now_ms()
        await self._history.ask(Request(id=new_id(now_ms), kind=kind, target=target, asked_ms=now_ms, job_id=job_id))

    async def health(self) -> EngineHealth:
        """Say whether it runs in this process, and how many schedules it fires."""
        running = self._timetable is not None
        detail = f"{len(self._entries)} schedules, {self.runner.active} running" if running else "not running here"
        return EngineHealth(
            engine=self.name, enabled=True, ready=running, detail=detail, version=version("apscheduler")
        )


def _refuse_durable(request: JobRequest) -> None:
    who, able = "engine 'apscheduler'", ["oneiric"]
    if request.options.schedule_time is not None:
        raise CapabilityError(who, "schedule_time", "its jobs live only as long as the process", able)
    if request.options.idempotency_key is not None:
        raise CapabilityError(who, "idempotency_key", "it keeps no record of keys", able)
