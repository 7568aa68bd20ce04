"""Start several services or none, and stop them in reverse, each within its time."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from mahavishnu.errors import EngineError, MahavishnuError
from mahavishnu.observability.events import EngineChanged, Events
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

__all__ = ["Service", "Services", "terminate_cleanly"]

STOP_MARGIN = timedelta(seconds=8)
"""What a service may take at stop beyond its grace, to end what would not end by itself."""

_log = get_logger(__name__)


class Service(Protocol):
    """Something that starts and stops. Both are idempotent; stop without start is fine."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    async def start(self) -> None:
        """Start, or raise and leave nothing running."""
        ...

    async def stop(self, grace: timedelta) -> None:
        """Stop, letting work under way finish for at most `grace`."""
        ...


class Services:
    """An ordered list of services with one start and one stop.

    Args:
        services: Names them in the order they start, asked at each start; they stop in reverse.
        events: Told of each start, stop and failure.
        grace: How long each service may take to finish its work at stop.
    """

    def __init__(self, services: Callable[[], Iterable[Service]], *, events: Events, grace: timedelta) -> None:
        self._services = services
        self._events = events
        self._grace = grace
        self._started: list[Service] = []

    @property
    def is_running(self) -> bool:
        """Whether `start` has succeeded and `stop` has not been called since."""
        return bool(self._started)

    async def start(self) -> None:
        """Start all of them, in order. Idempotent.

        Raises:
            MahavishnuError: One of them could not start; those before it have been stopped again.
        """
        if self._started:
            return
        for service in self._services():
            self._started.append(service)  # also one that fails half-way is stopped, in case it left something
            try:
                await service.start()
            except BaseException as exc:
                self._events.emit(EngineChanged(engine=service.name, state="failed", detail=str(exc)))
                await self.stop()
                if isinstance(exc, MahavishnuError) or not isinstance(exc, Exception):
                    raise
                raise EngineError(f"{service.name} could not start: {exc}") from exc
            self._events.emit(EngineChanged(engine=service.name, state="started"))

    async def stop(self) -> None:
        """Stop what was started, in reverse. One that fails or takes too long does not keep the others running.

        Goes on to the end when the caller is cancelled meanwhile, which is raised afterwards.
        """
        stopping = asyncio.ensure_future(self._stop_all())
        cancelled = False
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _stop_all(self) -> None:
        while self._started:
            service = self._started.pop()
            limit = (self._grace + STOP_MARGIN).total_seconds()
            try:
                async with asyncio.timeout(limit):
                    await service.stop(self._grace)
            except TimeoutError:
                _log.error("stop_timed_out", service=service.name, after_seconds=limit)
            except Exception as exc:
                _log.error("stop_failed", service=service.name, error=str(exc), exc_info=True)
            self._events.emit(EngineChanged(engine=service.name, state="stopped"))


@asynccontextmanager
async def terminate_cleanly() -> AsyncGenerator[None]:
    """Inside, SIGTERM cancels the current task, so that its clean-up runs, and then ends the process with 143.

    Does nothing where the program handles SIGTERM itself, or outside the main thread.
    """
    task = asyncio.current_task()
    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if task is None or not is_ours:
        yield
        return
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
        if terminated:  # the body swallowed the cancellation; the process was still told to end
            raise SystemExit(128 + signal.SIGTERM)
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
