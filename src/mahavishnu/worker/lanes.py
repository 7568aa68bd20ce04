"""Lanes: as many jobs at once as allowed, without a task per job.

A lane is a task that runs one job after another. While a job waits, its lane waits with it, and another lane goes
on with the next job; jobs that do not wait for anything all run in one lane, which costs nothing per job.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mahavishnu.execution.attempt import Attempt
    from mahavishnu.execution.outcomes import Settlement
    from mahavishnu.worker.claims import Claim

__all__ = ["Lanes"]

TURN_SECONDS = 0.002
UNKNOWN_SECONDS = 1.0
SMOOTHING = 0.05


class Lanes:
    """Runs claims, at most `size` at once. `waiting`, `busy`, `begun`, `abandoned` and `usual_seconds` may be read.

    Args:
        size: The most jobs at once, at least 1.
        execute: Runs an attempt in the current task; `None` where it was abandoned.
        settle: Told of each claim that has ended, and how; must not wait.
        on_busy: Called when a job begins while no other is under way; must be quick.
        on_room: Called when a job has ended; must be quick.
    """

    def __init__(
        self,
        size: int,
        *,
        execute: Callable[[Attempt], Awaitable[Settlement | None]],
        settle: Callable[[Claim, Settlement], None],
        on_busy: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        self.size = size
        self.waiting: deque[Claim] = deque()
        self.busy: int = 0
        self.begun: int = 0
        self.abandoned: int = 0
        self.usual_seconds: float = UNKNOWN_SECONDS
        self._execute = execute
        self._settle = settle
        self._on_busy = on_busy
        self._on_room = on_room
        self._lanes: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._one_is_coming = False
        self._idle_waiters: list[asyncio.Future[None]] = []

    def put(self, claims: list[Claim]) -> None:
        """Have these run, in this order, as soon as there is room."""
        self.waiting.extend(claims)
        self._call_one()

    def withdraw(self) -> list[Claim]:
        """Take back everything that has not begun, in order."""
        claims = list(self.waiting)
        self.waiting.clear()
        return claims

    async def until_idle(self) -> None:
        """Wait until nothing is running."""
        while self.busy:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def write_off(self) -> None:
        """Go on without a lane whose job was abandoned; it ends by itself if that job ever does."""
        self.abandoned += 1
        self._ended()
        self._call_one()

    async def close(self) -> None:
        """End all lanes that are at rest. Those with abandoned jobs in them are left to themselves."""
        for rest in self._resting:
            rest.cancel()
        self._resting.clear()
        await asyncio.sleep(0)

    def _call_one(self) -> None:
        """See to it that a lane comes for what is waiting, unless one is on its way or none is free."""
        if self._one_is_coming or not self.waiting:
            return
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():
                rest.set_result(None)
                self._one_is_coming = True
                return
        if self.busy < self.size:
            self._one_is_coming = True
            lane = asyncio.create_task(self._lane(), name=f"mahavishnu-lane-{len(self._lanes) + 1}")
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _lane(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            self._one_is_coming = False
            while self.waiting and self.busy < self.size:
                if not await self._run_some():
                    return
                if task.cancelling() > 0:  # a job cancelled its own task: no other job may inherit that
                    self._call_one()
                    return
                await asyncio.sleep(0)
            rest: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._resting.append(rest)
            try:
                await rest
            except asyncio.CancelledError:
                return

    async def _run_some(self) -> bool:
        """Run jobs until none waits, or others on the loop need their turn; false: this lane was written off."""
        waiting, task = self.waiting, asyncio.current_task()
        assert task is not None
        started = turn = monotonic()
        while waiting and self.busy < self.size:
            claim = waiting.popleft()
            if claim.is_lost:
                continue
            claim.has_begun = True
            self._begun()
            settlement = await self._execute(claim.attempt)
            if settlement is None:
                self.abandoned -= 1
                return False
            self._ended()
            self._settle(claim, settlement)
            now = monotonic()
            self.usual_seconds += (now - started - self.usual_seconds) * SMOOTHING
            started = now
            if now - turn > TURN_SECONDS or task.cancelling() > 0:
                break
        self._on_room()
        return True

    def _begun(self) -> None:
        self.busy += 1
        self.begun += 1
        if self.busy == 1:
            self._on_busy()
        if self.waiting and not self._one_is_coming:
            self._call_one()

    def _ended(self) -> None:
        self.busy -= 1
        if self._idle_waiters and self.busy == 0:
            for waiter in self._idle_waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle_waiters.clear()
