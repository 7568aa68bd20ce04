"""The ledger forgets what is old, gives the space back, and lets others write meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mahavishnu.errors import ConfigurationError
from mahavishnu.history.retention import RetentionPolicy, prune_all
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.run import RunFilter
from mahavishnu.testing.clock import FakeClock
from mahavishnu.testing.history_samples import a_run

RUNS = 6000


@pytest.mark.parametrize("wrong", [{"keep": timedelta(0)}, {"keep": timedelta(days=-1)}, {"batch": 0}])
def test_policies_that_cannot_work_are_refused(wrong):
    """Keeping nothing is not retention."""
    with pytest.raises(ConfigurationError):
        RetentionPolicy(**wrong)


@pytest.fixture
def clock():
    """A clock that stands still."""
    return FakeClock()


async def _filled(path, clock):
    store = SqliteHistory(path, clock=clock)
    await store.open()
    await store.record_runs([a_run(f"j{n}", traceback="x" * 300) for n in range(RUNS)])
    return store


async def test_pruned_space_is_given_back(tmp_path, clock):
    """The file is a fraction of what it was, without being rewritten."""
    path = tmp_path / "ledger.db"
    store = await _filled(path, clock)
    await store.close()
    before = path.stat().st_size
    clock.advance(timedelta(days=31))
    await store.open()
    assert await prune_all(store, RetentionPolicy(), clock) == RUNS
    await store.close()
    assert path.stat().st_size < before / 5


async def test_others_write_while_it_is_pruned(tmp_path, clock):
    """A write during pruning is done long before pruning is."""
    store = await _filled(tmp_path / "ledger.db", clock)
    clock.advance(timedelta(days=31))
    pruning = asyncio.create_task(prune_all(store, RetentionPolicy(batch=100), clock))
    for n in range(10):
        await store.record_runs([a_run(f"new{n}", at=clock.now())])
    assert not pruning.done()
    assert await pruning == RUNS
    assert len(await store.list_runs(RunFilter())) == 10
    await store.close()
