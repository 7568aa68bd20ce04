"""Run one attempt at a job, as a list of phases, and say what becomes of it.

The queue worker runs tens of thousands of short jobs a second through here, so a job that does not wait for
anything costs no task, no timer and no entry in a table: its coroutine is stepped once, and has ended. Only one
that waits is listed as active; from then on it can be timed out, cancelled and looked at.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import MahavishnuError, WorkflowNotFoundError
from mahavishnu.execution.attempt import Attempt, Raised, Refused, Returned, Stopped, StopReason
from mahavishnu.execution.outcomes import Settlement, Timing, decide, running_run
from mahavishnu.execution.running import Running, drive, drive_from_start, first_step
from mahavishnu.execution.stopping import DEFAULT_KILL_GRACE, Stopper
from mahavishnu.execution.threads import ThreadCall, ThreadPool
from mahavishnu.model.instants import from_ms
from mahavishnu.observability.events import RunFinished, RunStarted
from mahavishnu.workflows.context import JobContext
from mahavishnu.workflows.encoding import decode_context

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta

    from mahavishnu.clock import Clock
    from mahavishnu.execution.attempt import Happened
    from mahavishnu.execution.stopping import OnStuck
    from mahavishnu.observability.events import Events
    from mahavishnu.workflows.registry import Workflow, WorkflowRegistry

    OnAbandoned: TypeAlias = Callable[[Attempt, Settlement], None]

__all__ = ["DEFAULT_THREADS", "Executor"]

DEFAULT_THREADS = 32

_job_logger = logging.getLogger("mahavishnu.job")


class Executor:
    """Runs attempts for any engine. Belongs to one event loop.

    Args:
        worker: Who runs them, for the ledger: `host:pid:…`.
        events: Told of starts and ends.
        registry: Where workflows are looked up that an attempt does not bring along; `None`: each brings its own.
        clock: Source of time.
        threads: Most sync functions at once, 32 by default.
        kill_grace: How long a job may go on after it was told to stop before it is abandoned, 5 s by default.
        owns_tasks: Whether nobody but this executor cancels the tasks that `execute` runs in; then a cancellation
            it did not ask for is the job's own doing and a failure. Otherwise (default) it is an interruption.
        on_abandoned: Told of async jobs that were abandoned, with what becomes of them. `None`: they are told to
            stop again and again, and waited for.
        on_stuck: Told of sync jobs whose thread did not come back; the process should be replaced.
    """

    def __init__(
        self,
        *,
        worker: str,
        events: Events,
        registry: WorkflowRegistry | None = None,
        clock: Clock = SYSTEM_CLOCK,
        threads: int = DEFAULT_THREADS,
        kill_grace: timedelta = DEFAULT_KILL_GRACE,
        owns_tasks: bool = False,
        on_abandoned: OnAbandoned | None = None,
        on_stuck: OnStuck | None = None,
    ) -> None:
        self.worker = worker
        self.threads: ThreadPool = ThreadPool(threads, "mahavishnu-job")
        self.active: set[Running] = set()
        self._registry = registry
        self._events = events
        self._clock = clock
        self._owns_tasks = owns_tasks
        self._on_abandoned = on_abandoned
        settle = None if on_abandoned is None else self._settle_abandoned
        self._stopper = Stopper(self.active, kill_grace=kill_grace, settle_abandoned=settle, on_stuck=on_stuck)

    def close(self) -> None:
        """Let go of the threads and the timer. Does not wait for jobs; idempotent."""
        self._stopper.close()
        self.threads.close()

    async def execute(self, attempt: Attempt) -> Settlement | None:
        """Run one attempt in the current task, and return what becomes of the job.

        Never raises what the job raises. If the current task was cancelled by somebody else meanwhile, the
        settlement says interrupted, and it is the caller's part to raise `CancelledError` in its turn.

        Returns:
            The settlement; `None` if the job was abandoned, whose settlement `on_abandoned` has received.
        """
        running = Running(attempt, self._clock.now_ms())
        happened = self._resolve(running) or self._bind(running)
        if happened is None:
            self._announce_start(running)
            happened = self._start(running)
            if happened is None:
                happened = await self._wait(running)
                if running.is_abandoned and running.call is None:
                    return None
        settlement = self._decide(running, happened)
        self._announce_finish(settlement)
        return settlement

    # --- stopping what runs ---

    def stop_jobs(self, job_ids: Collection[str], reason: StopReason) -> int:
        """Tell these jobs to stop; returns how many of them were running."""
        chosen = [running for running in self.active if running.attempt.job_id in job_ids]
        for running in chosen:
            self._stopper.stop(running, reason)
        return len(chosen)

    def stop_attempt(self, attempt: Attempt, reason: StopReason) -> bool:
        """Tell exactly this attempt to stop; returns whether it was running."""
        for running in self.active:
            if running.attempt is attempt:
                self._stopper.stop(running, reason)
                return True
        return False

    def stop_all(self, reason: StopReason) -> int:
        """Tell everything that runs to stop; returns how many that is."""
        chosen = list(self.active)
        for running in chosen:
            self._stopper.stop(running, reason)
        return len(chosen)

    def abandon_all(self) -> None:
        """Wait no longer for those that were told to stop."""
        for running in list(self.active):
            if running.stop_reason is not None:
                self._stopper.abandon(running)

    # --- the phases ---

    def _resolve(self, running: Running) -> Refused | None:
        attempt = running.attempt
        if attempt.workflow is not None:
            running.workflow = attempt.workflow
            return None
        try:
            if self._registry is None:
                raise WorkflowNotFoundError(attempt.task)
            running.workflow = self._registry.get(attempt.task)
        except WorkflowNotFoundError as exc:
            return Refused("unknown-workflow", str(exc))
        return None

    def _bind(self, running: Running) -> Refused | None:
        attempt, workflow = running.attempt, cast("Workflow", running.workflow)
        context = attempt.context
        try:
            plain = decode_context(context) if isinstance(context, bytes) else context
            arguments = workflow.bind(plain)
        except MahavishnuError as exc:
            return Refused("bad-context", str(exc))
        except Exception as exc:  # converting may run the user's own code, and its message may hold a value
            return Refused("bad-context", f"binding the context of {attempt.task!r} raised {type(exc).__name__}")
        if workflow.context_parameter is not None:
            running.job_context = self._job_context(attempt)
            arguments = {**arguments, workflow.context_parameter: running.job_context}
        running.arguments = arguments
        return None

    def _announce_start(self, running: Running) -> None:
        if self._events.wants(RunStarted):
            self._events.emit(RunStarted(running_run(running.attempt, running.started_ms, self.worker)))

    def _start(self, running: Running) -> Happened | None:
        """Call the function, an async one up to its first wait; returns how it went if it has ended by then."""
        workflow = cast("Workflow", running.workflow)
        context = running.context = copy_context()
        if not workflow.is_async:
            running.call = ThreadCall(workflow.function, running.arguments, context)
            return None
        try:
            context.run(first_step, running, workflow.function)
        except StopIteration as exc:
            return Returned(exc.value)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:  # whatever the job raises is its outcome
            return self._raised(exc)
        running.task = asyncio.current_task()
        return None

    async def _wait(self, running: Running) -> Happened:
        """Wait for the function's end, listed as active meanwhile."""
        self._stopper.register(running)
        try:
            if running.call is not None:
                return await self._wait_for_thread(running, running.call)
            return Returned(await drive(running))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:  # whatever the job raises is its outcome
            return self._raised(exc)
        finally:
            self.active.discard(running)
            _take_back_cancels(running)

    async def _wait_for_thread(self, running: Running, call: ThreadCall) -> Happened:
        self.threads.submit(call)
        try:
            happened = await call.future
        except asyncio.CancelledError:
            call.interrupt()
            raise
        value: Any = happened.value if isinstance(happened, Returned) else None
        if isinstance(value, CoroutineType):
            # A plain function that calls an async one, such as a lambda, and hands us its coroutine.
            made = cast("CoroutineType[Any, Any, Any]", value)
            running.task, running.call = asyncio.current_task(), None
            return Returned(await drive_from_start(running, made))
        return happened

    def _decide(self, running: Running, happened: Happened) -> Settlement:
        if running.stop_reason is not None:
            happened = Stopped(running.stop_reason, running.limit_ms, running.is_abandoned)
        timing = Timing(running.started_ms, self._clock.now_ms(), self.worker)
        return decide(running.attempt, happened, running.workflow, timing)

    def _announce_finish(self, settlement: Settlement) -> None:
        if self._events.wants(RunFinished):
            self._events.emit(RunFinished(settlement.run, settlement.exception))

    # --- what the phases need ---

    def _job_context(self, attempt: Attempt) -> JobContext:
        facts = {"job_id": attempt.job_id, "task": attempt.task, "attempt": attempt.attempt}
        return JobContext(
            job_id=attempt.job_id,
            task=attempt.task,
            logger=logging.LoggerAdapter(_job_logger, facts),
            attempt=attempt.attempt,
            scheduled_for=None if attempt.scheduled_for_ms is None else from_ms(attempt.scheduled_for_ms),
            schedule_id=attempt.schedule_id,
            clock=self._clock,
        )

    def _raised(self, error: BaseException) -> Happened:
        """Tell a job that raised from one whose task somebody else cancelled."""
        if isinstance(error, asyncio.CancelledError) and not self._owns_tasks:
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                return Stopped(StopReason.SHUTDOWN)
        return Raised(error)

    def _settle_abandoned(self, running: Running) -> None:
        settlement = self._decide(running, Stopped(StopReason.SHUTDOWN))
        self._announce_finish(settlement)
        if self._on_abandoned is not None:
            self._on_abandoned(running.attempt, settlement)


def _take_back_cancels(running: Running) -> None:
    """Undo the count of our own cancellations, so that the task can be used for another job."""
    if running.task is not None:
        for _ in range(running.cancels):
            running.task.uncancel()
        running.cancels = 0
