"""A queue, a ledger and a worker on them, in one process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.memory import MemoryHistory
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.ids import new_id
from mahavishnu.model.job import BackoffPolicy
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.observability.events import Events
from mahavishnu.queues.envelope import Envelope
from mahavishnu.queues.providers.memory import MemoryQueueProvider
from mahavishnu.queues.providers.sqlite import SqliteQueueProvider
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.worker.worker import Worker
from mahavishnu.workflows.encoding import encode_context
from mahavishnu.workflows.registry import WorkflowRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import pytest

    from mahavishnu.history.store import HistoryStore

SOON = BackoffPolicy(initial=timedelta(milliseconds=5), maximum=timedelta(milliseconds=10))


class Place:
    """A queue, a ledger, a registry and the worker on them."""

    def __init__(self, provider: Callable[[], Any], history: HistoryStore, *, shared: bool) -> None:
        self.events = Events()
        self.registry = WorkflowRegistry()
        self.history = history
        self.provider = provider()
        self.queue = Queue(self.provider, clock=SYSTEM_CLOCK, events=self.events)
        self._make = (lambda: Queue(provider(), clock=SYSTEM_CLOCK, events=Events())) if shared else None
        self.worker: Worker | None = None
        self._run: asyncio.Task[None] | None = None

    def workflow(self, function: Callable[..., Any], **options: Any) -> None:
        """Register a function under its name, with short backoff."""
        self.registry.register(function.__name__, function, **{"backoff": SOON, **options})

    async def start(self, **options: Any) -> Worker:
        """Start a worker."""
        worker = Worker(self.queue, self.registry, self.history, events=self.events, make_queue=self._make, **options)
        self.worker, self._run = worker, asyncio.create_task(worker.run())
        return worker

    async def stop(self) -> None:
        """Stop the worker and wait for its end."""
        if self.worker is not None and self._run is not None:
            self.worker.stop()
            await self._run
            self.worker = self._run = None

    async def enqueue(self, workflow: str, *, priority: int = 5, due_ms: int | None = None, **fields: Any) -> str:
        """Store one job; `context` and the other fields of the envelope by name."""
        data = encode_context(workflow, fields.pop("context", {}))
        envelope = Envelope(id=new_id(SYSTEM_CLOCK.now_ms()), workflow=workflow, context=data, **fields)
        await self.queue.enqueue([PreparedJob(envelope=envelope, priority=priority, due_ms=due_ms)])
        return envelope.id

    async def runs(self, job_id: str) -> list[Run]:
        """Return a job's runs, oldest first."""
        runs = await self.history.list_runs(RunFilter(job_id=job_id))
        return sorted(runs, key=lambda run: (run.attempt, run.delivery))

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(20):
            while not await holds():  # noqa: ASYNC110  # the worker raises no event for tests
                await asyncio.sleep(0.005)

    async def until_ended(self, job_id: str) -> list[Run]:
        """Wait until a job has ended and left its queue; returns its runs."""

        async def has_ended() -> bool:
            ended = any(run.ends_job for run in await self.runs(job_id))
            return ended and not await self.queue.find([job_id])

        await self.until(has_ended)
        return await self.runs(job_id)

    async def until_runs(self, job_id: str, count: int) -> list[Run]:
        """Wait until a job has so many runs; returns them."""

        async def are_there() -> bool:
            return len(await self.runs(job_id)) >= count

        await self.until(are_there)
        return await self.runs(job_id)


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty place on each embedded provider."""
    if request.param == "memory":
        place = Place(lambda: MemoryQueueProvider(clock=SYSTEM_CLOCK), MemoryHistory(clock=SYSTEM_CLOCK), shared=False)
    else:
        place = Place(
            lambda: SqliteQueueProvider(tmp_path / "queue.db", clock=SYSTEM_CLOCK),
            SqliteHistory(tmp_path / "ledger.db", clock=SYSTEM_CLOCK),
            shared=True,
        )
    await place.queue.open()
    await place.history.open()
    yield place
    await place.stop()
    await place.queue.close()
    await place.history.close()
