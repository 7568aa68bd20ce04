"""In-process jobs: retried, timed out, cancelled, interrupted and recorded, and none of it stops their schedule."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from msgspec.structs import replace

from mahavishnu.errors import CapabilityError, EngineUnavailableError, WorkflowNotFoundError
from mahavishnu.model.job import BackoffPolicy, JobOptions, JobRequest
from mahavishnu.model.outcome import Cancel, Retry, Snooze
from mahavishnu.model.run import RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.observability.hooks import FailureHooks

SECOND = timedelta(seconds=1)
AT_ONCE = BackoffPolicy(initial=timedelta(milliseconds=1), jitter=0)


async def _forever():
    await asyncio.Event().wait()


def _states(runs):
    return [(run.attempt, run.delivery, run.state.value) for run in runs]


async def test_exception_is_recorded_reported_and_stops_nothing(bench):
    """With type, message and traceback of the user's code; hooks hear of it; the next fire time runs."""
    heard = []
    hooks = FailureHooks(bench.events)
    hooks.add(heard.append)
    await hooks.start()

    async def broken():
        raise ValueError("no disk")

    await bench.apply(broken)
    async with bench.running():
        await bench.tick()
        await bench.until(lambda: len(heard) == 2)
        first, second = await bench.runs()
    await hooks.stop()
    assert (first.state, second.state) == (RunState.FAILED, RunState.FAILED)
    assert first.error == "ValueError: no disk"
    assert 'raise ValueError("no disk")' in first.traceback
    assert [(failure.task, failure.schedule_id, failure.will_retry) for failure in heard] == [
        ("job", "tick", False)
    ] * 2


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
async def test_base_exceptions_of_a_job_do_not_end_the_loop(bench, error):
    """Whatever a job raises, its schedule goes on, and so do the jobs behind it."""
    raised = []

    async def unruly():
        raised.append(1)
        raise error

    async def tame():
        return None

    await bench.apply(unruly, id="unruly")
    await bench.apply(tame)
    async with bench.running():
        await bench.tick(2)
        assert len(raised) == 3
        runs = await bench.runs()
    assert [run.state for run in runs if run.schedule_id == "tick"] == [RunState.SUCCEEDED] * 3


async def test_failed_attempts_are_repeated_up_to_the_limit(bench):
    """Each attempt is a run of the same job; the occurrence is unfinished until the last."""
    bench.attempts = 0

    async def flaky():
        bench.attempts += 1
        raise OSError(f"try {bench.attempts}")

    await bench.apply(flaky, options={"max_attempts": 3, "backoff": AT_ONCE})
    async with bench.running():
        await bench.until(lambda: bench.attempts == 3)
        await bench.settle()
        runs = await bench.runs()
        assert _states(runs) == [(1, 1, "failed"), (2, 1, "failed"), (3, 1, "failed")]
        assert len({run.job_id for run in runs}) == 1
        assert [run.ends_job for run in runs] == [False, False, True]
        await bench.tick()
        await bench.until(lambda: bench.attempts == 6)


async def test_outcomes_returned_by_a_job_are_honoured(bench):
    """Retry counts as an attempt, Snooze does not, Cancel ends it."""
    answers = [Retry(after=timedelta(0)), Snooze(until=bench.clock.now()), Cancel("enough")]

    async def talkative():
        return answers.pop(0)

    await bench.apply(talkative, options={"max_attempts": 2})
    async with bench.running():
        await bench.until(lambda: not answers)
        await bench.settle()
        runs = await bench.runs()
    assert _states(runs) == [(1, 1, "retrying"), (2, 1, "snoozed"), (2, 2, "cancelled")]
    assert runs[-1].reason == "enough"


async def test_job_that_takes_too_long_is_timed_out(bench):
    """By the workflow's own limit; the next fire time runs again."""
    await bench.apply(_forever, options={"max_attempts": 1, "timeout": timedelta(milliseconds=20)})
    async with bench.running():
        await bench.until(lambda: bench.finished)
        assert bench.finished[0].state is RunState.TIMED_OUT
        await bench.tick()
        await bench.until(lambda: len(bench.finished) == 2)


async def test_sync_function_does_not_block_the_loop(bench):
    """It runs in a thread of its own, and what it raises is recorded alike."""
    gate, threads = threading.Event(), []

    def blocking():
        threads.append(threading.current_thread().name)
        gate.wait(10)
        raise ValueError("from a thread")

    await bench.apply(blocking)
    async with bench.running():
        began = time.perf_counter()
        await bench.until(lambda: threads)
        await bench.settle()
        assert time.perf_counter() - began < 5
        assert threads[0].startswith("mahavishnu-job")
        gate.set()
        await bench.until(lambda: bench.finished)
    assert bench.finished[0].error == "ValueError: from a thread"


async def test_waiting_jobs_do_not_hold_up_those_behind_them(bench):
    """A hundred that wait and a hundred that do not: the latter all run in the same round."""
    for number in range(100):
        await bench.apply(_forever, id=f"slow-{number}")
        await bench.apply(_noop, id=f"quick-{number}")
    async with bench.running(grace=0):
        await bench.until(lambda: bench.engine.runner.active == 100)
        await bench.settle()
        assert len(await bench.runs()) == 100


async def _noop():
    return None


async def test_long_job_shows_while_it_runs(bench):
    """As running, in the ledger, after a moment; its end takes the place of that."""
    gate = asyncio.Event()
    await bench.apply(gate.wait)
    async with bench.running():
        await bench.until(lambda: bench.engine.runner.active == 1)
        bench.clock.advance(SECOND / 2)
        async with asyncio.timeout(10):
            while not await bench.runs():  # noqa: ASYNC110  # nor does the ledger
                await asyncio.sleep(0.01)
        assert [run.state for run in await bench.runs()] == [RunState.RUNNING]
        gate.set()
        await bench.until(lambda: bench.finished)
        assert [run.state for run in await bench.runs()] == [RunState.SUCCEEDED]


# --- stopping ---


async def test_stop_waits_for_what_runs(bench):
    """Within the grace, to the end."""
    gate = asyncio.Event()
    await bench.apply(gate.wait)
    async with bench.running():
        await bench.until(lambda: bench.engine.runner.active == 1)
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert [run.state for run in await bench.runs()] == [RunState.SUCCEEDED]


async def test_stop_interrupts_what_does_not_end(bench):
    """After the grace; the ledger says so."""
    await bench.apply(_forever)
    async with bench.running(grace=0.02):
        await bench.until(lambda: bench.engine.runner.active == 1)
    (run,) = await bench.runs()
    assert run.state is RunState.INTERRUPTED
    assert "stopping" in run.reason


async def test_stop_abandons_what_ignores_it(bench, monkeypatch):
    """Bounded, and recorded, whatever the job does about its cancellation."""
    monkeypatch.setattr("mahavishnu.engines.local.runner.KILL_SECONDS", 0.05)
    monkeypatch.setattr("mahavishnu.engines.local.runner.LAST_SECONDS", 0.05)
    ends = asyncio.Event()

    async def stubborn():
        while not ends.is_set():
            try:
                await ends.wait()
            except asyncio.CancelledError:
                continue

    await bench.apply(stubborn)
    async with bench.running(grace=0):
        await bench.until(lambda: bench.engine.runner.active == 1)
    assert [run.state for run in await bench.runs()] == [RunState.INTERRUPTED]
    ends.set()
    await bench.settle()
    assert [run.state for run in await bench.runs()] == [RunState.INTERRUPTED]


async def test_attempts_that_wait_at_the_stop_are_cancelled(bench):
    """A retry not begun, and one that is asked for while stopping: both end their job with a reason."""
    gate = asyncio.Event()

    async def later():
        return Retry(after=timedelta(hours=1))

    async def late_answer():
        await gate.wait()
        return Retry(after=timedelta(hours=1))

    await bench.apply(later, id="waits", options={"max_attempts": 5})
    await bench.apply(late_answer, id="answers", options={"max_attempts": 5})
    async with bench.running():
        await bench.until(lambda: bench.engine.runner.active == 1)
        asyncio.get_running_loop().call_later(0.02, gate.set)
    for name in ("waits", "answers"):
        runs = await bench.history.list_runs(RunFilter(schedule_id=name))
        assert {(run.attempt, run.state) for run in runs} == {(1, RunState.RETRYING), (2, RunState.CANCELLED)}
        assert "process stopped" in next(run.reason for run in runs if run.attempt == 2)


# --- single jobs and steering ---


async def test_single_jobs_run_at_once(bench):
    """With the ids they were given, and their facts in the ledger."""

    async def greet(name):
        return f"hello {name}"

    bench.registry.register("greet", greet)
    async with bench.running():
        jobs = await bench.engine.submit(
            [
                JobRequest(task="greet", context={"name": "a"}, job_id="j1", repo="r", parent_id="p", commit_sha="c"),
                JobRequest(task="greet", context={"name": "b"}),
            ]
        )
        await bench.until(lambda: len(bench.finished) == 2)
        runs = await bench.runs()
    assert [job.job_id for job in jobs] == [run.job_id for run in runs]
    assert (runs[0].job_id, runs[0].repo, runs[0].parent_id, runs[0].commit_sha) == ("j1", "r", "p", "c")
    assert [run.result for run in runs] == ['"hello a"', '"hello b"']


async def test_what_needs_a_queue_is_refused(bench):
    """Before anything is run, naming who can; likewise unknown workflows, and an engine that is not running."""
    bench.registry.register("noop", _noop)
    with pytest.raises(EngineUnavailableError, match="not running"):
        await bench.engine.submit([JobRequest(task="noop")])
    async with bench.running():
        for options in (JobOptions(schedule_time=bench.clock.now()), JobOptions(idempotency_key="k")):
            with pytest.raises(CapabilityError, match="oneiric"):
                await bench.engine.submit([JobRequest(task="noop"), JobRequest(task="noop", options=options)])
        with pytest.raises(WorkflowNotFoundError):
            await bench.engine.submit([JobRequest(task="noop"), JobRequest(task="nope")])
        await bench.settle()
    assert await bench.runs() == []


async def test_run_now_runs_beside_the_fire_times(bench):
    """Also while it is paused; the job has the id that was handed out."""
    await bench.apply(_noop)
    async with bench.running():
        request = JobRequest(task="job", schedule_id="tick")
        (job,) = await bench.engine.submit([request])
        await bench.until(lambda: len(bench.finished) == 2)
        run = await bench.history.get_run(job.job_id)
    assert (run.schedule_id, run.scheduled_for, run.state) == ("tick", None, RunState.SUCCEEDED)


async def test_cancel_stops_a_running_job_and_one_that_waits(bench):
    """Returns whether there was anything to stop."""

    async def later():
        return Retry(after=timedelta(hours=1))

    await bench.apply(_forever, id="runs")
    await bench.apply(later, id="waits", options={"max_attempts": 5})
    async with bench.running():
        await bench.until(lambda: bench.engine.runner.active == 1 and bench.finished)
        (running,) = bench.engine.runner.job_ids - {bench.finished[0].job_id}
        ghost = bench.finished[0]
        assert await bench.engine.cancel(ghost)
        assert await bench.engine.cancel(_named(ghost, running))
        await bench.until(lambda: not bench.engine.runner.job_ids)
        last = (await bench.history.get_run(ghost.job_id), await bench.history.get_run(running))
        assert [(run.state, run.reason) for run in last] == [(RunState.CANCELLED, "cancelled on request")] * 2
        assert not await bench.engine.cancel(last[0])


def _named(run, job_id):
    return replace(run, job_id=job_id, worker="host:1:a")


async def test_jobs_may_steer_their_own_schedule(bench):
    """Remove themselves, or make another, from inside a run."""
    ran = []

    async def once():
        ran.append("once")
        await bench.engine.withdraw(bench.schedule())
        await bench.apply(another, id="another")

    async def another():
        ran.append("another")

    await bench.apply(once)
    async with bench.running():
        await bench.tick(3)
    assert ran == ["once", *["another"] * 4]  # the new one is due at this very instant, too
