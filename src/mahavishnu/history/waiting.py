"""Waiting for jobs to end, whoever runs them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mahavishnu.history.store import HistoryStore
    from mahavishnu.model.run import Run

__all__ = ["WriteSignal", "wait_for_jobs"]

_FIRST_STEP = timedelta(milliseconds=20)
_LONGEST_STEP = timedelta(milliseconds=250)
_GROWTH = 1.5


class WriteSignal:
    """Wakes those who wait for this process to write runs; for stores."""

    def __init__(self) -> None:
        self._written = asyncio.Event()

    def notify(self) -> None:
        """Wake everybody who waits now."""
        written, self._written = self._written, asyncio.Event()
        written.set()

    async def wait(self, within: timedelta) -> None:
        """Return at the next `notify`, or after `within`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within.total_seconds()):
                await self._written.wait()


async def wait_for_jobs(
    store: HistoryStore, job_ids: Iterable[str], *, timeout: timedelta | None = None
) -> dict[str, Run]:
    """Wait until all of these jobs have ended, in whatever process.

    Ends of jobs run by this process are seen at once when they are written, those of others within 0.25 s.

    Args:
        store: The open ledger.
        job_ids: The jobs.
        timeout: How long to wait; `None` (default): as long as it takes.

    Returns:
        For each job that has ended, the run that ended it: all of them, unless the time was up before.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout.total_seconds()
    missing = set(job_ids)
    ended: dict[str, Run] = {}
    while True:
        seen = await store.version()
        found = await store.ended_jobs(missing)
        ended |= found
        missing.difference_update(found)
        if not missing or not await _changes(store, seen, deadline):
            return ended


async def _changes(store: HistoryStore, seen: int, deadline: float | None) -> bool:
    """Return true once the ledger is not as it was `seen`; false when time is up first."""
    loop = asyncio.get_running_loop()
    step = _FIRST_STEP
    while await store.version() == seen:
        if deadline is not None:
            left = timedelta(seconds=deadline - loop.time())
            if left <= timedelta(0):
                return False
            step = min(step, left)
        await store.changed(within=step)
        step = min(step * _GROWTH, _LONGEST_STEP)
    return deadline is None or loop.time() < deadline
