"""What reaches this process from outside: what other processes ask of it, and clocks that are set."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from mahavishnu.errors import MahavishnuError, ScheduleNotFoundError
from mahavishnu.history.store import HistoryStore, RequestKind
from mahavishnu.model.engine import EngineName
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from mahavishnu.clock import Clock
    from mahavishnu.engines.local.engine import LocalEngine

__all__ = ["Watcher"]

SHORTEST_SECONDS = 1.5
LONGEST_SECONDS = 2.6  # more than a second apart, so that looks fall in with jobs that run every second
JUMP = timedelta(seconds=0.5)

_log = get_logger(__name__)


class Watcher:
    """Looks at the ledger's steering number and at the clock about every two seconds, and closer only where they moved.

    It looks when the process is awake anyway, if it has not done so lately: waking up costs more than looking.

    Args:
        engine: Whose schedules and jobs others may ask about.
        history: The ledger.
        clock: Source of time.
    """

    def __init__(self, engine: LocalEngine, *, history: HistoryStore, clock: Clock) -> None:
        self._engine = engine
        self._history = history
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._nudged = asyncio.Event()
        self._fresh_until = 0.0
        self._seen = -1
        self._started_at = self._when_monotonic_was_zero()

    async def start(self) -> None:
        """Begin to look. Idempotent."""
        if self._task is None:
            self._seen = -1
            self._started_at = self._when_monotonic_was_zero()
            self._nudged = asyncio.Event()
            self._task = asyncio.create_task(self._watch_until_stopped(), name="mahavishnu-local-watcher")

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def nudge(self) -> None:
        """Look now, unless that was done a moment ago: the process is awake."""
        if self._timer is not None and monotonic() >= self._fresh_until:
            self._timer.cancel()
            self._wake()

    def _wake(self) -> None:
        self._timer = None
        self._nudged.set()

    async def _watch_until_stopped(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._fresh_until = monotonic() + SHORTEST_SECONDS
            self._timer = loop.call_later(LONGEST_SECONDS, self._wake)
            await self._nudged.wait()
            self._nudged.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            self.look_at_clock()
            version = await self._history.steering_version()
            if version != self._seen:
                await self.look_at_ledger()
                self._seen = version
        except MahavishnuError as exc:
            _log.warning("ledger_not_watched", error=str(exc))
        except Exception as exc:  # whatever it is, the next look may succeed
            _log.error("watching_failed", error=str(exc), exc_info=exc)

    def _when_monotonic_was_zero(self) -> datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())

    def look_at_clock(self) -> None:
        """Notice that the system clock was set, or that the machine slept, during which timers stand still."""
        started_at = self._when_monotonic_was_zero()
        jump, self._started_at = started_at - self._started_at, started_at
        if abs(jump) > JUMP:
            _log.warning("clock_jumped", seconds=round(jump.total_seconds(), 1))
            self._engine.clock_was_set(jump)

    async def look_at_ledger(self) -> None:
        """Do what others have asked for since the last look."""
        await self._take_changes()
        await self._take_requests()

    async def _take_changes(self) -> None:
        """Apply schedules that were changed elsewhere, such as paused ones; forget those that were removed."""
        stored = await self._history.schedule_revisions(EngineName.APSCHEDULER)
        for schedule_id, revision in self._engine.revisions().items():
            if schedule_id not in stored:
                self._engine.forget(schedule_id)
            elif stored[schedule_id] > revision:
                with contextlib.suppress(ScheduleNotFoundError):  # removed since; the next look sees that
                    await self._engine.apply(await self._history.get_schedule(schedule_id))

    async def _take_requests(self) -> None:
        engine = self._engine
        for request in await self._history.take_requests(RequestKind.RUN_NOW, engine.schedule_ids):
            engine.run_scheduled(request.target, request.job_id)
        jobs = engine.runner.job_ids
        if jobs:
            for request in await self._history.take_requests(RequestKind.CANCEL_RUN, jobs):
                engine.runner.cancel(request.target)
