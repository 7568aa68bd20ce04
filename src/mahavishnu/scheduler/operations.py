"""Looking at and acting on what runs: the same calls for every engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mahavishnu.errors import CapabilityError, RunNotFoundError, ScheduleNotFoundError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import EnqueuedJob, JobRequest
from mahavishnu.model.run import Run, RunFilter, run_id
from mahavishnu.model.schedule import Occurrence, Schedule, ScheduleState
from mahavishnu.model.states import RunState
from mahavishnu.queues.base import DeadLetterFilter, QueueStats
from mahavishnu.triggers import build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from datetime import datetime

    from mahavishnu.queues.queue import DeadJob, FoundJob
    from mahavishnu.scheduler.runtime import Runtime

__all__ = ["Operations"]


class Operations:
    """Listings and actions of the front door. They need no running engine, only the ledger and the queues."""

    _runtime: Runtime

    # --- schedules ---

    async def list_schedules(self, *, engine: str | None = None, task: str | None = None) -> list[Schedule]:
        """Return the schedules of all engines, by id, each with its next fire time.

        Args:
            engine: Only those on this engine.
            task: Only those of this task.
        """
        history = await self._runtime.open_history()
        found = await history.list_schedules(engine=None if engine is None else EngineName(engine), task=task)
        return [self._with_next(schedule) for schedule in found]

    async def get_schedule(self, id: str) -> Schedule:  # the public contract names it so
        """Return one schedule.

        Raises:
            ScheduleNotFoundError: There is none; the nearest id is named.
        """
        history = await self._runtime.open_history()
        return self._with_next(await self._known(history.get_schedule(id), id))

    async def list_occurrences(self, id: str, *, limit: int = 100) -> list[Occurrence]:
        """Return what became of a schedule's fire times, newest first: held, dispatched or skipped with the reason."""
        history = await self._runtime.open_history()
        await history.flush()
        return await history.list_occurrences(id, limit=limit)

    async def pause_schedule(self, id: str) -> Schedule:
        """Stop a schedule from firing until it is resumed. Idempotent. Running occurrences finish."""
        return await self._set_paused(id, True)

    async def resume_schedule(self, id: str) -> Schedule:
        """Let a paused schedule fire again from its next time on; times passed meanwhile are not made up."""
        return await self._set_paused(id, False)

    async def remove_schedule(self, id: str) -> None:
        """Delete a schedule. Its runs stay in the ledger; running occurrences finish.

        Raises:
            ScheduleNotFoundError: There is none of this id.
        """
        history = await self._runtime.open_history()
        schedule = await self.get_schedule(id)
        await self._runtime.engine(schedule.engine).withdraw(schedule)
        await history.delete_schedule(id)

    async def run_now(self, id: str) -> EnqueuedJob:
        """Run a schedule's task once, now, beside its regular times; also while it is paused."""
        schedule = await self.get_schedule(id)
        request = JobRequest(
            task=schedule.task,
            context=schedule.context,
            options=schedule.options,
            schedule_id=schedule.id,
            provider=schedule.provider,
        )
        return (await self._runtime.engine(schedule.engine).submit([request]))[0]

    async def _set_paused(self, schedule_id: str, paused: bool) -> Schedule:
        history = await self._runtime.open_history()
        schedule = await self.get_schedule(schedule_id)
        keeps_next = schedule.engine is EngineName.ONEIRIC and not paused  # the others tell their next time themselves
        next_fire_at = build(schedule.trigger).next_after(self._runtime.clock.now()) if keeps_next else None
        stored = await history.set_paused(schedule_id, paused, next_fire_at=next_fire_at)
        await self._runtime.engine(schedule.engine).apply(stored)
        return self._with_next(stored)

    async def _known(self, reading: Awaitable[Schedule], schedule_id: str) -> Schedule:
        try:
            return await reading
        except ScheduleNotFoundError:
            history = await self._runtime.open_history()
            known = [schedule.id for schedule in await history.list_schedules()]
            raise ScheduleNotFoundError(schedule_id, known) from None

    def _with_next(self, schedule: Schedule) -> Schedule:
        """Fill in the next fire time where the ledger does not keep it, and say so where there is none to come."""
        if schedule.next_fire_at is not None or schedule.state is not ScheduleState.ACTIVE:
            return schedule
        next_fire_at = build(schedule.trigger).next_after(self._runtime.clock.now())
        state = ScheduleState.ENDED if next_fire_at is None else schedule.state
        return replace(schedule, next_fire_at=next_fire_at, state=state)

    # --- runs ---

    async def list_runs(
        self,
        *,
        schedule_id: str | None = None,
        task: str | None = None,
        engine: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        job_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Run]:
        """Return runs of all engines, newest first; each argument narrows the list."""
        history = await self._runtime.open_history()
        await history.flush()
        where = RunFilter(
            schedule_id=schedule_id,
            task=task,
            engine=None if engine is None else EngineName(engine),
            state=None if state is None else RunState(state),
            job_id=job_id,
            parent_id=parent_id,
            since=since,
            limit=limit,
        )
        return await history.list_runs(where)

    async def get_run(self, id: str) -> Run:
        """Return one run by its id, or the latest run of a job by the job's id; a job still waiting counts too.

        Raises:
            RunNotFoundError: Neither the ledger nor a queue knows the id.
        """
        history = await self._runtime.open_history()
        await history.flush()
        try:
            return await history.get_run(id)
        except RunNotFoundError:
            waiting = await self._find_waiting(id.partition(".")[0])
            if waiting is None:
                raise
            return waiting

    async def cancel_run(self, id: str) -> bool:
        """Cancel a job by its id or a run's id: taken out of its queue, or stopped while it runs.

        Returns:
            Whether there was anything to cancel. A running job is stopped by the process that runs it, within
            about a second; its run then shows `cancelled`.
        """
        waiting = await self._find_waiting(id.partition(".")[0])
        run = waiting or await self.get_run(id)
        if run.ends_job:
            return False
        return await self._runtime.engine(run.engine).cancel(run)

    async def _find_waiting(self, job_id: str) -> Run | None:
        for provider in await self._runtime.open_queues():
            try:
                found = await provider.find([job_id])
            except CapabilityError:
                continue
            if found:
                return await self._as_run(provider.provider_name, found[0])
        return None

    async def _as_run(self, provider: str, found: FoundJob) -> Run:
        """Describe a job in a queue: as the ledger last saw it while it runs, else as waiting."""
        history = await self._runtime.open_history()
        envelope, message = found.envelope, found.message
        attempt = 1 if envelope is None else envelope.attempt
        for run in await history.list_runs(RunFilter(job_id=message.id, limit=1)):
            if run.state is RunState.RUNNING:
                return run
        now_ms = self._runtime.clock.now_ms()
        due_ms = message.due_ms or 0
        return Run(
            id=run_id(message.id, attempt),
            job_id=message.id,
            task="(unreadable)" if envelope is None else envelope.workflow,
            engine=EngineName.ONEIRIC,
            state=RunState.SCHEDULED if due_ms > now_ms else RunState.QUEUED,
            attempt=attempt,
            schedule_id=None if envelope is None else envelope.schedule_id,
            scheduled_for_ms=message.due_ms,
            provider=provider,
        )

    # --- queues ---

    async def queue_stats(self, provider: str | None = None) -> list[QueueStats]:
        """Count waiting, running and dead jobs of each queue of a provider; `None`: the default one."""
        return await (await self._runtime.open_queue(provider)).stats()

    async def list_dead_letters(
        self,
        provider: str | None = None,
        *,
        queue: str | None = None,
        workflow: str | None = None,
        reason: str | None = None,
        ids: Sequence[str] | None = None,
        limit: int | None = 100,
    ) -> list[DeadJob]:
        """Return parked jobs, oldest first, each with its reason, last error and earlier attempts."""
        where = _letters(workflow, reason, ids, limit)
        return await (await self._runtime.open_queue(provider)).dead_letters(queue, where)

    async def redrive(
        self,
        provider: str | None = None,
        *,
        queue: str | None = None,
        workflow: str | None = None,
        reason: str | None = None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Move parked jobs back to their queues, to be tried afresh; returns their ids."""
        where = _letters(workflow, reason, ids, limit)
        return await (await self._runtime.open_queue(provider)).redrive(queue, where)

    async def discard_dead_letters(
        self,
        provider: str | None = None,
        *,
        queue: str | None = None,
        workflow: str | None = None,
        reason: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """Delete parked jobs for good; returns how many."""
        where = _letters(workflow, reason, ids, None)
        return await (await self._runtime.open_queue(provider)).discard(queue, where)

    async def purge_queue(self, queue: str, provider: str | None = None) -> int:
        """Delete every waiting job of a queue; running ones and dead letters stay. Returns how many."""
        return await (await self._runtime.open_queue(provider)).purge(queue)


def _letters(
    workflow: str | None, reason: str | None, ids: Sequence[str] | None, limit: int | None
) -> DeadLetterFilter:
    return DeadLetterFilter(ids=None if ids is None else tuple(ids), workflow=workflow, reason=reason, limit=limit)
