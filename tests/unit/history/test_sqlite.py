"""What the ledger in a SQLite file does beyond the contract: sharing, locking, plans, and bad files."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from mahavishnu.errors import StorageError
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.history.statements import sql
from mahavishnu.history.waiting import wait_for_jobs
from mahavishnu.model.run import RunFilter
from mahavishnu.model.schedule import OnConflict
from mahavishnu.model.states import RunState
from mahavishnu.testing.clock import FakeClock
from mahavishnu.testing.history_samples import a_run, a_schedule


@pytest.fixture
def path(tmp_path):
    """Where the ledger is."""
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
async def store(path):
    """An open ledger with little patience for locks."""
    store = SqliteHistory(path, clock=FakeClock(), busy_seconds=0.05)
    await store.open()
    yield store
    await store.close()


async def test_two_processes_worth_of_stores_share_a_file(store, path):
    """What one writes the other reads, and its version tells."""
    other = SqliteHistory(path, clock=FakeClock())
    await other.open()
    before = await other.version()
    await store.record_runs([a_run("j")])
    assert await other.version() != before
    assert (await other.get_run("j")).state is RunState.SUCCEEDED
    await other.close()


async def test_waiting_sees_jobs_that_another_process_ends(store, path):
    """The change counter of the file is enough."""
    other = SqliteHistory(path, clock=FakeClock())
    await other.open()
    waiting = asyncio.create_task(wait_for_jobs(store, ["j"], timeout=timedelta(seconds=20)))
    await asyncio.sleep(0)
    await other.record_runs([a_run("j")])
    assert list(await waiting) == ["j"]
    await other.close()


async def test_notes_wait_for_a_locked_file(store, path):
    """Noting never raises; flush says why it cannot; nothing is lost when the lock is gone."""
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    store.note_runs([a_run("j")])
    with pytest.raises(StorageError, match="locked") as raised:
        await store.flush()
    assert raised.value.retryable
    with pytest.raises(StorageError, match="locked"):
        await store.record_runs([a_run("k")])
    locker.execute("COMMIT")
    locker.close()
    await store.flush()
    assert [it.job_id for it in await store.list_runs(RunFilter())] == ["j"]


async def test_notes_are_written_at_close(path):
    """Closing is enough; a second life of the store reads them."""
    store = SqliteHistory(path, clock=FakeClock())
    await store.open()
    store.note_runs([a_run("j")])
    await store.close()
    await store.open()
    assert (await store.get_run("j.1")).job_id == "j"
    await store.close()


async def test_failed_call_leaves_the_file_as_it_was(store):
    """A schedule that cannot be stored does not spoil the transaction it shares with others."""
    good = [store.put_schedule(a_schedule(f"s{n}"), on_conflict=OnConflict.ERROR) for n in range(3)]
    bad = store.put_schedule(a_schedule("bad", context={"x": object()}), on_conflict=OnConflict.ERROR)
    results = await asyncio.gather(*good, bad, return_exceptions=True)
    assert [type(it).__name__ for it in results] == ["Schedule", "Schedule", "Schedule", "ContextError"]
    assert [it.id for it in await store.list_schedules()] == ["s0", "s1", "s2"]


async def test_new_file_gives_space_back(store, path):
    """It tracks its free pages from the beginning."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()


async def test_many_stores_may_open_a_new_file_at_once(path):
    """None of them fails, and each can write."""
    stores = [SqliteHistory(path, clock=FakeClock()) for _ in range(8)]
    await asyncio.gather(*(it.open() for it in stores))
    await asyncio.gather(*(it.record_runs([a_run(f"j{n}")]) for n, it in enumerate(stores)))
    assert len(await stores[0].list_runs(RunFilter())) == len(stores)
    await asyncio.gather(*(it.close() for it in stores))


async def test_file_of_something_else_is_refused(path):
    """The error names the file and what to do."""
    path.parent.mkdir()
    path.write_bytes(b"this is no database at all, and long enough to be taken for one" * 20)
    with pytest.raises(StorageError, match="not a database"):
        await SqliteHistory(path, clock=FakeClock()).open()


@pytest.mark.parametrize(
    ("statement", "used"),
    [
        ("list_runs", "runs_by_time"),
        ("list_runs_not_succeeded", "runs_not_succeeded"),
        ("list_runs_of_parent", "runs_by_parent"),
        ("list_runs_of_job", "runs_by_foreign_job"),
        ("ended_job", "runs_by_foreign_job"),
        ("running_runs", "runs_not_succeeded"),
        ("unfinished_jobs", "occurrences_unfinished"),
        ("held_occurrences", "occurrences_open"),
        ("claim_abandoned", "occurrences_open"),
        ("due_schedules", "schedules_due"),
        ("next_due", "schedules_due"),
        ("prune_occurrences", "occurrences_decided"),
        ("prune_runs", "runs_by_time"),
    ],
)
async def test_statements_use_their_index(store, path, statement, used):
    """A listing that fell back to reading the whole table would be slow only once the ledger is large."""
    connection = sqlite3.connect(path)
    text = sql(statement)
    names = {word.strip("(),;") for word in text.split() if word.startswith(":")}
    parameters = dict.fromkeys((name[1:] for name in names), 0)
    parameters |= dict.fromkeys(("job_id", "limit", "since_ms", "owner", "lease_until_us", "now_us", "state"), 0)
    plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters))
    connection.close()
    assert used in plan
    assert "SCAN runs\n" not in plan + "\n"
