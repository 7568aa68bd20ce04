"""In-process schedules for real: the system clock, the SQLite ledger, blocked loops, killed and other processes."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mahavishnu import MahavishnuApp
from mahavishnu.model.instants import to_ms
from mahavishnu.model.states import RunState

PROGRAM = Path(__file__).with_name("local_program.py")
LIMIT_SECONDS = 30


@pytest.fixture
def state_dir(tmp_path):
    """A state folder, as text."""
    return str(tmp_path / "state")


@pytest.fixture
async def app(state_dir):
    """An app with its own state folder."""
    made = MahavishnuApp(state_dir=state_dir)
    yield made
    await made.runtime.close()


async def _until(holds):
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await holds():  # noqa: ASYNC110  # the ledger tells of no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _child(state_dir):
    """Run the program until it is ready, and kill it at the end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), state_dir, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            assert await child.stdout.readline() == b"ready\n"
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _decided_ms(app, schedule_id):
    """Return every fire time of a schedule that the ledger has as run or skipped, sorted; one that is twice, twice."""
    runs = await app.scheduler.list_runs(schedule_id=schedule_id, limit=100_000)
    decided = [run.scheduled_for_ms for run in runs]
    for span in await app.scheduler.list_occurrences(schedule_id, limit=100_000):
        first, last = to_ms(span.fire_at), to_ms(span.until)
        step = (last - first) // (span.count - 1) if span.count > 1 else 1
        decided.extend(range(first, last + 1, step))
    return sorted(decided)


@pytest.mark.parametrize("misfire", ["latest", "skip", "all", "cap=3"])
async def test_blocked_loop_loses_no_fire_time(app, misfire):
    """While user code blocks the loop, each fire time still ends as run or as skipped with a reason, exactly once."""
    ran = []

    async def tick():
        ran.append(1)

    async with app.scheduler.lifecycle():
        await app.scheduler.schedule_internal_task(
            tick, id="tick", milliseconds=100, misfire=misfire, misfire_grace=0.15
        )
        await _until(lambda: _is(len(ran) > 2))
        time.sleep(1.25)  # noqa: ASYNC251  # the point of the test
        before = len(ran)
        await _until(lambda: _is(len(ran) > before + 3))
    decided = await _decided_ms(app, "tick")
    assert decided == list(range(decided[0], decided[-1] + 1, 100))
    assert len(decided) >= 15
    skipped = await app.scheduler.list_occurrences("tick")
    assert all(it.reason for it in skipped)
    assert bool(skipped) is (misfire != "all")


async def _is(value):
    return value


async def test_many_short_jobs_are_all_recorded(app):
    """Three hundred schedules every 100 ms: each fire time of each is one successful run."""

    async def noop():
        return None

    async with app.scheduler.lifecycle():
        names = [f"noop-{number}" for number in range(300)]
        await asyncio.gather(*(app.scheduler.schedule_internal_task(noop, id=name, milliseconds=100) for name in names))
        await asyncio.sleep(1.2)
    runs = await app.scheduler.list_runs(limit=1_000_000)
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert len(runs) > 300 * 8
    for name in names[::50]:
        decided = await _decided_ms(app, name)
        assert decided == list(range(decided[0], decided[-1] + 1, 100))


async def test_failing_job_is_logged_hooked_and_fires_on(app, caplog):
    """Without any try in user code; and APScheduler says nothing of its own."""
    caplog.set_level(logging.DEBUG)
    failures = []
    app.on_failure(failures.append)

    def broken():
        raise ValueError("no disk")

    async with app.scheduler.lifecycle():
        await app.scheduler.schedule_internal_task(broken, id="broken", milliseconds=50)
        await _until(lambda: _is(len(failures) >= 3))
    assert {(str(failure.exception), failure.schedule_id) for failure in failures} == {("no disk", "broken")}
    run = (await app.scheduler.list_runs(schedule_id="broken"))[0]
    assert run.error == "ValueError: no disk"
    assert "raise ValueError" in run.traceback
    assert not [record for record in caplog.records if "apscheduler" in record.name]


async def test_runs_of_a_killed_process_are_lost(app, state_dir):
    """`kill -9` while a job runs: the next scheduler of the folder records the run as lost."""
    async with _child(state_dir) as child:
        (running,) = await app.scheduler.list_runs(schedule_id="endless", state="running")
        child.kill()
        await child.wait()
    async with app.scheduler.lifecycle():
        run = await app.scheduler.get_run(running.id)
    assert run.state is RunState.LOST
    assert "died" in run.reason
    assert run.finished_at is not None


async def test_other_processes_may_cancel_pause_and_run(app, state_dir):
    """What is asked through the ledger reaches the process that fires the schedule."""
    async with _child(state_dir) as child:
        (running,) = await app.scheduler.list_runs(schedule_id="endless", state="running")
        paused = await app.scheduler.pause_schedule("endless")
        assert paused.state.value == "paused"
        await app.scheduler.cancel_run(running.job_id)
        await _until(lambda: _has_state(app, running.id, RunState.CANCELLED))
        job = await app.scheduler.run_now("endless")
        await _until(lambda: _has_state(app, job.job_id, RunState.RUNNING))
        assert child.returncode is None
        runs = await app.scheduler.list_runs(schedule_id="endless")
        assert {run.job_id for run in runs} == {running.job_id, job.job_id}


async def _has_state(app, run_or_job_id, state):
    runs = await app.scheduler.list_runs(schedule_id="endless")
    return any(run_or_job_id in {run.id, run.job_id} and run.state is state for run in runs)


async def test_sync_jobs_leave_the_loop_alone(app):
    """Twenty that block for 100 ms each, while the loop keeps its pace."""
    longest = 0.0

    def blocking():
        time.sleep(0.1)

    async with app.scheduler.lifecycle():
        for number in range(20):
            await app.scheduler.schedule_internal_task(blocking, id=f"b{number}", milliseconds=200)
        until = time.monotonic() + 1
        while (now := time.monotonic()) < until:
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - now)
    assert longest < 0.1
    assert await app.scheduler.list_runs(state="succeeded")


async def test_restart_keeps_pause_and_makes_no_second_copy(app, state_dir):
    """Scheduling again at the next start of the program is the same schedule, paused as it was."""

    async def tick():
        return None

    async with app.scheduler.lifecycle():
        await app.scheduler.schedule_internal_task(tick, id="tick", milliseconds=50)
        await app.scheduler.pause_schedule("tick")
    again = MahavishnuApp(state_dir=state_dir)
    async with again.scheduler.lifecycle():
        await again.scheduler.schedule_internal_task(tick, id="tick", milliseconds=50)
        before = len(await again.scheduler.list_runs())
        await asyncio.sleep(0.3)
        assert len(await again.scheduler.list_runs()) == before
        await again.scheduler.resume_schedule("tick")
        await _until(lambda: _more_runs(again, before))
        assert [it.id for it in await again.scheduler.list_schedules()] == ["tick"]


async def _more_runs(app, before):
    return len(await app.scheduler.list_runs()) > before


async def test_overrunning_stop_is_bounded(app):
    """A job that goes on is interrupted after the grace, and the block ends."""
    started = asyncio.Event()

    async def endless():
        started.set()
        await asyncio.Event().wait()

    await app.runtime.open_history()
    engine = app.runtime.local
    await engine.start()
    await app.scheduler.schedule_internal_task(endless, id="endless", milliseconds=20)
    await asyncio.wait_for(started.wait(), LIMIT_SECONDS)
    began = time.monotonic()
    await engine.stop(timedelta(milliseconds=50))
    assert time.monotonic() - began < 3
    (run,) = await app.scheduler.list_runs(schedule_id="endless")
    assert run.state is RunState.INTERRUPTED
