"""What a worker does beside running jobs: show the long ones, hear of cancellations, say that it is alive."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mahavishnu.execution.attempt import StopReason
from mahavishnu.execution.outcomes import running_run
from mahavishnu.history.store import ProcessInfo, RequestKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mahavishnu.clock import Clock
    from mahavishnu.execution.executor import Executor
    from mahavishnu.execution.running import Running
    from mahavishnu.history.store import HistoryStore

__all__ = ["ProcessReport", "Watch"]

SCAN_SECONDS = 0.3
REQUESTS_SECONDS = 0.5
REPORT_SECONDS = 5.0

_logger = logging.getLogger("mahavishnu.worker")


class Watch:
    """Looks at running jobs every 0.3 s, while there are any.

    A job that has run that long is written to the ledger as running, and can be cancelled from outside. Shorter
    ones cost a single row, when they end.

    Args:
        executor: Whose jobs.
        history: Where they are noted and requests are found.
        clock: Source of time.
        on_scan: Called at each look.
    """

    def __init__(self, *, executor: Executor, history: HistoryStore, clock: Clock, on_scan: Callable[[], None]) -> None:
        self._executor = executor
        self._history = history
        self._clock = clock
        self._on_scan = on_scan
        self._noted: set[Running] = set()
        self._version = -1
        self._asked_at = float("-inf")
        self._busy = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="mahavishnu-watch")

    async def stop(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        """Say that a job has begun. Cheap when it is looking already."""
        if not self._busy.is_set():
            self._busy.set()

    async def _watch(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(SCAN_SECONDS)
            try:
                await self._scan()
            except Exception as exc:  # whatever a store may raise: the next look tries again
                _logger.warning("worker_watch_failed: %s: %s", type(exc).__name__, exc)

    async def _scan(self) -> None:
        self._on_scan()
        active = self._executor.active
        if not active:
            self._busy.clear()
            self._noted.clear()
            return
        began_before_ms = self._clock.now_ms() - int(SCAN_SECONDS * 1000)
        long = {running for running in active if running.started_ms <= began_before_ms}
        fresh = long - self._noted
        if fresh:
            worker = self._executor.worker
            self._history.note_runs([running_run(one.attempt, one.started_ms, worker) for one in fresh])
        self._noted = long
        if long:
            await self._take_cancellations({running.attempt.job_id for running in long}, are_new=bool(fresh))

    async def _take_cancellations(self, job_ids: set[str], *, are_new: bool) -> None:
        now = self._clock.monotonic()
        if not are_new and now < self._asked_at + REQUESTS_SECONDS:
            return
        self._asked_at = now
        version = await self._history.version()
        if version == self._version and not are_new:
            return
        requests = await self._history.take_requests(RequestKind.CANCEL_RUN, job_ids)
        self._version = version
        if requests:
            self._executor.stop_jobs({request.target for request in requests}, StopReason.CANCEL)


class ProcessReport:
    """Says every 5 s that this process is alive, until it stops.

    Args:
        history: Where to say so.
        process_id: `host:pid:…`.
        clock: Source of time.
        details: Free text pairs.
    """

    def __init__(self, *, history: HistoryStore, process_id: str, clock: Clock, details: Mapping[str, str]) -> None:
        self._history = history
        self._id = process_id
        self._clock = clock
        self._details = dict(details)
        self._started_ms = clock.now_ms()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._report_for_ever(), name="mahavishnu-report")

    async def stop(self) -> None:
        """Say that the process has stopped. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        try:
            await self._history.forget_process(self._id)
        except Exception as exc:  # it will be taken for dead soon anyway
            _logger.warning("worker_report_failed: %s: %s", type(exc).__name__, exc)

    async def _report_for_ever(self) -> None:
        while True:
            info = ProcessInfo(
                id=self._id,
                kind="worker",
                started_ms=self._started_ms,
                seen_ms=self._clock.now_ms(),
                details=self._details,
            )
            try:
                await self._history.report_process(info)
            except Exception as exc:  # whatever a store may raise: the next turn tries again
                _logger.warning("worker_report_failed: %s: %s", type(exc).__name__, exc)
            await asyncio.sleep(REPORT_SECONDS)
