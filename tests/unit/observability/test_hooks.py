"""Failure hooks are called beside the work, and the log hears of every end."""

import asyncio
import threading
from datetime import timedelta
from functools import partial

import pytest

from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import Run
from mahavishnu.model.states import FINAL_RUN_STATES, RunState
from mahavishnu.observability.events import (
    DeadLettered,
    EngineChanged,
    Events,
    LeaseLost,
    OccurrenceSkipped,
    RunFinished,
)
from mahavishnu.observability.hooks import FAILURE_STATES, FailureHooks, log_listener


def finished(state=RunState.FAILED, exception=None, **fields):
    """Make the event of a run's end."""
    run = Run(id="j1.2", job_id="j1", task="backup", engine=EngineName.ONEIRIC, state=state, attempt=2, **fields)
    return RunFinished(run, exception)


@pytest.fixture
def events():
    """An empty list of listeners."""
    return Events()


@pytest.fixture
async def hooks(events):
    """Started hooks, stopped afterwards."""
    made = FailureHooks(events, grace=timedelta(seconds=5))
    await made.start()
    yield made
    await made.stop()


async def test_sync_and_async_callbacks(events, hooks):
    """Both kinds receive the same value; a synchronous one is called in another thread."""
    got, where = [], []

    @hooks.add
    async def tell(failure):
        got.append(failure)

    @hooks.add
    def tell_too(failure):
        where.append(threading.get_ident())
        got.append(failure)

    error = ValueError("boom")
    events.emit(finished(exception=error, schedule_id="s1", next_attempt_at_ms=5))
    assert got == []
    await hooks.stop()
    assert len(got) == 2
    assert got[0] == got[1]
    failure = got[0]
    assert (failure.task, failure.schedule_id, failure.attempt) == ("backup", "s1", 2)
    assert (failure.exception, failure.will_retry, failure.run.id) == (error, True, "j1.2")
    assert where != [threading.get_ident()]


async def test_other_forms_of_callbacks(events, hooks):
    """Partial functions, objects with an asynchronous call, and functions returning awaitables are all awaited."""
    got = []

    async def note(name, failure):
        got.append(name)

    class Caller:
        async def __call__(self, failure):
            got.append("object")

    hooks.add(partial(note, "partial"))
    hooks.add(Caller())
    hooks.add(lambda failure: note("lambda", failure))
    events.emit(finished())
    await hooks.stop()
    assert sorted(got) == ["lambda", "object", "partial"]


@pytest.mark.parametrize("state", sorted(FINAL_RUN_STATES))
async def test_which_states_are_failures(events, hooks, state):
    """Only failed, timed out and dead runs are reported."""
    got = []
    hooks.add(lambda failure: got.append(failure))
    events.emit(finished(state))
    await hooks.stop()
    assert bool(got) == (state in FAILURE_STATES)


async def test_last_attempt_will_not_retry(events, hooks):
    """Without a next attempt the failure is final."""
    got = []
    hooks.add(got.append)
    events.emit(finished(RunState.TIMED_OUT))
    await hooks.stop()
    assert [failure.will_retry for failure in got] == [False]


@pytest.mark.parametrize("error", [ValueError("bad hook"), SystemExit(3), StopIteration()])
async def test_failing_hooks_are_logged(events, hooks, caplog, error):
    """What a hook raises is logged, and the other hooks are called nonetheless."""
    got = []

    def broken(failure):
        raise error

    async def broken_too(failure):
        raise error

    hooks.add(broken)
    hooks.add(broken_too)
    hooks.add(got.append)
    events.emit(finished())
    await hooks.stop()
    assert len(got) == 1
    assert sum("failure_hook_failed" in message for message in caplog.messages) == 2


async def test_failures_from_other_threads(events, hooks):
    """A run that ends in another thread is reported in the event loop."""
    arrived = asyncio.Event()

    @hooks.add
    async def tell(failure):
        arrived.set()

    await asyncio.to_thread(events.emit, finished())
    async with asyncio.timeout(5):
        await arrived.wait()


async def test_tasks_are_named(events, hooks):
    """A hook's task says which hook and which run."""
    names = []

    @hooks.add
    async def tell(failure):
        names.append(asyncio.current_task().get_name())

    events.emit(finished())
    await hooks.stop()
    assert names[0].startswith("failure-hook:")
    assert names[0].endswith("tell:j1.2")


async def test_stop_is_bounded(events, caplog):
    """A hook that does not end is abandoned after the grace: tasks are cancelled, threads left behind."""
    hooks = FailureHooks(events, grace=timedelta(milliseconds=50))
    await hooks.start()
    release, cancelled = threading.Event(), []

    @hooks.add
    async def endless(failure):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    hooks.add(lambda failure: release.wait())
    events.emit(finished())
    async with asyncio.timeout(5):
        await hooks.stop()
    release.set()
    assert cancelled == [True]
    assert sum("failure_hook_abandoned" in message for message in caplog.messages) == 2


async def test_start_and_stop_are_idempotent(events):
    """Stop without start is fine, both may be repeated, and stopped hooks are not called."""
    hooks = FailureHooks(events)
    got = []
    hooks.add(got.append)
    await hooks.stop()
    events.emit(finished())
    await hooks.start()
    await hooks.start()
    events.emit(finished())
    await hooks.stop()
    await hooks.stop()
    events.emit(finished())
    await hooks.start()
    events.emit(finished())
    await hooks.stop()
    assert len(got) == 2


async def test_nobody_builds_events_without_callbacks(events, hooks):
    """Hooks listen only once there is somebody to call."""
    assert not events.wants(RunFinished)
    hooks.add(print)
    assert events.wants(RunFinished)


async def test_a_flood_is_bounded(events, hooks, caplog):
    """When a thousand calls wait, further ones are dropped with a line in the log."""
    gate, got = asyncio.Event(), []

    @hooks.add
    async def slow(failure):
        await gate.wait()
        got.append(failure)

    for _ in range(1003):
        events.emit(finished())
    gate.set()
    await hooks.stop()
    assert len(got) == 1000
    assert sum("failure_hook_dropped" in message for message in caplog.messages) == 3


# --- the log ---


def logged(caplog, *emitted, successes="debug"):
    """Emit events to a log listener; return the level and the message of each line."""
    events = Events()
    log_listener(events, successes=successes)
    with caplog.at_level("DEBUG", logger="mahavishnu"):
        for event in emitted:
            events.emit(event)
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_failure_that_is_retried(caplog):
    """It is a warning with the task, run, attempt, error and next attempt."""
    event = finished(error="ValueError: no", next_attempt_at_ms=1000, started_at_ms=0, finished_at_ms=25)
    ((level, message),) = logged(caplog, event)
    assert level == "WARNING"
    assert message == (
        'task_failed task=backup run_id=j1.2 attempt=2 error="ValueError: no" '
        "next_attempt=1970-01-01T00:00:01.000+00:00 duration_ms=25"
    )


def test_final_failure_has_its_traceback(caplog):
    """It is an error, with the exception."""
    error = ValueError("no")
    (line,) = logged(caplog, finished(exception=error, error="ValueError: no"))
    assert line[0] == "ERROR"
    assert caplog.records[0].exc_info[1] is error


@pytest.mark.parametrize(
    ("state", "level", "event"),
    [
        (RunState.TIMED_OUT, "ERROR", "task_timed_out"),
        (RunState.DEAD, "ERROR", "task_dead"),
        (RunState.LOST, "WARNING", "task_lost"),
        (RunState.RETRYING, "INFO", "task_retrying"),
        (RunState.SNOOZED, "INFO", "task_snoozed"),
        (RunState.CANCELLED, "INFO", "task_cancelled"),
        (RunState.INTERRUPTED, "INFO", "task_interrupted"),
        (RunState.SUCCEEDED, "DEBUG", "task_succeeded"),
    ],
)
def test_level_of_each_state(caplog, state, level, event):
    """Every final state has its level and event."""
    ((found, message),) = logged(caplog, finished(state))
    assert (found, message.split()[0]) == (level, event)


def test_successes_at_info(caplog):
    """A program that people watch shows successes too."""
    assert logged(caplog, finished(RunState.SUCCEEDED), successes="info")[0][0] == "INFO"


def test_other_events(caplog):
    """Skips, dead letters, lost leases and engines have their lines."""
    lines = logged(
        caplog,
        OccurrenceSkipped(schedule_id="s", task="t", first_ms=0, last_ms=1000, count=2, reason="late"),
        DeadLettered(job_id="j", queue="q", workflow=None, reason="unknown", error="no such workflow"),
        LeaseLost(job_id="j", task="t"),
        EngineChanged(engine="prefect", state="failed", detail="no answer"),
        EngineChanged(engine="prefect", state="started"),
    )
    assert [(level, message.split()[0]) for level, message in lines] == [
        ("WARNING", "occurrence_skipped"),
        ("ERROR", "job_dead_lettered"),
        ("WARNING", "lease_lost"),
        ("ERROR", "engine_changed"),
        ("INFO", "engine_changed"),
    ]
    assert 'state=failed detail="no answer"' in lines[3][1]
