"""An in-process engine on a clock that stands still, and a ledger in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.engines.local import LocalEngine
from mahavishnu.history.memory import MemoryHistory
from mahavishnu.model.engine import EngineName
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy
from mahavishnu.model.run import RunFilter
from mahavishnu.model.schedule import OnConflict, Schedule
from mahavishnu.observability.events import Events, OccurrenceSkipped, RunFinished
from mahavishnu.testing.clock import FakeClock
from mahavishnu.triggers import IntervalTrigger
from mahavishnu.workflows.registry import Workflow, WorkflowRegistry

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Bench:
    """An engine, its ledger, and what it reported."""

    def __init__(self, history, clock):
        self.clock = clock
        self.history = history
        self.events = Events()
        self.registry = WorkflowRegistry()
        self.skips = []
        self.finished = []
        self.events.listen(OccurrenceSkipped, self.skips.append)
        self.events.listen(RunFinished, lambda event: self.finished.append(event.run))
        self.engine = LocalEngine(
            history=history, events=self.events, registry=self.registry, clock=clock, owner="host:1:a", threads=4
        )

    def schedule(self, *, trigger=None, misfire="latest", grace=60, overlap="skip", id="tick", **facts):
        """Return a schedule that fires every second, unless it is given another trigger."""
        rule = trigger or IntervalTrigger.every(SECOND, anchor=START)
        return Schedule(
            id=id,
            task="job",
            engine=EngineName.APSCHEDULER,
            trigger=rule.spec(),
            misfire=MisfirePolicy.parse(misfire, grace=timedelta(seconds=grace)),
            overlap=OverlapPolicy.parse(overlap),
            **facts,
        )

    async def apply(self, function, *, options=None, **facts):
        """Have the engine fire a function; returns the schedule."""
        schedule = self.schedule(**facts)
        self.engine.adopt(schedule.id, Workflow.of("job", function, **(options or {"max_attempts": 1})))
        return await self.engine.apply(schedule)

    async def store(self, function, **facts):
        """Have the engine fire a function, and the ledger hold the schedule, as the front door does."""
        applied = await self.apply(function, **facts)
        stored = await self.history.put_schedule(applied, on_conflict=OnConflict.REPLACE)
        self.engine.confirm(stored)
        return stored

    async def pass_time(self, seconds):
        """Let the clock go on in one leap, as after a blocked loop, and the engine do what is due then."""
        self.clock.advance(timedelta(seconds=seconds))
        self.engine.clock_was_set(timedelta(seconds=seconds))
        await self.settle()

    async def tick(self, times=1):
        """Let that many seconds pass, one by one."""
        for _ in range(times):
            await self.pass_time(1)

    async def settle(self):
        """Give the loop the turns that a round of short jobs takes."""
        for _ in range(8):
            await asyncio.sleep(0)

    async def until(self, holds):
        """Let the loop run until something holds."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110  # the engine raises no event for tests
                await asyncio.sleep(0.001)

    async def runs(self):
        """Return the runs in the ledger, oldest first."""
        return list(reversed(await self.history.list_runs(RunFilter(limit=10_000))))

    async def skipped(self):
        """Return `(seconds after the start, how many, why)` of what the ledger has as skipped, oldest first."""
        found = await self.history.list_occurrences("tick", limit=10_000)
        return [((it.fire_at - START) // SECOND, it.count, it.reason) for it in reversed(found)]

    @asynccontextmanager
    async def running(self, grace=5):
        """Run the engine inside the block."""
        await self.engine.start()
        await self.settle()
        try:
            yield self
        finally:
            await self.engine.stop(timedelta(seconds=grace))


@pytest.fixture
def clock():
    """A clock that stands at the beginning of 2026."""
    return FakeClock(START)


@pytest.fixture
async def bench(clock):
    """An engine, not started, with a ledger that is open."""
    history = MemoryHistory(clock=clock)
    await history.open()
    made = Bench(history, clock)
    yield made
    await made.engine.stop(timedelta(0))
    await history.close()
