"""What other processes ask through the ledger is done, and clocks that are set are noticed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.engines.local import watching
from mahavishnu.engines.local.watching import Watcher
from mahavishnu.errors import StorageError
from mahavishnu.history.store import Request, RequestKind
from mahavishnu.model.job import JobRequest
from mahavishnu.model.run import Run
from mahavishnu.model.schedule import OnConflict
from mahavishnu.model.states import RunState

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    monkeypatch.setattr(watching, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SHORTEST_SECONDS", 0.005)


async def _noop():
    return None


async def _forever():
    await asyncio.Event().wait()


async def _looked(bench):
    """Wait for a whole look after now."""
    async with asyncio.timeout(10):
        for _ in range(2):
            await asyncio.sleep(0.02)
    await bench.settle()


async def test_pause_and_resume_from_elsewhere_take_effect(bench):
    """Whoever wrote it to the ledger."""
    await bench.store(_noop)
    async with bench.running():
        await bench.history.set_paused("tick", True, next_fire_at=None)
        await bench.until(lambda: bench.engine.revisions() == {"tick": 2})
        before = len(await bench.runs())
        await bench.tick(3)
        assert len(await bench.runs()) == before
        await bench.history.set_paused("tick", False, next_fire_at=None)
        await bench.until(lambda: bench.engine.revisions() == {"tick": 3})
        await bench.settle()  # the fire time of this very second is due at once
        await bench.tick(2)
        assert len(await bench.runs()) == before + 3


async def test_removal_from_elsewhere_takes_effect(bench):
    """Only of what the ledger had: a schedule about to be stored is left alone."""
    await bench.store(_noop)
    await bench.apply(_noop, id="about-to-be-stored")
    async with bench.running():
        await bench.history.delete_schedule("tick")
        await bench.until(lambda: bench.engine.schedule_ids == ["about-to-be-stored"])


async def test_schedule_being_replaced_is_not_overwritten_by_the_stored_one(bench):
    """Between `apply` and the ledger's answer the newer one counts."""
    await bench.store(_noop)
    async with bench.running():
        changed = bench.schedule(overlap="allow")
        await bench.engine.apply(changed)
        await bench.history.ask(Request(id="1", kind=RequestKind.RUN_NOW, target="tick", asked_ms=1))
        await bench.until(lambda: len(bench.finished) == 2)  # so the watcher has looked
        assert bench.engine.revisions() == {}
        bench.engine.confirm(await bench.history.put_schedule(changed, on_conflict=OnConflict.REPLACE))
        assert bench.engine.revisions() == {"tick": 2}


async def test_run_now_from_elsewhere_runs_here(bench):
    """Once, under the job id that was handed out; asked before the start counts too."""
    await bench.store(_noop)
    await bench.engine.submit([JobRequest(task="job", schedule_id="tick", job_id="j1")])
    await bench.engine.submit([JobRequest(task="job", schedule_id="other-process", job_id="j2")])
    async with bench.running():
        await bench.until(lambda: any(run.job_id == "j1" for run in bench.finished))
        await _looked(bench)
        assert [run.job_id for run in bench.finished].count("j1") == 1
    left = await bench.history.take_requests(RequestKind.RUN_NOW, None)
    assert [request.target for request in left] == ["other-process"]


async def test_cancel_from_elsewhere_stops_the_job(bench):
    """And is recorded as such."""
    await bench.store(_forever)
    async with bench.running():
        await bench.until(lambda: bench.engine.runner.active == 1)
        (job_id,) = bench.engine.runner.job_ids
        await bench.history.ask(Request(id="1", kind=RequestKind.CANCEL_RUN, target=job_id, asked_ms=1))
        await bench.until(lambda: bench.finished)
    assert (bench.finished[0].job_id, bench.finished[0].state) == (job_id, RunState.CANCELLED)


async def test_cancelling_a_job_of_another_process_leaves_a_request(bench):
    """Unless it has ended, or should run here and does not."""

    def run(state, worker):
        return Run(id="j.1", job_id="j", task="t", engine=bench.engine.name, state=state, worker=worker)

    assert await bench.engine.cancel(run(RunState.RUNNING, "host:2:b"))
    assert not await bench.engine.cancel(run(RunState.SUCCEEDED, "host:2:b"))
    assert not await bench.engine.cancel(run(RunState.RUNNING, "host:1:a"))
    (request,) = await bench.history.take_requests(RequestKind.CANCEL_RUN, None)
    assert request.target == "j"


async def test_watching_goes_on_after_an_error(bench, monkeypatch):
    """A locked ledger, or anything else, is logged and tried again."""
    errors = [StorageError("ledger.db", "locked", "wait"), RuntimeError("odd")]
    real = bench.history.steering_version

    async def failing():
        if errors:
            raise errors.pop()
        return await real()

    monkeypatch.setattr(bench.history, "steering_version", failing)
    await bench.store(_noop)
    async with bench.running():
        await bench.history.delete_schedule("tick")
        await bench.until(lambda: not bench.engine.schedule_ids)
    assert not errors


async def test_ledger_is_left_alone_while_nothing_is_asked(bench, monkeypatch):
    """Runs of our own, written every second, are no reason to look closer."""
    looks = []
    real = bench.history.schedule_revisions

    async def counted(engine):
        looks.append(1)
        return await real(engine)

    monkeypatch.setattr(bench.history, "schedule_revisions", counted)
    await bench.store(_noop)
    async with bench.running():
        for _ in range(5):
            await bench.tick()
            await _looked(bench)
    assert len(looks) == 1


class Told:
    """Stands where the engine is, and remembers what the clock did."""

    def __init__(self):
        self.jumps = []

    def clock_was_set(self, jump):
        """Remember."""
        self.jumps.append(jump.total_seconds())


async def test_clock_that_was_set_is_noticed(bench):
    """Forward or back by more than half a second against the monotonic one; passing time is no jump."""
    told = Told()
    watcher = Watcher(told, history=bench.history, clock=bench.clock)
    bench.clock.advance(timedelta(hours=3))
    watcher.look_at_clock()
    bench.clock.set_wall_clock(bench.clock.now() + timedelta(milliseconds=400))
    watcher.look_at_clock()
    assert told.jumps == []
    bench.clock.set_wall_clock(bench.clock.now() + timedelta(hours=8))
    watcher.look_at_clock()
    watcher.look_at_clock()
    bench.clock.set_wall_clock(bench.clock.now() - timedelta(hours=9))
    watcher.look_at_clock()
    assert told.jumps == [8 * 3600, -9 * 3600]
