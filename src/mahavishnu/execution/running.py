"""One attempt under way, and how its coroutine is stepped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from datetime import timedelta
from types import CoroutineType, coroutine
from typing import Any, TypeAlias, cast

import msgspec

from mahavishnu.execution.attempt import Attempt, StopReason
from mahavishnu.execution.threads import ThreadCall
from mahavishnu.workflows.context import JobContext
from mahavishnu.workflows.registry import Workflow

__all__ = ["Running", "drive", "drive_from_start", "first_step"]

AnyCoroutine: TypeAlias = Coroutine[Any, Any, Any]
_MILLISECOND = timedelta(milliseconds=1)


class Running(msgspec.Struct, eq=False):
    """One attempt under way. Only those that wait for something are ever listed.

    Attributes:
        attempt: The attempt.
        started_ms: When it began, Unix milliseconds.
        workflow: What is run.
        arguments: The keyword arguments, bound.
        job_context: What the function was handed to ask about itself, if it wants that.
        stop_reason: Why it is made to stop; `None`: it is not.
        stop_asked_at: When that was first asked, on the event loop's clock.
        deadline: When it is to be looked at next, on the event loop's clock.
        task: The task it runs in, where it is async.
        cancels: How often that task was cancelled on its behalf.
        call: The thread's call, where it is not async.
        is_abandoned: Whether it was settled without waiting for its end.
        context: Its context variables.
        coroutine: What is stepped, where it is async.
        yielded: What the first step left to wait for.
    """

    attempt: Attempt
    started_ms: int
    workflow: Workflow | None = None
    arguments: dict[str, object] = {}
    job_context: JobContext | None = None
    stop_reason: StopReason | None = None
    stop_asked_at: float = 0.0
    deadline: float | None = None
    task: asyncio.Task[Any] | None = None
    cancels: int = 0
    call: ThreadCall | None = None
    is_abandoned: bool = False
    context: Context | None = None
    coroutine: AnyCoroutine | None = None
    yielded: Any = None

    @property
    def limit_ms(self) -> int | None:
        """How long it may take; `None`: as long as it likes."""
        if self.attempt.timeout_ms is not None:
            return self.attempt.timeout_ms
        if self.workflow is None or self.workflow.timeout is None:
            return None
        return self.workflow.timeout // _MILLISECOND


def first_step(running: Running, function: Callable[..., Awaitable[Any]]) -> None:
    """Call an async function and run it up to its first wait.

    Raises:
        StopIteration: It has returned without waiting; the exception carries the value.
    """
    made: Any = function(**running.arguments)
    job = cast("AnyCoroutine", made if isinstance(made, CoroutineType) else _awaiting(made))
    running.coroutine = job
    running.yielded = job.send(None)


async def _awaiting(made: Awaitable[Any]) -> Any:
    return await made


def _drive(running: Running) -> Generator[Any, Any, Any]:
    """Step the coroutine to its end after its first step, each step in the job's own context variables."""
    made, context, yielded = running.coroutine, running.context, running.yielded
    assert made is not None
    assert context is not None
    while True:
        try:
            sent = yield yielded
        except GeneratorExit:
            context.run(made.close)
            raise
        except BaseException as exc:  # a cancellation, for the job to deal with
            step, value = made.throw, exc
        else:
            step, value = made.send, sent
        try:
            yielded = context.run(step, value)
        except StopIteration as exc:
            return exc.value


def _drive_from_start(running: Running, made: AnyCoroutine) -> Generator[Any, Any, Any]:
    """Step a coroutine that has not begun, as `drive` does."""
    assert running.context is not None
    running.coroutine = made
    try:
        running.yielded = running.context.run(made.send, None)
    except StopIteration as exc:
        return exc.value
    return (yield from _drive(running))


drive: Callable[[Running], Awaitable[Any]] = coroutine(_drive)
drive_from_start: Callable[[Running, AnyCoroutine], Awaitable[Any]] = coroutine(_drive_from_start)
