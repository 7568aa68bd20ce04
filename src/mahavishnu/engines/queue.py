"""The durable engine: jobs on queues, and recurring jobs fired by whichever scheduler holds the occurrence."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.engines.base import EngineHealth
from mahavishnu.engines.firing import Firing
from mahavishnu.errors import MahavishnuError
from mahavishnu.history.store import HistoryStore, Request, RequestKind
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id
from mahavishnu.model.instants import to_due_ms, to_ms
from mahavishnu.model.job import EnqueuedJob, JobRequest
from mahavishnu.model.schedule import Occurrence, Schedule, ScheduleState
from mahavishnu.model.states import RunState
from mahavishnu.queues.envelope import Envelope
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.triggers import build
from mahavishnu.workflows.encoding import encode_context

if TYPE_CHECKING:
    from datetime import timedelta

    from mahavishnu.clock import Clock
    from mahavishnu.model.run import Run
    from mahavishnu.observability.events import Events
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["OpenQueue", "QueueEngine"]

OpenQueue = Callable[[str | None], Awaitable[Queue]]
"""Returns the open queue of a provider; `None` means the default provider."""


class QueueEngine:
    """Engine over the durable queues.

    `submit` and `apply` need no start: they write to the queue and the ledger, which is all it takes for a
    worker and a scheduler elsewhere to do the rest. `start` makes this process one of the schedulers.

    Args:
        history: The ledger.
        open_queue: Finds the queue of a provider, opening it on first use.
        registry: Workflows known to this process; contexts are checked against their signatures.
        events: Told of skipped occurrences.
        clock: Source of time.
        owner: This process's id.
        max_payload_bytes: Largest encoded context accepted.
    """

    name = EngineName.ONEIRIC

    def __init__(
        self,
        *,
        history: HistoryStore,
        open_queue: OpenQueue,
        registry: WorkflowRegistry,
        events: Events,
        clock: Clock,
        owner: str,
        max_payload_bytes: int,
    ) -> None:
        self._history = history
        self._open_queue = open_queue
        self._registry = registry
        self._clock = clock
        self._max_payload_bytes = max_payload_bytes
        self._firing = Firing(history=history, dispatch=self._dispatch, events=events, clock=clock, owner=owner)

    async def start(self) -> None:
        """Open the default provider and begin to fire recurring jobs."""
        await self._open_queue(None)
        await self._firing.start()

    async def stop(self, grace: timedelta) -> None:
        """Fire no more. An enqueue under way is finished within `grace`, or taken over by the next scheduler."""
        async with asyncio.timeout(grace.total_seconds()):
            await self._firing.stop()

    async def apply(self, schedule: Schedule) -> Schedule:
        """Check that the schedule's jobs can be sent, and say when it fires first.

        The workflow need not be registered in this process: a command line without the app may pause a schedule.

        Raises:
            ContextError: The context cannot be sent.
            UnknownProviderError: There is no such provider.
        """
        queue = await self._open_queue(schedule.provider)
        request = JobRequest(task=schedule.task, context=schedule.context, options=schedule.options)
        _encode(request, self._clock.now_ms(), self._max_payload_bytes)
        paused = schedule.state is ScheduleState.PAUSED
        next_fire_at = None if paused else build(schedule.trigger).next_after(self._clock.now())
        self._firing.wake()
        return replace(schedule, provider=queue.provider_name, next_fire_at=next_fire_at)

    async def withdraw(self, schedule: Schedule) -> None:
        """Nothing to undo: a schedule that is not in the ledger does not fire."""

    async def submit(self, requests: Sequence[JobRequest]) -> list[EnqueuedJob]:
        """Enqueue jobs durably, in one batch per provider.

        The job of a schedule was checked when the schedule was made, any other is checked here.

        Raises:
            WorkflowNotFoundError: A workflow is not registered here.
            ContextError: A context does not fit its workflow, cannot be encoded, or is too large.
            QueueConnectionError: A provider cannot be reached; the call may be repeated.
        """
        prepared = [self.prepare(request) for request in requests]
        places: dict[str | None, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            places[request.provider].append(place)
        done: dict[int, EnqueuedJob] = {}
        for provider, here in places.items():
            queue = await self._open_queue(provider)
            done.update(zip(here, await queue.enqueue([prepared[place] for place in here]), strict=True))
        return [done[place] for place in range(len(requests))]

    async def cancel(self, run: Run) -> bool:
        """Take a waiting job out of its queue, or ask the worker that runs it to stop it."""
        queue = await self._open_queue(run.provider)
        if await queue.cancel([run.job_id]):
            now_ms = self._clock.now_ms()
            await self._history.record_runs(
                [
                    msgspec.structs.replace(
                        run, state=RunState.CANCELLED, finished_at_ms=now_ms, reason="cancelled while waiting"
                    )
                ]
            )
            return True
        if run.state is not RunState.RUNNING and not await queue.find([run.job_id]):
            return False
        now_ms = self._clock.now_ms()
        await self._history.ask(
            Request(id=new_id(now_ms), kind=RequestKind.CANCEL_RUN, target=run.job_id, asked_ms=now_ms)
        )
        return True

    async def health(self) -> EngineHealth:
        """Say whether the default provider answers."""
        try:
            async with asyncio.timeout(2):
                queue = await self._open_queue(None)
                stats = await queue.stats()
        except (MahavishnuError, TimeoutError) as exc:
            detail = str(exc) or "the default provider did not answer within 2 s"
            return EngineHealth(engine=self.name, enabled=True, ready=False, detail=detail)
        waiting = sum(s.ready + s.delayed for s in stats)
        return EngineHealth(
            engine=self.name,
            enabled=True,
            ready=True,
            detail=f"{queue.provider_name}: {waiting} waiting, {sum(s.in_flight for s in stats)} running,"
            f" {sum(s.dead for s in stats)} dead letters",
            facts={"provider": queue.provider_name, "url": queue.url},
        )

    def prepare(self, request: JobRequest) -> PreparedJob:
        """Check a request against the workflow's signature and encode it."""
        if request.schedule_id is None:
            self._registry.get(request.task).bind(request.context)
        return _encode(request, self._clock.now_ms(), self._max_payload_bytes)

    async def _dispatch(self, schedule: Schedule, occurrences: Sequence[Occurrence]) -> None:
        """Enqueue claimed occurrences; a copy that is there already is recognised by id and key."""
        queue = await self._open_queue(schedule.provider)
        jobs = [self._occurrence_job(schedule, occurrence) for occurrence in occurrences]
        await queue.enqueue(jobs)

    def _occurrence_job(self, schedule: Schedule, occurrence: Occurrence) -> PreparedJob:
        """Build the job of an occurrence.

        The workflow need not be known to a scheduler process: it was checked when the schedule was made, and a
        worker that does not know it parks the job.
        """
        fire_ms = to_ms(occurrence.fire_at)
        options = replace(schedule.options, idempotency_key=f"occurrence:{schedule.id}:{fire_ms}", schedule_time=None)
        request = JobRequest(
            task=schedule.task,
            context=schedule.context,
            options=options,
            job_id=occurrence.job_id,
            schedule_id=schedule.id,
            scheduled_for=occurrence.fire_at,
        )
        return _encode(request, self._clock.now_ms(), self._max_payload_bytes)


def _encode(request: JobRequest, now_ms: int, max_payload_bytes: int) -> PreparedJob:
    options = request.options
    due_ms = None if options.schedule_time is None else to_due_ms(options.schedule_time)
    fire_at = request.scheduled_for
    envelope = Envelope(
        id=request.job_id or new_id(now_ms),
        workflow=request.task,
        context=encode_context(request.task, request.context, max_bytes=max_payload_bytes),
        max_attempts=options.max_attempts,
        timeout_ms=None if options.timeout is None else round(options.timeout.total_seconds() * 1000),
        enqueued_ms=now_ms,
        due_ms=due_ms,
        schedule_id=request.schedule_id,
        fire_ms=None if fire_at is None else to_ms(fire_at),
        idempotency_key=options.idempotency_key,
        labels=dict(options.labels) or None,
        repo=request.repo,
        parent_id=request.parent_id,
        commit_sha=request.commit_sha,
    )
    return PreparedJob(
        envelope=envelope,
        queue=options.queue,
        priority=options.priority,
        due_ms=due_ms,
        idempotency_key=options.idempotency_key,
    )
