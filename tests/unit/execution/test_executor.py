"""Running one attempt."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mahavishnu.execution.attempt import Attempt, StopReason
from mahavishnu.execution.executor import Executor
from mahavishnu.execution.outcomes import Settlement, Verb
from mahavishnu.execution.threads import JobStopped
from mahavishnu.model.engine import EngineName
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import Events, RunFinished, RunStarted
from mahavishnu.workflows.context import JobContext  # noqa: TC001  # read from annotations at run time
from mahavishnu.workflows.registry import Workflow, WorkflowRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # the executor raises no event for tests
            await asyncio.sleep(0)


class Bench:
    """An executor, and what it reported."""

    def __init__(self, **options: Any) -> None:
        self.abandoned: list[Settlement] = []
        self.stuck: list[Attempt] = []
        self.events = Events()
        self.executor = Executor(
            worker="host:1:a",
            events=self.events,
            registry=WorkflowRegistry(),
            kill_grace=timedelta(seconds=0.3),
            on_abandoned=lambda _, settlement: self.abandoned.append(settlement),
            on_stuck=self.stuck.append,
            **options,
        )

    def attempt(self, function: Callable[..., Any], *, timeout: float | None = None, **fields: Any) -> Attempt:
        """Return an attempt at a job `j` that runs `function`."""
        limit = None if timeout is None else timedelta(seconds=timeout)
        workflow = Workflow.of("w", function, timeout=limit)
        return Attempt(job_id="j", task="w", engine=EngineName.ONEIRIC, workflow=workflow, **fields)

    async def run(self, function: Callable[..., Any], **fields: Any) -> Settlement:
        """Run `function` and return what becomes of it."""
        settlement = await self.executor.execute(self.attempt(function, **fields))
        assert settlement is not None
        return settlement

    async def until_active(self) -> None:
        """Wait until a job is listed as running."""
        await until(lambda: bool(self.executor.active))


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    """An executor as engines use it that run jobs in tasks of others."""
    bench = Bench()
    yield bench
    bench.executor.close()


@pytest_asyncio.fixture
async def own_bench() -> AsyncIterator[Bench]:
    """An executor as the worker uses it."""
    bench = Bench(owns_tasks=True)
    yield bench
    bench.executor.close()


async def test_an_async_function_runs_with_its_arguments(bench: Bench) -> None:
    """The context becomes keyword arguments; what is returned is recorded."""

    async def add(a: int, b: int = 2) -> int:
        await asyncio.sleep(0)
        return a + b

    settlement = await bench.run(add, context={"a": 1})
    assert (settlement.run.state, settlement.run.result) == (RunState.SUCCEEDED, "3")


async def test_a_sync_function_runs_in_a_named_thread(bench: Bench) -> None:
    """It does not run on the event loop's thread."""
    settlement = await bench.run(lambda: threading.current_thread().name)
    assert (settlement.run.result or "").startswith('"mahavishnu-job-')


async def test_sync_functions_do_not_block_the_loop(bench: Bench) -> None:
    """Two that wait for each other both finish."""
    barrier = threading.Barrier(2, timeout=5)

    def meet() -> int:
        return barrier.wait()

    settlements = await asyncio.gather(bench.run(meet), bench.run(meet))
    assert {settlement.run.result for settlement in settlements} == {"0", "1"}


async def test_a_sync_function_may_hand_over_a_coroutine(bench: Bench) -> None:
    """A lambda around an async function works."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert (await bench.run(lambda: answer())).run.result == "42"


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), asyncio.CancelledError("mine"), StopAsyncIteration()]
)
async def test_whatever_a_job_raises_is_a_failure(bench: Bench, error: BaseException) -> None:
    """Even exceptions that would end a process, and a `CancelledError` of the job's own."""

    async def fail() -> None:
        raise error

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise error

    def fail_in_thread() -> None:
        raise error

    for function in (fail, fail_later, fail_in_thread):
        settlement = await bench.run(function)
        assert settlement.run.state is RunState.FAILED
        assert (settlement.run.error or "").startswith(type(error).__name__)


async def test_a_traceback_begins_in_the_job_s_own_code(bench: Bench) -> None:
    """Our frames are left out."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    trace = (await bench.run(fail)).run.traceback or ""
    assert "mahavishnu/execution" not in trace
    assert 'raise ValueError("no")' in trace


async def test_an_unknown_workflow_is_refused(bench: Bench) -> None:
    """With the code of the dead letter's reason."""
    settlement = await bench.executor.execute(Attempt(job_id="j", task="nope", engine=EngineName.ONEIRIC))
    assert settlement is not None
    assert (settlement.verb, settlement.bury_as) == (Verb.BURY, "unknown-workflow")


@pytest.mark.parametrize("context", [{"b": 1}, {}, {"a": "text"}, b"\xc1", b"\x01"])
async def test_a_context_that_does_not_fit_is_refused(bench: Bench, context: Any) -> None:
    """Unknown, missing and wrong arguments, and bytes that are no context."""

    async def take(a: int) -> None:
        raise AssertionError("must not run")

    assert (await bench.run(take, context=context)).bury_as == "bad-context"


async def test_a_job_may_ask_about_itself(bench: Bench) -> None:
    """A parameter annotated `JobContext` receives the job's id and attempt."""

    async def ask(job: JobContext) -> list[Any]:
        return [job.job_id, job.attempt, job.is_cancelled]

    assert (await bench.run(ask, attempt=2)).run.result == '["j",2,false]'


async def test_jobs_do_not_see_each_other_s_context_variables(bench: Bench) -> None:
    """Two jobs in one task: what the first sets, before and after a wait, the second does not see."""

    async def paint() -> None:
        COLOUR.set("red")
        await asyncio.sleep(0)
        assert COLOUR.get() == "red"
        COLOUR.set("blue")

    async def look() -> str:
        return COLOUR.get()

    await bench.run(paint)
    assert (await bench.run(look)).run.result == '"none"'
    assert COLOUR.get() == "none"


async def test_a_job_may_use_timeouts_and_task_groups(bench: Bench) -> None:
    """The task a job sees is the one that it waits in."""

    async def nested() -> str:
        try:
            async with asyncio.timeout(0.01):
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(60))
        except TimeoutError:
            return "timed out inside"
        return "?"

    assert (await bench.run(nested)).run.result == '"timed out inside"'


async def test_an_async_job_is_stopped_when_its_time_is_up(bench: Bench) -> None:
    """Its clean-up runs; the run says what the limit was."""
    cleaned: list[bool] = []

    async def sleep() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    settlement = await bench.run(sleep, timeout=0.05)
    assert settlement.run.error == "TimeoutError: the time limit of 0.05 s was up"
    assert cleaned == [True]
    assert not bench.executor.active


async def test_the_job_s_own_limit_goes_before_the_workflow_s(bench: Bench) -> None:
    """A limit given with the job counts."""
    settlement = await bench.run(lambda: time.sleep(0.2), timeout=0.01, timeout_ms=10_000)
    assert settlement.run.state is RunState.SUCCEEDED


async def test_a_job_that_swallows_the_cancellation_is_told_again(bench: Bench) -> None:
    """The second one gets through, after a second; the outcome is the timeout's."""
    bench.executor._stopper._kill_seconds = 10
    caught: list[int] = []

    async def stubborn() -> str:
        for n in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                caught.append(n)
        return "late"

    settlement = await bench.run(stubborn, timeout=0.05)
    assert caught == [0, 1]
    assert settlement.run.state is RunState.TIMED_OUT


async def test_an_async_job_that_refuses_to_stop_is_abandoned(bench: Bench) -> None:
    """After the kill grace it is settled without it; when it ends at last, nothing is settled twice."""
    release = asyncio.Event()

    async def immortal() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    run = asyncio.create_task(bench.executor.execute(bench.attempt(immortal, timeout=0.05)))
    await until(lambda: bool(bench.abandoned))
    assert "abandoned" in (bench.abandoned[0].run.error or "")
    assert not bench.executor.active
    release.set()
    assert await run is None
    assert len(bench.abandoned) == 1


async def test_a_sync_job_is_interrupted_when_its_time_is_up(bench: Bench) -> None:
    """A loop in Python stops; its `finally` runs; `except Exception` does not catch it."""
    cleaned: list[bool] = []

    def spin() -> None:
        try:
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    continue
        finally:
            cleaned.append(True)

    settlement = await bench.run(spin, timeout=0.05)
    assert settlement.run.state is RunState.TIMED_OUT
    assert cleaned == [True]
    assert not bench.stuck


async def test_the_limit_of_a_sync_job_counts_from_its_start_in_a_thread(bench: Bench) -> None:
    """Waiting for a thread is not running."""
    slow = Bench(threads=1)
    blocker = asyncio.create_task(slow.run(lambda: time.sleep(0.2)))
    await slow.until_active()
    settlement = await slow.run(lambda: "ran", timeout=0.1)
    assert settlement.run.result == '"ran"'
    await blocker
    slow.executor.close()


async def test_a_thread_is_fit_for_the_next_job_after_an_interruption() -> None:
    """No late `JobStopped` hits the job that comes after."""
    one = Bench(threads=1)
    for _ in range(20):
        stopped = await one.run(lambda: time.sleep(0.01), timeout=0.01)
        assert stopped.run.state in {RunState.TIMED_OUT, RunState.SUCCEEDED}
        fine = await one.run(lambda: sum(range(1_000)))
        assert fine.run.result == "499500"
    one.executor.close()


async def test_a_thread_that_is_stuck_is_reported(bench: Bench) -> None:
    """The run ends as timed out though its thread sits in C code, and somebody is told."""
    release = threading.Event()
    settlement = await bench.run(release.wait, timeout=0.05)
    release.set()
    assert settlement.run.state is RunState.TIMED_OUT
    assert [attempt.job_id for attempt in bench.stuck] == ["j"]


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (StopReason.CANCEL, RunState.CANCELLED),
        (StopReason.SHUTDOWN, RunState.INTERRUPTED),
        (StopReason.LEASE_LOST, RunState.LOST),
    ],
)
async def test_a_running_job_can_be_stopped_for_a_reason(bench: Bench, reason: StopReason, state: RunState) -> None:
    """Async and sync jobs alike; the reason decides the outcome."""

    async def sleep() -> None:
        await asyncio.sleep(60)

    def wait(job: JobContext) -> None:
        while not job.is_cancelled:
            time.sleep(0.001)

    for function in (sleep, wait):
        run = asyncio.create_task(bench.run(function))
        await bench.until_active()
        assert bench.executor.stop_jobs({"j"}, reason) == 1
        assert (await run).run.state is state


async def test_a_sync_job_that_has_no_thread_yet_is_not_begun_after_a_stop() -> None:
    """It is withdrawn while it waits."""
    one = Bench(threads=1)
    release = threading.Event()
    ran: list[bool] = []
    blocker = asyncio.create_task(one.run(release.wait))
    await one.until_active()
    waiting = asyncio.create_task(one.run(lambda: ran.append(True)))
    await until(lambda: len(one.executor.active) == 2)
    one.executor.stop_all(StopReason.SHUTDOWN)
    assert (await waiting).run.state is RunState.INTERRUPTED
    release.set()
    await blocker
    one.executor.close()
    assert ran == []


async def test_a_cancelled_caller_is_an_interruption(bench: Bench) -> None:
    """Somebody else's cancellation of the task is not the job's failure, and stays visible to the caller."""

    async def sleep() -> None:
        await asyncio.sleep(60)

    async def caller() -> tuple[RunState, int]:
        settlement = await bench.run(sleep)
        task = asyncio.current_task()
        return settlement.run.state, task.cancelling() if task else 0

    run = asyncio.create_task(caller())
    await bench.until_active()
    run.cancel()
    assert await run == (RunState.INTERRUPTED, 1)


async def test_a_job_that_cancels_its_own_task_has_failed(own_bench: Bench) -> None:
    """Where nobody else cancels tasks, it is the job's own doing: handing it back would go on for ever."""

    async def suicide() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    assert (await own_bench.run(suicide)).run.state is RunState.FAILED


async def test_a_task_can_be_used_again_after_a_stop(own_bench: Bench) -> None:
    """Our own cancellations leave no trace on the task."""

    async def sleep() -> None:
        await asyncio.sleep(60)

    await own_bench.run(sleep, timeout=0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.01)


async def test_starts_and_ends_are_announced(bench: Bench) -> None:
    """With the run as it stands, and the exception."""
    started: list[RunStarted] = []
    finished: list[RunFinished] = []
    bench.events.listen(RunStarted, started.append)
    bench.events.listen(RunFinished, finished.append)

    def fail() -> None:
        raise ValueError("no")

    await bench.run(fail)
    assert [event.run.state for event in started] == [RunState.RUNNING]
    assert [event.run.state for event in finished] == [RunState.FAILED]
    assert isinstance(finished[0].exception, ValueError)


async def test_job_stopped_is_not_an_ordinary_exception() -> None:
    """`except Exception` in a job must not swallow it."""
    assert not issubclass(JobStopped, Exception)
