"""Recurring durable jobs: what fires after downtime, what waits, what is skipped, and that each has one outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mahavishnu.engines.firing import CLAIM_LEASE, Firing, occurrence_job_id
from mahavishnu.errors import QueueConnectionError
from mahavishnu.history.memory import MemoryHistory
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.engine import EngineName
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.schedule import Occurrence, OnConflict, Schedule
from mahavishnu.model.states import OccurrenceState, RunState
from mahavishnu.observability.events import Events, OccurrenceSkipped
from mahavishnu.testing import FakeClock
from mahavishnu.triggers import IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from mahavishnu.history.store import HistoryStore

START = datetime(2026, 2, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Queue:
    """Stands for the queue: remembers what was dispatched, and can be away."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.is_away = False

    async def dispatch(self, schedule: Schedule, occurrences: Sequence[Occurrence]) -> None:
        """Take jobs, or fail like a queue whose server is down."""
        if self.is_away:
            raise QueueConnectionError("test", "test://", "it is away")
        self.jobs += [occurrence.job_id or "" for occurrence in occurrences]


class World:
    """A ledger, a queue, a clock and one scheduler on them."""

    def __init__(self, history: HistoryStore, clock: FakeClock) -> None:
        self.history = history
        self.clock = clock
        self.queue = Queue()
        self.events = Events()
        self.firing = self.another("one")

    def another(self, owner: str) -> Firing:
        """Return one more scheduler on the same ledger."""
        return Firing(
            history=self.history, dispatch=self.queue.dispatch, events=self.events, clock=self.clock, owner=owner
        )

    async def schedule(self, **changes: Any) -> Schedule:
        """Store a schedule that fires every minute from START."""
        made = Schedule(
            id="s",
            task="t",
            engine=EngineName.ONEIRIC,
            trigger=IntervalTrigger.every(MINUTE, anchor=START).spec(),
            next_fire_at=START + MINUTE,
        )
        return await self.history.put_schedule(replace(made, **changes), on_conflict=OnConflict.REPLACE)

    async def end(self, fire_at: datetime) -> None:
        """Record that the job of a fire time has succeeded."""
        job_id = occurrence_job_id("s", fire_at)
        run = Run(id=run_id(job_id, 1), job_id=job_id, task="t", engine=EngineName.ONEIRIC, state=RunState.SUCCEEDED)
        await self.history.record_runs([run])

    async def outcomes(self) -> dict[int, tuple[str, int]]:
        """Return, by minutes after START, the state of each occurrence and how many fire times it covers."""
        await self.history.flush()
        found = await self.history.list_occurrences("s", limit=1000)
        return {round((o.fire_at - START) / MINUTE): (o.state.value, o.count) for o in found}


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world on each kind of ledger."""
    clock = FakeClock(START)
    history: HistoryStore
    if request.param == "memory":
        history = MemoryHistory(clock=clock)
    else:
        history = SqliteHistory(tmp_path / "ledger.db", clock=clock)
    await history.open()
    yield World(history, clock)
    await history.close()


async def test_an_occurrence_becomes_one_job_however_many_schedulers_look(world: World) -> None:
    """Two schedulers find the same fire time due; one job is made of it."""
    await world.schedule()
    other = world.another("two")
    world.clock.advance(MINUTE)
    assert await world.firing.fire_due() + await other.fire_due() == 1
    assert world.queue.jobs == [occurrence_job_id("s", START + MINUTE)]
    assert await world.outcomes() == {1: ("dispatched", 1)}
    stored = await world.history.get_schedule("s")
    assert (stored.last_fire_at, stored.next_fire_at) == (START + MINUTE, START + 2 * MINUTE)


@pytest.mark.parametrize("policy", ["latest", "skip"])
async def test_downtime_is_made_up_as_the_misfire_policy_says(world: World, policy: str) -> None:
    """Ten minutes of downtime: the newest is on time; every missed fire time is accounted for, with a reason."""
    await world.schedule(misfire=MisfirePolicy.parse(policy, grace=timedelta(seconds=1)))
    seen: list[OccurrenceSkipped] = []
    world.events.listen(OccurrenceSkipped, seen.append)
    world.clock.advance(10 * MINUTE)
    assert await world.firing.fire_due() == 1
    outcomes = await world.outcomes()
    assert sum(count for _, count in outcomes.values()) == 10
    assert {minute for minute, (state, _) in outcomes.items() if state == "dispatched"} == {10}
    assert sum(event.count for event in seen) == 9
    assert all(event.reason for event in seen)


async def test_all_missed_ones_run_one_after_the_other(world: World) -> None:
    """Misfire `all` with overlap `skip` makes up every fire time, each when the one before it has ended."""
    await world.schedule(misfire=MisfirePolicy.parse("all"))
    world.clock.advance(3 * MINUTE)
    assert await world.firing.fire_due() == 1
    assert await world.outcomes() == {1: ("dispatched", 1), 2: ("held", 1), 3: ("held", 1)}
    for minute in (1, 2):
        assert await world.firing.fire_due() == 0, "nothing starts beside an unfinished one"
        await world.end(START + minute * MINUTE)
        assert await world.firing.fire_due() == 1
    assert world.queue.jobs == [occurrence_job_id("s", START + n * MINUTE) for n in (1, 2, 3)]


async def test_a_fire_time_during_an_unfinished_job_is_skipped_with_the_reason(world: World) -> None:
    """Overlap `skip`: the second minute finds the first one's job unfinished."""
    await world.schedule()
    for _ in range(2):
        world.clock.advance(MINUTE)
        await world.firing.fire_due()
    assert await world.outcomes() == {1: ("dispatched", 1), 2: ("skipped", 1)}
    (skipped,) = [o for o in await world.history.list_occurrences("s") if o.state is OccurrenceState.SKIPPED]
    assert "unfinished" in skipped.reason
    await world.end(START + MINUTE)
    world.clock.advance(MINUTE)
    assert await world.firing.fire_due() == 1


async def test_queue_one_lets_one_wait(world: World) -> None:
    """Overlap `queue_one`: the second waits, the third is skipped, the second runs when the first ends."""
    await world.schedule(overlap=OverlapPolicy.QUEUE_ONE)
    for _ in range(3):
        world.clock.advance(MINUTE)
        await world.firing.fire_due()
    assert await world.outcomes() == {1: ("dispatched", 1), 2: ("held", 1), 3: ("skipped", 1)}
    await world.end(START + MINUTE)
    assert await world.firing.fire_due() == 1
    assert (await world.outcomes())[2] == ("dispatched", 1)


async def test_allow_starts_up_to_the_limit(world: World) -> None:
    """Overlap `allow` with a limit of two: the third waits for nobody and is skipped."""
    await world.schedule(overlap=OverlapPolicy.ALLOW, max_running=2)
    for _ in range(3):
        world.clock.advance(MINUTE)
        await world.firing.fire_due()
    assert await world.outcomes() == {1: ("dispatched", 1), 2: ("dispatched", 1), 3: ("skipped", 1)}


async def test_what_a_dead_scheduler_claimed_is_enqueued_by_the_next(world: World) -> None:
    """A claim whose owner never came back is taken over after its lease, as the same job."""
    await world.schedule()
    world.clock.advance(MINUTE)
    world.queue.is_away = True
    assert await world.firing.fire_due() == 0
    assert await world.outcomes() == {1: ("claimed", 1)}
    world.queue.is_away = False
    other = world.another("two")
    assert await other.fire_due() == 0, "the lease is still the first one's"
    world.clock.advance(CLAIM_LEASE)
    assert await other.fire_due() == 1
    assert world.queue.jobs == [occurrence_job_id("s", START + MINUTE)]


async def test_a_schedule_removed_between_claim_and_dispatch_ends_as_skipped(world: World) -> None:
    """The claimed fire time of a removed schedule gets its outcome and a reason."""
    await world.schedule()
    world.clock.advance(MINUTE)
    world.queue.is_away = True
    await world.firing.fire_due()
    await world.history.delete_schedule("s")
    world.clock.advance(CLAIM_LEASE)
    world.queue.is_away = False
    assert await world.firing.fire_due() == 0
    (occurrence,) = await world.history.list_occurrences("s")
    assert occurrence.state is OccurrenceState.SKIPPED
    assert "removed" in occurrence.reason


async def test_a_paused_schedule_fires_nothing_and_makes_nothing_up(world: World) -> None:
    """Minutes passed while paused are not occurrences."""
    await world.schedule()
    await world.history.set_paused("s", True, next_fire_at=None)
    world.clock.advance(5 * MINUTE)
    assert await world.firing.fire_due() == 0
    await world.history.set_paused("s", False, next_fire_at=START + 6 * MINUTE)
    world.clock.advance(MINUTE)
    assert await world.firing.fire_due() == 1
    assert await world.outcomes() == {6: ("dispatched", 1)}


async def test_a_date_fires_once_and_ends(world: World) -> None:
    """After its only time a schedule is over."""
    trigger = IntervalTrigger.every(MINUTE, anchor=START + MINUTE, end=START + MINUTE)
    await world.schedule(trigger=trigger.spec())
    world.clock.advance(MINUTE)
    assert await world.firing.fire_due() == 1
    world.clock.advance(10 * MINUTE)
    assert await world.firing.fire_due() == 0
    assert (await world.history.get_schedule("s")).next_fire_at is None


async def test_a_year_of_downtime_is_one_span_and_one_job(world: World) -> None:
    """Half a million missed minutes are told as spans, not as rows, and quickly."""
    await world.schedule()
    world.clock.advance(timedelta(days=365))
    assert await world.firing.fire_due() == 1
    outcomes = await world.outcomes()
    assert sum(count for _, count in outcomes.values()) == 365 * 24 * 60
    assert len(outcomes) < 5
