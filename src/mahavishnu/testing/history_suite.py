"""What every ledger store must do, as tests: inherit `HistoryStoreSuite` and say how your store is made.

```python
class TestMyStore(HistoryStoreSuite):
    def make_store(self, folder, clock):
        return MyStore(folder / "ledger", clock=clock)
```

Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.errors import StorageError
from mahavishnu.history.retention import RetentionPolicy, prune_all
from mahavishnu.history.store import HistoryStore, ProcessInfo, Request, RequestKind, Skip
from mahavishnu.history.waiting import wait_for_jobs
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.run import RunFilter
from mahavishnu.model.schedule import OnConflict
from mahavishnu.model.states import RunState
from mahavishnu.testing.history_samples import (
    MINUTE,
    START,
    a_run,
    a_schedule,
    claimed,
    named,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mahavishnu.testing.clock import FakeClock
from mahavishnu.testing.history_suite_runs import RunTests
from mahavishnu.testing.history_suite_schedules import ScheduleTests

__all__ = ["HistoryStoreSuite"]


class HistoryStoreSuite(ScheduleTests, RunTests):
    """The contract of `HistoryStore`. A subclass overrides `make_store`."""

    # --- life ---

    async def test_opening_and_closing_twice_is_fine(self, tmp_path: Path, clock: FakeClock) -> None:
        """Open and close are idempotent, and close without open does nothing."""
        store = self.make_store(tmp_path, clock)
        await store.close()
        await asyncio.gather(store.open(), store.open())
        await store.record_runs([a_run("j")])
        await store.close()
        await store.close()

    async def test_calls_after_close_are_refused(self, store: HistoryStore) -> None:
        """A closed store says so, whatever is asked of it."""
        await store.close()
        for call in (
            store.list_schedules(),
            store.put_schedule(a_schedule(), on_conflict=OnConflict.KEEP),
            store.record_runs([a_run("j")]),
            store.schedule_revisions(EngineName.ONEIRIC),
            store.flush(),
            store.list_runs(RunFilter()),
            store.unfinished_jobs("nightly"),
            store.version(),
            store.steering_version(),
            store.has_open_occurrences(),
            store.changed(within=MINUTE),
            store.prune(before=START, limit=1),
        ):
            with pytest.raises(StorageError, match="closed"):
                await call
        with pytest.raises(StorageError, match="closed"):
            store.note_runs([a_run("j")])
        with pytest.raises(StorageError, match="closed"):
            store.note_skips([])

    async def test_store_names_its_place(self, store: HistoryStore) -> None:
        """The URL says which kind of store it is."""
        assert ":" in store.url

    # --- waiting ---

    async def test_version_changes_with_every_write(self, store: HistoryStore) -> None:
        """It stands still while nothing is written."""
        first = await store.version()
        await store.list_runs(RunFilter())
        assert await store.version() == first
        await store.record_runs([a_run("j")])
        assert await store.version() != first

    async def test_steering_version_changes_with_schedules_and_requests_only(self, store: HistoryStore) -> None:
        """Storing, pausing, removing and asking show; runs, skips and what changes nothing do not."""
        versions = [await store.steering_version()]
        await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        versions.append(await store.steering_version())
        await store.set_paused("nightly", True, next_fire_at=None)
        versions.append(await store.steering_version())
        await store.ask(Request(id="1", kind=RequestKind.RUN_NOW, target="nightly", asked_ms=1))
        versions.append(await store.steering_version())
        await store.delete_schedule("nightly")
        versions.append(await store.steering_version())
        assert len(set(versions)) == len(versions)
        await store.record_runs([a_run("j", schedule_id="nightly")])
        store.note_skips([Skip(schedule_id="nightly", first_ms=1, last_ms=1, count=1, reason="busy")])
        await store.flush()
        await store.take_requests(RequestKind.RUN_NOW, None)
        assert await store.steering_version() == versions[-1]

    async def test_waiting_for_jobs_ends_with_the_last(self, store: HistoryStore) -> None:
        """Jobs that have ended already count; runs that end nothing do not."""
        await store.record_runs([a_run("a")])
        waiting = asyncio.create_task(wait_for_jobs(store, ["a", "b"], timeout=timedelta(seconds=20)))
        await store.record_runs([a_run("b", RunState.LOST)])
        assert not waiting.done()
        store.note_runs([a_run("b", delivery=2)])
        assert {job: run.delivery for job, run in (await waiting).items()} == {"a": 1, "b": 2}

    async def test_waiting_for_jobs_ends_when_time_is_up(self, store: HistoryStore) -> None:
        """What has ended by then is returned."""
        await store.record_runs([a_run("a")])
        found = await wait_for_jobs(store, ["a", "b"], timeout=timedelta(milliseconds=30))
        assert list(found) == ["a"]
        assert await wait_for_jobs(store, []) == {}

    # --- between processes ---

    async def test_requests_are_taken_once(self, store: HistoryStore) -> None:
        """By kind and target, oldest first; asking twice with one id is asking once."""
        asked = [
            Request(id="2", kind=RequestKind.RUN_NOW, target="s1", asked_ms=2, job_id="j"),
            Request(id="1", kind=RequestKind.RUN_NOW, target="s2", asked_ms=1),
            Request(id="3", kind=RequestKind.CANCEL_RUN, target="s1", asked_ms=3),
            Request(id="2", kind=RequestKind.RUN_NOW, target="s1", asked_ms=2, job_id="j"),
        ]
        for request in asked:
            await store.ask(request)
        assert await store.take_requests(RequestKind.RUN_NOW, ["s9"]) == []
        assert await store.take_requests(RequestKind.RUN_NOW, ["s1", "s2"]) == [asked[1], asked[0]]
        assert await store.take_requests(RequestKind.RUN_NOW, None) == []
        assert await store.take_requests(RequestKind.CANCEL_RUN, None) == [asked[2]]

    async def test_processes_report_themselves(self, store: HistoryStore) -> None:
        """The latest report counts; silent ones are left out, and stopped ones forgotten."""
        first = ProcessInfo(id="h:1", kind="worker", started_ms=1, seen_ms=10, details={"queues": "default"})
        second = ProcessInfo(id="h:2", kind="scheduler", started_ms=2, seen_ms=20)
        await store.report_process(ProcessInfo(id="h:1", kind="worker", started_ms=1, seen_ms=5))
        await store.report_process(first)
        await store.report_process(second)
        await store.flush()
        assert await store.list_processes(seen_since_ms=0) == [first, second]
        assert await store.list_processes(seen_since_ms=11) == [second]
        await store.report_process(second)
        await store.forget_process("h:2")
        await store.flush()
        assert await store.list_processes(seen_since_ms=0) == [first]

    # --- retention ---

    async def test_old_entries_are_pruned_and_others_stay(self, store: HistoryStore, clock: FakeClock) -> None:
        """What ended, was decided, asked or seen before goes; what is live or open stays however old."""
        dispatched, _ = await claimed(store, START + MINUTE, START + MINUTE * 2)
        await store.mark_dispatched([named(dispatched, "j1")])
        await store.record_runs([a_run("old"), a_run("live", RunState.RUNNING), a_run("queued", RunState.QUEUED)])
        await store.ask(Request(id="1", kind=RequestKind.RUN_NOW, target="s", asked_ms=to_ms(START)))
        await store.report_process(ProcessInfo(id="p", kind="up", started_ms=0, seen_ms=to_ms(START)))
        await store.flush()
        clock.advance(timedelta(days=31))
        await store.record_runs([a_run("new", at=clock.now()), a_run("long", at=START, finished_at_ms=clock.now_ms())])
        assert await prune_all(store, RetentionPolicy(), clock) == 4
        assert {it.job_id for it in await store.list_runs(RunFilter())} == {"live", "queued", "new", "long"}
        assert [it.state.value for it in await store.list_occurrences("nightly")] == ["claimed"]
        assert await store.take_requests(RequestKind.RUN_NOW, None) == []
        assert await store.list_processes(seen_since_ms=0) == []

    async def test_prune_deletes_at_most_so_many(self, store: HistoryStore) -> None:
        """The number returned says whether there is more."""
        await store.record_runs([a_run(f"j{n}") for n in range(25)])
        before = START + timedelta(days=1)
        assert [await store.prune(before=before, limit=10) for _ in range(4)] == [10, 10, 5, 0]
