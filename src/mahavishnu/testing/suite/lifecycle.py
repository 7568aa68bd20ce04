"""Contract: opening, closing, and what outlives them."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from mahavishnu.errors import QueueConnectionError
from mahavishnu.queues.base import (
    DeadLetterFilter,
    DeadLetterStore,
    QueueControl,
    QueueProvider,
)
from mahavishnu.testing.suite.fixtures import ContractBase, Elapse, MakeProvider, new_messages

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mahavishnu.clock import Clock

__all__ = ["LifecycleContract"]

_ANY = DeadLetterFilter()


def _open_files() -> set[str]:
    return set(os.listdir("/dev/fd"))


class LifecycleContract(ContractBase):
    """Start, stop, and no trace of either."""

    async def test_open_and_close_twice(self, make_provider: MakeProvider, queue: str) -> None:
        """Opening and closing are idempotent, closing without opening is fine, and it opens anew."""
        provider = make_provider()
        await provider.close()
        for _ in range(2):
            await provider.open()
            await provider.open()
            await provider.enqueue(queue, new_messages(b"x"))
            assert len(await self.take(provider, queue)) == 1
            await provider.close()
            await provider.close()

    async def test_concurrent_opening(self, make_provider: MakeProvider, queue: str) -> None:
        """Opening twice at the same time opens once."""
        provider = make_provider()
        await asyncio.gather(provider.open(), provider.open())
        await provider.enqueue(queue, new_messages(b"x"))
        await asyncio.gather(provider.close(), provider.close())

    async def test_use_after_close(self, provider: QueueProvider, queue: str) -> None:
        """Every call on a closed provider is refused."""
        await provider.close()
        calls: list[Awaitable[object]] = [
            provider.enqueue(queue, new_messages(b"x")),
            provider.receive(queue, limit=1, lease_ms=1000, wait_ms=0),
            provider.receive(queue, limit=1, lease_ms=1000, wait_ms=1000),
            provider.ack(queue, []),
            provider.nack(queue, []),
            provider.stats(),
        ]
        if self.capabilities.lease_extension:
            calls.append(provider.extend(queue, [], lease_ms=1000))
        if isinstance(provider, DeadLetterStore):
            calls += [provider.bury(queue, []), provider.dead_letters(queue, _ANY)]
            calls += [provider.redrive(queue, _ANY, {}), provider.discard(queue, _ANY)]
        if isinstance(provider, QueueControl):
            calls += [provider.cancel([]), provider.find([]), provider.purge(queue)]
        for call in calls:
            with pytest.raises(QueueConnectionError, match=provider.name):
                await call

    async def test_closing_ends_waiting(self, provider: QueueProvider, queue: str) -> None:
        """A receiver that waits while the provider is closed does not wait on."""
        waiting = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
        await asyncio.sleep(0.05)
        await provider.close()
        (got,) = await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), self.wake_seconds)
        assert got == [] or isinstance(got, QueueConnectionError)

    async def test_reopening_keeps_everything(
        self, make_provider: MakeProvider, queue: str, clock: Clock, elapse: Elapse
    ) -> None:
        """Ready, delayed and leased messages and their keys are there for the next provider of the same place."""
        self.needs("survives_restart", "delay", "unique")
        leased, ready, delayed = new_messages(b"leased", b"ready", b"delayed")
        delayed = msgspec.structs.replace(delayed, due_ms=clock.now_ms() + 3 * self.short_ms)
        ready = msgspec.structs.replace(ready, unique_key=f"{queue}-key")
        first, second = make_provider(), make_provider()
        await first.open()
        await first.enqueue(queue, [leased])
        old = await self.take_one(first, queue, lease_ms=2 * self.short_ms)
        await first.enqueue(queue, [ready, delayed])
        await first.close()
        await second.open()
        try:
            (receipt,) = await second.enqueue(queue, [msgspec.structs.replace(ready, id=f"{ready.id}x")])
            assert (receipt.id, receipt.deduplicated) == (ready.id, True)
            assert [d.body for d in await self.take(second, queue)] == [b"ready"]
            await elapse(3 * self.short_ms)
            bodies = {d.body: d.deliveries for d in await self.take(second, queue)}
            assert bodies == {b"leased": 2, b"delayed": 1}
            assert await second.ack(queue, [old.receipt]) == [False]
        finally:
            await second.close()

    async def test_a_lease_outlives_its_provider(self, make_provider: MakeProvider, queue: str) -> None:
        """Closing settles nothing: a delivery can still be acknowledged through another provider in time."""
        self.needs("survives_restart", "shared_between_processes")
        first, second = make_provider(), make_provider()
        await first.open()
        await first.enqueue(queue, new_messages(b"x"))
        await self.take_one(first, queue)
        await first.close()
        await second.open()
        assert await self.take(second, queue) == []
        await second.close()

    async def test_nothing_leaks(self, make_provider: MakeProvider, queue: str) -> None:
        """After closing no thread, task, file or socket is left, also after a receiver waited."""

        async def use() -> None:
            provider = make_provider()
            await provider.open()
            await provider.enqueue(queue, new_messages(b"x"))
            await self.take(provider, queue, wait_ms=10)
            await self.take(provider, queue, wait_ms=10)
            await provider.stats()
            await provider.close()

        await use()  # libraries may keep things from their first use
        threads, files, tasks = set(threading.enumerate()), _open_files(), asyncio.all_tasks()
        for _ in range(3):
            await use()
        assert _open_files() <= files
        assert {t for t in threading.enumerate() if t not in threads and "asyncio_" not in t.name} == set()
        assert asyncio.all_tasks() <= tasks
