"""Values that the ledger's contract suite is made with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mahavishnu.history.store import Advance, HistoryStore
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.schedule import Occurrence, OnConflict, Schedule
from mahavishnu.model.states import FINAL_RUN_STATES, RunState, can_move
from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from mahavishnu.clock import Clock

__all__ = [
    "EVERY_MINUTE",
    "LEASE",
    "MINUTE",
    "START",
    "HistoryStoreTests",
    "a_run",
    "a_schedule",
    "claimed",
    "named",
    "reachable",
    "states_of",
]

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LEASE = timedelta(seconds=30)
HOURLY = TriggerSpec(kind=TriggerKind.CRON, fields={"expression": "0 * * * *", "timezone": "Europe/Berlin"})
EVERY_MINUTE = TriggerSpec(kind=TriggerKind.INTERVAL, fields={"interval_us": 60_000_000, "start": START.isoformat()})


def a_run(job_id: str, state: RunState = RunState.SUCCEEDED, *, at: datetime = START, **facts: Any) -> Run:
    """Return a run that began at `at`, and ended a second later if it has ended."""
    attempt, delivery = facts.setdefault("attempt", 1), facts.setdefault("delivery", 1)
    facts.setdefault("id", run_id(job_id, attempt, delivery))
    facts.setdefault("task", "report")
    facts.setdefault("engine", EngineName.ONEIRIC)
    facts.setdefault("started_at_ms", to_ms(at))
    if state in FINAL_RUN_STATES:
        facts.setdefault("finished_at_ms", to_ms(at) + 1000)
    return Run(job_id=job_id, state=state, **facts)


def a_schedule(schedule_id: str = "nightly", **facts: Any) -> Schedule:
    """Return an hourly schedule that is due a minute after the suite's clock starts."""
    facts.setdefault("task", "report")
    facts.setdefault("engine", EngineName.ONEIRIC)
    facts.setdefault("trigger", HOURLY)
    facts.setdefault("next_fire_at", START + MINUTE)
    return Schedule(id=schedule_id, **facts)


def reachable(old: RunState) -> set[RunState]:
    """Return every state that can follow `old`, directly or not."""
    direct = {new for new in RunState if can_move(old, new)}
    return direct.union(*(reachable(new) for new in direct))


def states_of(occurrences: Sequence[Occurrence]) -> list[tuple[datetime, str]]:
    """Return fire time and state of each."""
    return [(it.fire_at, it.state.value) for it in occurrences]


def named(occurrence: Occurrence, job_id: str) -> Occurrence:
    """Return the occurrence as the job it became."""
    return Occurrence(
        schedule_id=occurrence.schedule_id,
        fire_at=occurrence.fire_at,
        state=occurrence.state,
        until=occurrence.until,
        owner=occurrence.owner,
        revision=occurrence.revision,
        job_id=job_id,
    )


async def claimed(store: HistoryStore, *times: datetime) -> list[Occurrence]:
    """Return the claims on these fire times of a schedule made for them."""
    stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
    step = Advance(schedule=stored, dispatch=times, next_fire_at=times[-1] + MINUTE)
    return await store.advance([step], owner="me", lease=LEASE)


class HistoryStoreTests:
    """What every part of the suite needs: a clock that stands, and an open store."""

    pytestmark: pytest.MarkDecorator = pytest.mark.asyncio

    def make_store(self, folder: Path, clock: Clock) -> HistoryStore:
        """Return a store that is not open; two of one folder share what they keep, unless it is in memory only."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        """A clock that stands at the beginning of 2026."""
        return FakeClock(START)

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path, clock: FakeClock) -> AsyncIterator[HistoryStore]:
        """An open store, closed afterwards."""
        store = self.make_store(tmp_path, clock)
        await store.open()
        yield store
        await store.close()
