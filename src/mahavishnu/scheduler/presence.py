"""Say in the ledger that this process is alive, and settle what processes that died left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.errors import MahavishnuError
from mahavishnu.history.store import HistoryStore, ProcessInfo
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from datetime import timedelta

    from mahavishnu.clock import Clock

__all__ = ["PRESENT_MS", "Presence"]

REPORT_SECONDS = 5.0
PRESENT_MS = 20_000
"""A process that has not reported for this long counts as gone."""

_log = get_logger(__name__)


class Presence:
    """A service that reports this process while it runs.

    At start, in-process runs that a dead process left `running` are recorded as lost: nobody else will.

    Args:
        history: The ledger.
        clock: Source of time.
        process_id: This process's id.
        kind: `scheduler`, `worker` or `up`.
        details: Free text pairs for `doctor`.
    """

    name = "presence"

    def __init__(
        self, history: HistoryStore, clock: Clock, process_id: str, *, kind: str, details: dict[str, str] | None = None
    ) -> None:
        self._history = history
        self._clock = clock
        self._info = ProcessInfo(
            id=process_id, kind=kind, started_ms=clock.now_ms(), seen_ms=clock.now_ms(), details=details or {}
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Report this process and settle what dead ones left behind. Idempotent."""
        if self._task is not None:
            return
        await self._settle_the_dead()
        await self._report()
        self._task = asyncio.create_task(self._report_until_stopped(), name="mahavishnu-presence")

    async def stop(self, grace: timedelta) -> None:
        """Report no more, and say so. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await self._history.forget_process(self._info.id)

    async def _report_until_stopped(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            try:
                await self._report()
            except MahavishnuError as exc:
                _log.warning("presence_not_reported", error=str(exc))

    async def _report(self) -> None:
        await self._history.report_process(msgspec.structs.replace(self._info, seen_ms=self._clock.now_ms()))

    async def _settle_the_dead(self) -> None:
        running = await self._history.list_runs(
            RunFilter(engine=EngineName.APSCHEDULER, state=RunState.RUNNING, limit=10_000)
        )
        lost = [self._lost(run) for run in running if run.worker is not None and self._is_dead(run.worker)]
        if lost:
            await self._history.record_runs(lost)
            _log.warning("runs_lost", count=len(lost), reason="the process that ran them died")

    def _lost(self, run: Run) -> Run:
        reason = "the process that ran it died"
        return msgspec.structs.replace(run, state=RunState.LOST, finished_at_ms=self._clock.now_ms(), reason=reason)

    def _is_dead(self, worker: str) -> bool:
        """Return whether a run's process is known to be gone: on this host, and with no such process now."""
        host, _, rest = worker.partition(":")
        number = rest.partition(":")[0]
        if host != socket.gethostname() or not number.isdigit():
            return False
        return int(number) != os.getpid() and not _is_alive(int(number))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
