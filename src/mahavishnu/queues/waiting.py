"""Receivers that wait for a message, and what wakes them.

A receiver claims, and if there is nothing it sleeps until one of these: somebody in this process stored
something (`ring`), the next message or lease known to the last claim falls due, or a slow look at whether the
store has changed behind our back. There is no other polling.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mahavishnu.clock import Clock
    from mahavishnu.queues.base import Delivery

__all__ = ["Claimed", "WaitingRoom"]

LOOK_SECONDS = 1.0
"""How often a sleeping receiver looks whether the store changed unannounced; also bounds the effect of clock jumps."""

_NEVER_MS = 1 << 62


class Claimed(NamedTuple):
    """What one claim found.

    Attributes:
        deliveries: The leased messages.
        next_ms: Where there are none: when the next message or lease falls due; `None`: nothing is to come.
    """

    deliveries: list[Delivery]
    next_ms: int | None


class _Waiter:
    __slots__ = ("future", "next_ms", "rung")

    def __init__(self) -> None:
        self.next_ms = _NEVER_MS
        self.rung = False
        self.future: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self.rung = True
        self.wake()

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Return when rung, at the latest after `seconds`."""
        loop = asyncio.get_running_loop()
        self.future = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self.future
        finally:
            timer.cancel()
            self.future = None


class WaitingRoom:
    """The waiting receivers of one provider in one process.

    Args:
        clock: Tells whether a message is due.
        version: Returns a number that changes when the store does, cheaply.
    """

    def __init__(self, clock: Clock, version: Callable[[], int]) -> None:
        self._clock = clock
        self._version = version
        self._waiters: dict[str, list[_Waiter]] = {}

    def ring(self, queue: str, due_ms: int = 0) -> None:
        """Wake the receivers of a queue that would otherwise sleep beyond `due_ms`."""
        for waiter in self._waiters.get(queue, ()):
            if due_ms < waiter.next_ms:
                waiter.ring()

    def ring_all(self) -> None:
        """Wake every receiver."""
        for queue in self._waiters:
            self.ring(queue)

    async def receive(self, queue: str, claim: Callable[[], Awaitable[Claimed]], wait_ms: int) -> list[Delivery]:
        """Claim until something was found or `wait_ms` have passed."""
        waiter = _Waiter()  # enlisted before the claim, so that nothing stored meanwhile goes unnoticed
        waiters = self._waiters.setdefault(queue, [])
        waiters.append(waiter)
        try:
            return await self._receive(waiter, claim, wait_ms / 1000)
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._waiters.pop(queue, None)

    async def _receive(
        self, waiter: _Waiter, claim: Callable[[], Awaitable[Claimed]], wait_seconds: float
    ) -> list[Delivery]:
        until = self._clock_independent_now() + wait_seconds
        while True:
            version = self._version()
            waiter.rung = False
            waiter.next_ms = _NEVER_MS
            claimed = await claim()
            if claimed.deliveries:
                return claimed.deliveries
            waiter.next_ms = _NEVER_MS if claimed.next_ms is None else claimed.next_ms
            if not await self._sleep(waiter, version, until):
                return []

    async def _sleep(self, waiter: _Waiter, version: int, until: float) -> bool:
        """Sleep until another claim is worth it; returns false if the time is up instead."""
        while not waiter.rung:
            left = until - self._clock_independent_now()
            if left <= 0:
                return False
            due_in_ms = waiter.next_ms - self._clock.now_ms()
            if due_in_ms <= 0:
                return True
            await waiter.sleep(min(left, LOOK_SECONDS, due_in_ms / 1000))
            if self._version() != version:
                return True
        return until > self._clock_independent_now()

    @staticmethod
    def _clock_independent_now() -> float:
        return asyncio.get_running_loop().time()
