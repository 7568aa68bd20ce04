"""Receiving jobs: how many to ask for, and what to do with each delivery before it may run."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from mahavishnu.execution.attempt import Refused
from mahavishnu.execution.outcomes import Settlement, Timing, decide
from mahavishnu.model.states import RunState
from mahavishnu.queues.base import Return
from mahavishnu.worker.claims import Claim, claim_of, lost_runs
from mahavishnu.worker.patience import pause_after, persist

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from mahavishnu.clock import Clock
    from mahavishnu.execution.threads import ThreadPool
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.queues.base import Delivery
    from mahavishnu.queues.queue import Queue
    from mahavishnu.worker.lanes import Lanes
    from mahavishnu.worker.settler import Settler

__all__ = ["Intake"]

MOST_AT_ONCE = 500
MOST_AHEAD = 1_000
AHEAD_SECONDS = 0.05
SHORT_SECONDS = 0.01
MOST_UNSETTLED = 3_000
WAIT_MS = 20_000
SUSPECT_PAUSE_MS = 200


class Intake:
    """One receive loop per queue, asking for as many jobs as can be begun soon.

    Slow jobs are fetched when a slot is free for them, and not before, so that another worker may have them. Very
    short ones are fetched up to 500 at a time and ahead, since a round trip costs more than running them.

    Args:
        queue: Where to receive.
        names: The queues to receive from.
        lanes: Where jobs run.
        threads: Where sync jobs run; while it is full, jobs are fetched one at a time.
        settler: Where claims go that are not to be run.
        history: Where lost runs are recorded.
        claims: Every claim in this worker's hands; new ones are added.
        clock: Source of time.
        worker: Who receives, for the ledger.
        lease: How long a claim is ours unless renewed.
        max_deliveries: How often a job may be delivered without being settled before it is parked.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        names: Sequence[str],
        lanes: Lanes,
        threads: ThreadPool,
        settler: Settler,
        history: HistoryStore,
        claims: dict[Claim, None],
        clock: Clock,
        worker: str,
        lease: timedelta,
        max_deliveries: int,
    ) -> None:
        self._queue = queue
        self._names = list(names)
        self._lanes = lanes
        self._threads = threads
        self._settler = settler
        self._history = history
        self._claims = claims
        self._clock = clock
        self._worker = worker
        self._lease_ms = int(lease.total_seconds() * 1000)
        self._max_deliveries = max_deliveries
        self._loops: list[asyncio.Task[None]] = []
        self._room: list[asyncio.Future[None]] = []
        self._begun_at_last_look = -1
        self._suspect: Claim | None = None

    def start(self) -> None:
        """Begin to receive. Idempotent."""
        if not self._loops:
            self._loops = [
                asyncio.create_task(self._receive_for_ever(name), name=f"mahavishnu-receive-{name}")
                for name in self._names
            ]

    async def stop(self) -> None:
        """Receive no more; what a call under way had leased is handed back by the queue. Idempotent."""
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    def make_room(self) -> None:
        """Say that there may be room for more jobs. Cheap when nobody waits for it."""
        if self._room and self._allowance() > 0:
            for waiter in self._room:
                if not waiter.done():
                    waiter.set_result(None)
            self._room.clear()

    def hand_back_stranded(self) -> None:
        """Hand back what waits here while no job has begun since the last look: another worker may be free."""
        lanes = self._lanes
        if lanes.waiting and lanes.begun == self._begun_at_last_look:
            lanes.usual_seconds = max(lanes.usual_seconds, SHORT_SECONDS)
            self.hand_back_waiting()
        self._begun_at_last_look = lanes.begun

    def hand_back_waiting(self) -> None:
        """Hand back every claim that waits for a lane."""
        for claim in self._lanes.withdraw():
            self._settler.hand_back_unrun(claim)

    def hand_back_unbegun(self) -> None:
        """Hand back every claim that has not begun, wherever it got stuck. For use when nothing more comes in."""
        self._lanes.withdraw()
        for claim in self._claims:
            if not claim.has_begun and not claim.is_settling:
                self._settler.hand_back_unrun(claim)

    def _allowance(self) -> int:
        """Return how many jobs to ask for now; 0: wait for room."""
        lanes = self._lanes
        if self._settler.unsettled > MOST_UNSETTLED:
            return 0
        usual = lanes.usual_seconds
        ahead = min(MOST_AHEAD, int(AHEAD_SECONDS * lanes.size / usual)) if usual < SHORT_SECONDS else 0
        room = lanes.size - lanes.busy + ahead - len(lanes.waiting)
        if ahead and lanes.waiting and room < MOST_AT_ONCE:
            return 0  # a fuller batch soon is better than a small one now
        if not ahead or self._threads.busy:
            room = min(room, self._room_for_sync())
        return min(room, MOST_AT_ONCE)

    def _room_for_sync(self) -> int:
        """Return how many jobs to ask for if all of them are sync: what has threads, or one to see what it is."""
        free = self._threads.size - self._threads.busy
        return max(free, 1) if free >= 0 else 0

    async def _receive_for_ever(self, name: str) -> None:
        failures = 0
        while True:
            allowance = self._allowance()
            if allowance <= 0:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._room.append(waiter)
                await waiter
                continue
            limit = max(1, allowance // len(self._names))
            asked_at = monotonic()
            try:
                deliveries = await self._queue.receive(name, limit=limit, lease_ms=self._lease_ms, wait_ms=WAIT_MS)
            except Exception as exc:  # whatever a provider may raise: a worker waits for it to come back
                failures += 1
                await pause_after(f"receiving from {name!r}", exc, failures)
                continue
            failures = 0
            if deliveries:
                await self._admit(name, deliveries, asked_at)

    async def _admit(self, name: str, deliveries: Sequence[Delivery], asked_at: float) -> None:
        """List what was received as ours, then sort it into what runs and what does not."""
        provider = self._queue.provider_name
        # The receive may have waited long before the leases began; what counts is that they are not older.
        received_at = max(asked_at, monotonic() - self._lease_ms / 6000)
        claims = [claim_of(delivery, name, provider, received_at) for delivery in deliveries]
        self._claims.update(dict.fromkeys(claims))
        redelivered = [claim for claim in claims if claim.delivery.deliveries > 1]
        if redelivered:
            await self._look_into(redelivered)
            await self._single_out(redelivered)
        self._lanes.put([claim for claim in claims if self._may_run(claim)])

    def _may_run(self, claim: Claim) -> bool:
        if claim.is_settling:
            return False
        envelope = claim.envelope
        if envelope is not None and envelope.due_ms is not None:
            early = self._queue.early_return(claim.delivery, envelope)
            if early is not None:
                self._settler.put_unrun(claim, early)
                return False
        if claim.refusal is not None:
            self._settler.put(claim, self._refused(claim, claim.refusal))
            return False
        return True

    async def _look_into(self, claims: list[Claim]) -> None:
        """Account for earlier deliveries: they ended unrecorded, or only their acknowledgement is missing."""
        now_ms = self._clock.now_ms()
        lost = [run for claim in claims for run in lost_runs(claim, now_ms)]
        await persist("recording lost runs", partial(self._history.record_runs, lost))
        ids = [claim.attempt.job_id for claim in claims]
        ended = await persist("looking up ended jobs", partial(self._history.ended_jobs, ids))
        for claim in claims:
            run = ended.get(claim.attempt.job_id)
            if run is not None and run.attempt == claim.attempt.attempt and run.state in _DONE:
                self._settler.put_unrun(claim, None)
            elif claim.delivery.deliveries > self._max_deliveries and claim.refusal is None:
                times = claim.delivery.deliveries - 1
                problem = f"{times} workers in a row died or lost the lease while they ran it"
                claim.refusal = Refused("crash-loop", problem)

    async def _single_out(self, redelivered: list[Claim]) -> None:
        """Keep one of the jobs that are at their last chance, and give the others back before it runs.

        When a job kills its worker, whatever else the worker held counts one delivery more. Without this, the
        innocent would be parked together with the culprit.
        """
        last = self._max_deliveries
        suspects = [claim for claim in redelivered if claim.delivery.deliveries == last and not claim.is_settling]
        if suspects and (self._suspect is None or self._suspect not in self._claims):
            self._suspect = suspects.pop(0)
        if not suspects:
            return
        due_ms = self._clock.now_ms() + SUSPECT_PAUSE_MS
        returns = [Return(receipt=one.delivery.receipt, due_ms=due_ms, handed_back=True) for one in suspects]
        await persist("handing back suspects", partial(self._queue.nack, suspects[0].queue, returns))
        for claim in suspects:
            claim.is_settling = True
            self._claims.pop(claim, None)

    def _refused(self, claim: Claim, refusal: Refused) -> Settlement:
        now_ms = self._clock.now_ms()
        return decide(claim.attempt, refusal, None, Timing(now_ms, now_ms, self._worker))


_DONE = frozenset({RunState.SUCCEEDED, RunState.CANCELLED})
