"""Keeping leases from running out, from a thread that no job can stop.

An async job that computes or sleeps without awaiting blocks the worker's event loop, for longer than its lease if
it likes. So leases are renewed from a thread with an event loop and a connection of its own. Where a provider lives
in this process only (`memory`), a second connection sees nothing; there the worker's own loop does it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from mahavishnu.queues.queue import Queue
    from mahavishnu.worker.claims import Claim

__all__ = ["LeaseKeeper"]

MOST_PER_CALL = 500
JOIN_SECONDS = 2.0

_logger = logging.getLogger("mahavishnu.worker")


class LeaseKeeper:
    """Renews the lease of each claim once a third of it has passed.

    Args:
        claims: Every claim in the worker's hands; read from the keeper's thread.
        queue: The worker's own queue, for providers that are not shared.
        make_queue: Makes another queue on the same provider, to be opened and closed in the keeper's thread;
            `None`: use `queue`, in the worker's event loop.
        lease: How long a lease is.
        on_lost: Called in the worker's event loop with claims that are somebody else's by now.
    """

    def __init__(
        self,
        *,
        claims: dict[Claim, None],
        queue: Queue,
        make_queue: Callable[[], Queue] | None,
        lease: timedelta,
        on_lost: Callable[[list[Claim]], None],
    ) -> None:
        self._claims = claims
        self._queue = queue
        self._make_queue = make_queue
        self._lease_seconds = lease.total_seconds()
        self._on_lost = on_lost
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._keeper_loop: asyncio.AbstractEventLoop | None = None
        self._worker_loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._is_stopping = False

    def start(self) -> None:
        """Begin. Does nothing where leases cannot be extended. Idempotent."""
        if self._worker_loop is not None or not self._queue.capabilities.lease_extension:
            return
        self._worker_loop = asyncio.get_running_loop()
        if self._make_queue is None:
            self._task = asyncio.create_task(self._keep(self._queue), name="mahavishnu-leases")
            return
        self._thread = threading.Thread(
            target=self._keep_in_thread, args=(self._make_queue,), name="mahavishnu-leases", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """Renew no longer. Idempotent."""
        self._is_stopping = True
        if self._keeper_loop is not None:
            with suppress(RuntimeError):  # the thread has ended and closed its loop
                self._keeper_loop.call_soon_threadsafe(self._stopped.set)
        if self._task is not None:
            self._stopped.set()
            await asyncio.wait([self._task], timeout=JOIN_SECONDS)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, JOIN_SECONDS)

    def _keep_in_thread(self, make_queue: Callable[[], Queue]) -> None:
        asyncio.run(self._keep_with_own_queue(make_queue))

    async def _keep_with_own_queue(self, make_queue: Callable[[], Queue]) -> None:
        self._keeper_loop = asyncio.get_running_loop()
        queue = make_queue()
        try:
            await self._keep(queue)
        finally:
            await queue.close()

    async def _keep(self, queue: Queue) -> None:
        while not self._is_stopping:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self._lease_seconds / 6)
            try:
                await self._renew(queue, monotonic())
            except Exception as exc:  # whatever a provider may raise: the next turn tries again
                _logger.warning("lease_renewal_failed: %s: %s", type(exc).__name__, exc)

    async def _renew(self, queue: Queue, now: float) -> None:
        ripe = now - self._lease_seconds / 3
        by_queue: dict[str, list[Claim]] = defaultdict(list)
        for claim in self._snapshot():
            if claim.renewed_at <= ripe and not claim.is_lost:
                by_queue[claim.queue].append(claim)
        if by_queue:
            await queue.open()  # idempotent; a worker whose jobs are all short never gets here
        for name, claims in by_queue.items():
            for start in range(0, len(claims), MOST_PER_CALL):
                await self._extend(queue, name, claims[start : start + MOST_PER_CALL])

    def _snapshot(self) -> list[Claim]:
        while True:
            try:
                return list(self._claims)
            except RuntimeError:  # the worker's loop changed it meanwhile
                continue

    async def _extend(self, queue: Queue, name: str, claims: list[Claim]) -> None:
        now = monotonic()
        receipts = [claim.delivery.receipt for claim in claims]
        were_ours = await queue.extend(name, receipts, lease_ms=int(self._lease_seconds * 1000))
        lost: list[Claim] = []
        for claim, was_ours in zip(claims, were_ours, strict=True):
            if was_ours:
                claim.renewed_at = now
            elif not claim.is_settling:  # else its acknowledgement was faster, or will tell
                claim.is_lost = True
                lost.append(claim)
        if lost and self._worker_loop is not None:
            with suppress(RuntimeError):  # the worker has gone
                self._worker_loop.call_soon_threadsafe(self._on_lost, lost)
