"""Tests of a scheduler's own upkeep, on a real state folder."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.engines.base import EngineHealth
from mahavishnu.errors import EngineError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.scheduler.app import MahavishnuApp
from mahavishnu.scheduler.internal import collect_metrics, engine_health, prune_ledger, schedule_internals


@pytest.fixture
async def app(tmp_path, monkeypatch):
    """An app on a folder of its own, closed afterwards."""
    monkeypatch.chdir(tmp_path)
    app = MahavishnuApp()
    yield app
    await app.runtime.close()


def _run(job_id, finished_ms):
    return Run(
        id=f"{job_id}.1",
        job_id=job_id,
        task="t",
        engine=EngineName.ONEIRIC,
        state=RunState.SUCCEEDED,
        started_at_ms=finished_ms,
        finished_at_ms=finished_ms,
    )


async def test_health_tells_of_every_enabled_engine(app):
    """Inside the lifecycle both engines are well; Prefect is not enabled and so not asked."""
    async with app.scheduler.lifecycle():
        assert set(await engine_health(app.runtime)) == {"oneiric", "apscheduler"}


async def test_engine_that_is_ill_fails_the_run(app, monkeypatch):
    """The reason is in the error, so that it is in the ledger and reaches `on_failure` hooks."""

    async def ill():
        return EngineHealth(engine="apscheduler", enabled=True, ready=False, detail="on fire")

    async with app.scheduler.lifecycle():
        monkeypatch.setattr(app.runtime.local, "health", ill)
        with pytest.raises(EngineError, match="apscheduler: on fire"):
            await engine_health(app.runtime)


async def test_metrics_count_jobs_schedules_and_processes(app):
    """A waiting job and the process itself are seen."""
    async with app.scheduler.lifecycle():
        await app.scheduler.enqueue_workflow("shell", context={"command": "true"})
        await app.scheduler.schedule_workflow("shell", every=timedelta(hours=1), context={"command": "true"})
        metrics = await collect_metrics(app.runtime)
    assert metrics["queues"]["sqlite/default"] == {"ready": 1, "delayed": 0, "in_flight": 0, "dead": 0}
    assert metrics["schedules"] == 1
    assert metrics["processes"] == {"scheduler": 1}


async def test_retention_deletes_what_is_old_and_nothing_else(app):
    """A run of two months ago goes, one of now stays."""
    history = await app.runtime.open_history()
    now_ms = SYSTEM_CLOCK.now_ms()
    await history.record_runs([_run("old", now_ms - 60 * 86_400_000), _run("new", now_ms)])
    assert await prune_ledger(app.runtime) == {"rows": 1, "dead_letters": 0}
    assert [run.job_id for run in await history.list_runs(RunFilter())] == ["new"]


async def test_upkeep_is_scheduled_once_and_runs(app):
    """A second start replaces the schedules; each can be run, and its result is in the ledger."""
    async with app.scheduler.lifecycle() as scheduler:
        ids = await schedule_internals(scheduler, app.runtime)
        assert await schedule_internals(scheduler, app.runtime) == ids
        assert ids == ["mahavishnu.health", "mahavishnu.metrics", "mahavishnu.retention"]
        jobs = [(await scheduler.run_now(id)).job_id for id in ids]
        from mahavishnu.history.waiting import wait_for_jobs

        ended = await wait_for_jobs(app.runtime.history, jobs, timeout=timedelta(seconds=20))
    assert [ended[job].state for job in jobs] == [RunState.SUCCEEDED] * 3
    assert [ended[job].task for job in jobs] == ids


async def test_on_start_callbacks_run_inside_the_lifecycle(app):
    """They receive the running scheduler at each start, in the order they were registered."""
    seen = []

    @app.on_start
    async def first(scheduler):
        seen.append((await app.runtime.local.health()).ready and scheduler is app.scheduler)

    @app.on_start
    async def second(scheduler):
        seen.append("second")

    for _ in range(2):
        async with app.scheduler.lifecycle():
            pass
    assert seen == [True, "second", True, "second"]
    assert first.__name__ == "first"


async def test_failing_on_start_callback_rolls_the_start_back(app):
    """Nothing is left running, and the callback's own error is what is raised."""

    @app.on_start
    async def fail(scheduler):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with app.scheduler.lifecycle():
            pytest.fail("the block must not be entered")
    assert not (await app.runtime.local.health()).ready
