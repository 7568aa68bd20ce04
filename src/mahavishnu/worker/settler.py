"""Writing outcomes: to the ledger first, then to the queue, in batches that grow with the load.

Two stages run side by side: while one batch is being recorded, the one before it is being acknowledged and the
jobs after it run. Nothing is delayed to fill a batch: a stage takes whatever is there as soon as it is free.
A failure is tried again until it succeeds; meanwhile the claims stay listed, so their leases are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.execution.outcomes import Settlement, Verb
from mahavishnu.observability.events import LeaseLost
from mahavishnu.queues.base import Burial, Return
from mahavishnu.worker.claims import Claim, burial_of, return_of
from mahavishnu.worker.patience import persist

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mahavishnu.history.store import HistoryStore
    from mahavishnu.observability.events import Events
    from mahavishnu.queues.queue import Queue

__all__ = ["Settler"]

MOST_PER_BATCH = 1_000

_logger = logging.getLogger("mahavishnu.worker")


class _Dispatch(msgspec.Struct, eq=False):
    """What is sent to one queue at once."""

    acked: list[Claim] = []
    returned: list[tuple[Claim, Return]] = []
    buried: list[tuple[Claim, Burial]] = []


class Settler:
    """Writes outcomes.

    Args:
        queue: Where claims are acknowledged, returned and parked.
        history: Where runs are recorded.
        events: Told of leases that turn out to be lost.
        claims: Every claim in this worker's hands; those that are settled are taken out.
        on_settled: Called after claims were taken out; must be quick.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        history: HistoryStore,
        events: Events,
        claims: dict[Claim, None],
        on_settled: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._history = history
        self._events = events
        self._claims = claims
        self._on_settled = on_settled
        self._ended: list[tuple[Claim, Settlement]] = []
        self._recorded: list[tuple[Claim, Settlement | Return | None]] = []
        self._stages: list[asyncio.Task[None]] = []
        self._has_ended = _Bell()
        self._has_recorded = _Bell()
        self._is_empty = _Bell()
        self._unsettled = 0

    @property
    def unsettled(self) -> int:
        """How many ended claims are not written yet."""
        return self._unsettled

    def start(self) -> None:
        """Begin to write. Idempotent."""
        if not self._stages:
            self._stages = [
                asyncio.create_task(self._record_for_ever(), name="mahavishnu-settler-record"),
                asyncio.create_task(self._dispatch_for_ever(), name="mahavishnu-settler-dispatch"),
            ]

    async def drain(self) -> None:
        """Wait until everything handed over is written."""
        while self._unsettled:
            await self._is_empty.wait()

    async def stop(self) -> None:
        """Stop writing; what is not written by now is delivered again when its lease runs out. Idempotent."""
        stages, self._stages = self._stages, []
        for stage in stages:
            stage.cancel()
        await asyncio.gather(*stages, return_exceptions=True)

    def put(self, claim: Claim, settlement: Settlement) -> None:
        """Have an outcome written."""
        claim.is_settling = True
        self._unsettled += 1
        self._ended.append((claim, settlement))
        self._has_ended.ring()

    def put_unrun(self, claim: Claim, back: Return | None) -> None:
        """Have a claim that was not run sent back, or acknowledged where `back` is `None`, unrecorded."""
        claim.is_settling = True
        self._unsettled += 1
        self._recorded.append((claim, back))
        self._has_recorded.ring()

    def hand_back_unrun(self, claim: Claim) -> None:
        """Have a claim that has not begun given to another worker."""
        if not claim.is_lost:
            self.put_unrun(claim, Return(receipt=claim.delivery.receipt, handed_back=True))

    async def _record_for_ever(self) -> None:
        while True:
            while not self._ended:
                await self._has_ended.wait()
            batch, self._ended = self._ended[:MOST_PER_BATCH], self._ended[MOST_PER_BATCH:]
            runs = [settlement.run for _, settlement in batch]
            await persist("recording runs", partial(self._history.record_runs, runs))
            self._recorded += batch
            self._has_recorded.ring()

    async def _dispatch_for_ever(self) -> None:
        while True:
            while not self._recorded:
                await self._has_recorded.wait()
            batch, self._recorded = self._recorded[:MOST_PER_BATCH], self._recorded[MOST_PER_BATCH:]
            by_queue: dict[str, _Dispatch] = defaultdict(_Dispatch)
            for claim, what in batch:
                self._sort(by_queue[claim.queue], claim, what)
            for queue, dispatch in by_queue.items():
                await self._send(queue, dispatch)
            for claim, _ in batch:
                self._claims.pop(claim, None)
            self._unsettled -= len(batch)
            self._on_settled()
            if not self._unsettled:
                self._is_empty.ring()

    def _sort(self, dispatch: _Dispatch, claim: Claim, what: Settlement | Return | None) -> None:
        if what is None:
            dispatch.acked.append(claim)
        elif isinstance(what, Return):
            dispatch.returned.append((claim, what))
        else:
            match what.verb:
                case Verb.ACK:
                    dispatch.acked.append(claim)
                case Verb.REPEAT:
                    dispatch.returned.append((claim, return_of(claim, what, handed_back=False)))
                case Verb.HAND_BACK:
                    dispatch.returned.append((claim, return_of(claim, what, handed_back=True)))
                case Verb.BURY:
                    dispatch.buried.append((claim, burial_of(claim, what)))
                case Verb.DROP:
                    self._report_lost(claim)

    async def _send(self, queue: str, dispatch: _Dispatch) -> None:
        if dispatch.acked:
            receipts = [claim.delivery.receipt for claim in dispatch.acked]
            await self._sent("acknowledging jobs", dispatch.acked, partial(self._queue.ack, queue, receipts))
        if dispatch.returned:
            claims = [claim for claim, _ in dispatch.returned]
            returns = [back for _, back in dispatch.returned]
            await self._sent("returning jobs", claims, partial(self._queue.nack, queue, returns))
        if dispatch.buried:
            claims = [claim for claim, _ in dispatch.buried]
            burials = [burial for _, burial in dispatch.buried]
            await self._sent("parking dead letters", claims, partial(self._queue.bury, queue, burials))

    async def _sent(self, what: str, claims: Sequence[Claim], send: Callable[[], Awaitable[list[bool]]]) -> None:
        were_ours = await persist(what, send)
        if not all(were_ours):
            for claim, was_ours in zip(claims, were_ours, strict=True):
                if not was_ours:
                    self._report_lost(claim)

    def _report_lost(self, claim: Claim) -> None:
        attempt = claim.attempt
        _logger.warning("lease_lost: %s %s: its outcome here does not count", attempt.task, attempt.job_id)
        if self._events.wants(LeaseLost):
            self._events.emit(LeaseLost(job_id=attempt.job_id, task=attempt.task))


class _Bell:
    """Wakes the one task that waits for it; rung while nobody waits, it does nothing."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
