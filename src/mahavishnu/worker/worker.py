"""The worker: receives jobs from durable queues, runs them, records what became of them, acknowledges them.

Jobs flow one way: `Intake` receives and sorts, `Lanes` run, `Settler` records and acknowledges. Beside them
`LeaseKeeper` keeps what is in hand ours, `Watch` shows long jobs and hears of cancellations. `claims` is the one
list of everything in hand, from before a job runs until its outcome is written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.execution.attempt import Attempt, StopReason
from mahavishnu.execution.executor import DEFAULT_THREADS, Executor
from mahavishnu.execution.stopping import DEFAULT_KILL_GRACE
from mahavishnu.model.ids import new_id
from mahavishnu.model.job import DEFAULT_QUEUE
from mahavishnu.worker.intake import Intake
from mahavishnu.worker.lanes import Lanes
from mahavishnu.worker.leases import LeaseKeeper
from mahavishnu.worker.settler import Settler
from mahavishnu.worker.watch import ProcessReport, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mahavishnu.clock import Clock
    from mahavishnu.execution.outcomes import Settlement
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.observability.events import Events
    from mahavishnu.queues.queue import Queue
    from mahavishnu.worker.claims import Claim
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["Worker"]

DEFAULT_CONCURRENCY = 100
DEFAULT_LEASE = timedelta(seconds=30)
DEFAULT_GRACE = timedelta(seconds=30)
DEFAULT_MAX_DELIVERIES = 5
NAME_DIGITS = 6

_logger = logging.getLogger("mahavishnu.worker")


class Worker:
    """Runs the jobs of some queues until it is told to stop. Belongs to the event loop that calls `run`.

    Args:
        queue: Where jobs come from; opened by `run`, closed by whoever made it.
        registry: The workflows it can run.
        history: The ledger; opened by `run`, closed by whoever made it.
        events: Told of starts, ends, lost leases and dead letters.
        queues: Names of the queues to serve, `("default",)` by default.
        concurrency: Most jobs at once, 100 by default.
        threads: Most sync jobs among them, 32 by default.
        lease: How long a job is ours unless the lease is renewed, 30 s by default; a dead worker's jobs run again
            after at most that.
        grace: How long running jobs may go on after `stop`, 30 s by default; then they are handed back.
        kill_grace: How long a job may go on after it was told to stop before it is given up, 5 s by default.
        max_deliveries: How often a job may be delivered without being settled before it is parked as a crash
            loop, 5 by default.
        make_queue: Makes another queue on the same provider, for the thread that renews leases; needed wherever
            the provider is shared between processes. `None`: the event loop renews them.
        clock: Source of time.
        name: Who it is in the ledger; by default `host:pid:` and some random digits.
    """

    def __init__(
        self,
        queue: Queue,
        registry: WorkflowRegistry,
        history: HistoryStore,
        *,
        events: Events,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        concurrency: int = DEFAULT_CONCURRENCY,
        threads: int = DEFAULT_THREADS,
        lease: timedelta = DEFAULT_LEASE,
        grace: timedelta = DEFAULT_GRACE,
        kill_grace: timedelta = DEFAULT_KILL_GRACE,
        max_deliveries: int = DEFAULT_MAX_DELIVERIES,
        make_queue: Callable[[], Queue] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        name: str | None = None,
    ) -> None:
        self.name: str = name or default_name(clock)
        self.is_stuck = False
        self._queue = queue
        self._history = history
        self._grace = grace
        self._kill_grace = kill_grace
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._claims: dict[Claim, None] = {}
        self._make_lanes(registry, events, concurrency=concurrency, threads=threads, clock=clock)
        self._intake = Intake(
            queue=queue,
            names=queues,
            lanes=self._lanes,
            threads=self._executor.threads,
            settler=self._settler,
            history=history,
            claims=self._claims,
            clock=clock,
            worker=self.name,
            lease=lease,
            max_deliveries=max_deliveries,
        )
        self._keeper = LeaseKeeper(
            claims=self._claims, queue=queue, make_queue=make_queue, lease=lease, on_lost=self._give_up_lost
        )
        details = {
            "queues": ",".join(queues),
            "provider": queue.provider_name,
            "concurrency": str(concurrency),
        }
        self._report = ProcessReport(history=history, process_id=self.name, clock=clock, details=details)

    def _make_lanes(
        self, registry: WorkflowRegistry, events: Events, *, concurrency: int, threads: int, clock: Clock
    ) -> None:
        """Make what jobs pass through once they are received."""
        self._executor = Executor(
            worker=self.name,
            events=events,
            registry=registry,
            clock=clock,
            threads=threads,
            kill_grace=self._kill_grace,
            owns_tasks=True,
            on_abandoned=self._settle_abandoned,
            on_stuck=self._become_stuck,
        )
        self._settler = Settler(
            queue=self._queue,
            history=self._history,
            events=events,
            claims=self._claims,
            on_settled=self._make_room,
        )
        self._watch = Watch(executor=self._executor, history=self._history, clock=clock, on_scan=self._look_around)
        self._lanes = Lanes(
            concurrency,
            execute=self._executor.execute,
            settle=self._settler.put,
            on_busy=self._watch.wake,
            on_room=self._make_room,
        )

    @property
    def leftovers(self) -> int:
        """How many jobs were given up and are still there, ignoring that they were cancelled.

        An event loop waits for its tasks when it is closed, for such a job for ever. So where this is not 0 after
        `run`, let go of everything else and call `leave` of `worker.signals`.
        """
        return self._lanes.abandoned

    def cancel(self, job_id: str) -> bool:
        """Cancel a job if it runs here; returns whether it did. Jobs elsewhere are asked for through the ledger."""
        return self._executor.stop_jobs({job_id}, StopReason.CANCEL) > 0

    def stop(self, *, now: bool = False) -> None:
        """Have `run` receive no more, let running jobs finish within the grace, and return. Idempotent.

        Args:
            now: Hand running jobs back at once instead of waiting for them.
        """
        self._stop_asked.set()
        if now:
            self._stop_now.set()

    async def run(self) -> None:
        """Work until `stop`. Cancelling it hands everything back at once.

        Raises:
            QueueConnectionError: The queue cannot be reached at the start.
            StorageError: The ledger or the queue's file cannot be used at the start.
        """
        await self._queue.open()
        await self._history.open()
        for part in (self._report, self._settler, self._keeper, self._watch, self._intake):
            part.start()
        _logger.info("worker_started: %s", self.name)
        try:
            await self._stop_asked.wait()
        except asyncio.CancelledError:
            self.stop(now=True)
            raise
        finally:
            await asyncio.shield(self._wind_down())
            _logger.info("worker_stopped: %s", self.name)

    # --- stopping ---

    async def _wind_down(self) -> None:
        await self._intake.stop()
        self._intake.hand_back_unbegun()
        await self._let_finish()
        self._executor.stop_all(StopReason.SHUTDOWN)
        if self._stop_now.is_set():
            await asyncio.sleep(0)  # those that heed it end here
            self._executor.abandon_all()
        await self._lanes.until_idle()
        await self._write_outcomes()
        await self._keeper.stop()
        await self._watch.stop()
        await self._settler.stop()
        await self._report.stop()
        await self._lanes.close()
        self._executor.close()

    async def _let_finish(self) -> None:
        """Wait until nothing runs, the grace has passed, or somebody loses patience."""
        idle = asyncio.create_task(self._lanes.until_idle())
        hurry = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait({idle, hurry}, timeout=self._grace.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        for waiter in (idle, hurry):
            waiter.cancel()

    async def _write_outcomes(self) -> None:
        try:
            async with asyncio.timeout(self._kill_grace.total_seconds()):
                await self._settler.drain()
        except TimeoutError:
            _logger.error(
                "worker_outcomes_unwritten: %d; their jobs run again after their leases", self._settler.unsettled
            )

    # --- what the parts tell each other ---

    def _make_room(self) -> None:
        self._intake.make_room()

    def _look_around(self) -> None:
        if not self._stop_asked.is_set():
            self._intake.hand_back_stranded()

    def _give_up_lost(self, claims: list[Claim]) -> None:
        for claim in claims:
            self._executor.stop_attempt(claim.attempt, StopReason.LEASE_LOST)
            if not claim.has_begun:  # nobody will settle it
                self._claims.pop(claim, None)

    def _settle_abandoned(self, attempt: Attempt, settlement: Settlement) -> None:
        for claim in self._claims:
            if claim.attempt is attempt:
                self._settler.put(claim, settlement)
                break
        self._lanes.write_off()

    def _become_stuck(self, attempt: Attempt) -> None:
        """Make way for a fresh process: the thread that runs this job may never come back."""
        if not self.is_stuck:
            _logger.error("worker_stuck: %s %s does not leave its thread; stopping", attempt.task, attempt.job_id)
        self.is_stuck: bool = True
        self.stop()


def default_name(clock: Clock) -> str:
    """Return `host:pid:` and some random digits."""
    return f"{socket.gethostname()}:{os.getpid()}:{new_id(clock.now_ms())[-NAME_DIGITS:]}"
