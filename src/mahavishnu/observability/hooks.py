"""Tell people's code, and the log, how runs end."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mahavishnu.model.instants import from_ms
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import (
    DeadLettered,
    EngineChanged,
    Events,
    LeaseLost,
    OccurrenceSkipped,
    RunFinished,
)
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from mahavishnu.model.run import Run
    from mahavishnu.observability.logs import StructuredLogger

__all__ = ["Failure", "FailureCallback", "FailureHooks", "log_listener"]

FAILURE_STATES = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.DEAD})
_MOST_WAITING = 1000
_MOST_THREADS = 8

_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that failed, as a failure hook receives it.

    Attributes:
        run: The run, in state `FAILED`, `TIMED_OUT` or `DEAD`.
        exception: What it raised; `None` where it was stopped, or ran in another process.
        task: The workflow's key or the task's name.
        schedule_id: The schedule it was an occurrence of.
        attempt: Which attempt, from 1.
        will_retry: Whether another attempt follows.
    """

    run: Run
    exception: BaseException | None
    task: str
    schedule_id: str | None
    attempt: int
    will_retry: bool


FailureCallback: TypeAlias = Callable[[Failure], Awaitable[object] | object]
C_ = TypeVar("C_", bound=FailureCallback)


class FailureHooks:
    """Calls back on every failed run, beside the work and never in its way.

    An asynchronous callback runs as an asyncio task, any other in a thread, at most 8 of them at once. What a
    callback raises is logged. While 1,000 calls wait, further failures are logged as dropped.

    Args:
        events: Where runs are reported.
        grace: How long `stop` waits for calls under way, default 10 s.
    """

    def __init__(self, events: Events, *, grace: timedelta = timedelta(seconds=10)) -> None:
        self._events = events
        self._grace = grace
        self._callbacks: list[FailureCallback] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = asyncio.Semaphore(_MOST_THREADS)
        self._is_listening = False

    def add(self, callback: C_) -> C_:
        """Call `callback` with a `Failure` for every failed run from now on; usable as a decorator."""
        self._callbacks.append(callback)
        if not self._is_listening:  # only now, so that nobody builds events that nobody wants
            self._is_listening = True
            self._events.listen(RunFinished, self._on_finished)
        return callback

    async def start(self) -> None:
        """Begin calling back, in this event loop. Idempotent."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    async def stop(self) -> None:
        """Stop calling back, waiting at most `grace` for calls under way. Idempotent, also before `start`."""
        self._loop = None
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._grace.total_seconds())
        for task in late:
            task.cancel()
            _logger.warning("failure_hook_abandoned", hook=task.get_name(), after_seconds=self._grace.total_seconds())
        if late:
            # A cancelled task gets one turn to clean up; one that refuses to end is not waited for.
            await asyncio.wait(late, timeout=1)

    def _on_finished(self, event: RunFinished) -> None:
        run = event.run
        if run.state is RunState.SUCCEEDED or run.state not in FAILURE_STATES:
            return
        loop = self._loop
        if loop is None:
            return
        failure = _failure_of(event)
        if threading.get_ident() == self._loop_thread:
            self._schedule(failure)
        else:
            loop.call_soon_threadsafe(self._schedule, failure)

    def _schedule(self, failure: Failure) -> None:
        if self._loop is None:  # stopped while another thread's failure was on its way here
            return
        for callback in tuple(self._callbacks):
            name = _name_of(callback)
            if len(self._tasks) >= _MOST_WAITING:
                _logger.warning("failure_hook_dropped", hook=name, task=failure.task, run_id=failure.run.id)
                continue
            task = asyncio.create_task(self._call(callback, failure), name=f"failure-hook:{name}:{failure.run.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, callback: FailureCallback, failure: Failure) -> None:
        try:
            if _is_async(callback):
                answer = callback(failure)
            else:
                async with self._threads:
                    answer = await _in_thread(callback, failure)
            if inspect.isawaitable(answer):
                await answer
        except (Exception, SystemExit) as exc:
            _logger.error(
                "failure_hook_failed", hook=_name_of(callback), task=failure.task, run_id=failure.run.id, exc_info=exc
            )


def _failure_of(event: RunFinished) -> Failure:
    run = event.run
    return Failure(
        run=run,
        exception=event.exception,
        task=run.task,
        schedule_id=run.schedule_id,
        attempt=run.attempt,
        will_retry=not run.ends_job,
    )


def _name_of(callback: FailureCallback) -> str:
    return str(getattr(callback, "__qualname__", None) or type(callback).__qualname__)


def _is_async(callback: FailureCallback) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004


async def _in_thread(callback: FailureCallback, failure: Failure) -> object:
    """Return what the callback returns, called in a daemon thread: one that hangs does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()
    context = copy_context()

    def settle(answer: object, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((answer, error))

    def run() -> None:
        answer: object = None
        error: BaseException | None = None
        try:
            answer = context.run(callback, failure)
        except BaseException as exc:
            error = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, answer, error)

    threading.Thread(target=run, name=f"failure-hook:{_name_of(callback)}", daemon=True).start()
    answer, error = await future
    if error is not None:
        raise error
    return answer


# --- the log ---


def log_listener(events: Events, *, successes: str = "debug") -> None:
    """Write a log line for every event: failures as errors, those that will be retried as warnings.

    Args:
        events: What to listen to.
        successes: The level of runs that went well, `debug` by default.
    """
    logger = get_logger("mahavishnu.runs")
    events.listen(RunFinished, partial(_log_run, logger, successes))
    events.listen(OccurrenceSkipped, partial(_log_skip, logger))
    events.listen(DeadLettered, partial(_log_dead_letter, logger))
    events.listen(LeaseLost, partial(_log_lost_lease, logger))
    events.listen(EngineChanged, partial(_log_engine, logger))


_LEVELS_OF_STATES = {
    RunState.RETRYING: ("info", "task_retrying"),
    RunState.SNOOZED: ("info", "task_snoozed"),
    RunState.CANCELLED: ("info", "task_cancelled"),
    RunState.INTERRUPTED: ("info", "task_interrupted"),
    RunState.LOST: ("warning", "task_lost"),
    RunState.FAILED: ("error", "task_failed"),
    RunState.TIMED_OUT: ("error", "task_timed_out"),
    RunState.DEAD: ("error", "task_dead"),
}


def _log_run(logger: StructuredLogger, successes: str, event: RunFinished) -> None:
    run = event.run
    if run.state is RunState.SUCCEEDED:
        if logger.is_enabled(successes):
            logger.log(successes, "task_succeeded", **_run_fields(run))
        return
    level, name = _LEVELS_OF_STATES.get(run.state, ("debug", f"task_{run.state.value}"))
    will_retry = level == "error" and not run.ends_job
    if will_retry:
        level = "warning"
    logger.log(level, name, exc_info=event.exception if level == "error" else None, **_run_fields(run))


def _run_fields(run: Run) -> dict[str, Any]:
    """Return what a line says about a run, leaving out what there is not."""
    duration, again = run.duration, run.next_attempt_at
    fields: dict[str, Any] = {
        "task": run.task,
        "run_id": run.id,
        "attempt": run.attempt,
        "error": run.error,
        "reason": run.reason,
        "next_attempt": again.isoformat(timespec="milliseconds") if again else None,
        "duration_ms": None if duration is None else duration // timedelta(milliseconds=1),
        "schedule_id": run.schedule_id,
        "repo": run.repo,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _log_skip(logger: StructuredLogger, event: OccurrenceSkipped) -> None:
    logger.warning(
        "occurrence_skipped",
        task=event.task,
        schedule_id=event.schedule_id,
        reason=event.reason,
        count=event.count,
        first=from_ms(event.first_ms).isoformat(timespec="milliseconds"),
        last=from_ms(event.last_ms).isoformat(timespec="milliseconds"),
    )


def _log_dead_letter(logger: StructuredLogger, event: DeadLettered) -> None:
    logger.error(
        "job_dead_lettered",
        job_id=event.job_id,
        queue=event.queue,
        workflow=event.workflow,
        reason=event.reason,
        error=event.error,
    )


def _log_lost_lease(logger: StructuredLogger, event: LeaseLost) -> None:
    logger.warning("lease_lost", task=event.task, job_id=event.job_id)


def _log_engine(logger: StructuredLogger, event: EngineChanged) -> None:
    level = "error" if event.state == "failed" else "info"
    logger.log(level, "engine_changed", engine=event.engine, state=event.state, detail=event.detail)
