"""Contract: leases, acknowledging, giving back, and waiting for messages."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import pytest

from mahavishnu.queues.base import QueueProvider, Return
from mahavishnu.testing.suite.fixtures import LEASE_MS, ContractBase, Elapse, new_messages

if TYPE_CHECKING:
    from mahavishnu.clock import Clock

__all__ = ["LeasingContract"]


class LeasingContract(ContractBase):
    """What a delivery is worth, and for how long."""

    async def test_ack_forgets(self, provider: QueueProvider, queue: str, elapse: Elapse) -> None:
        """An acknowledged message never comes back; acknowledging again tells that it was not ours any more."""
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue, lease_ms=self.short_ms)
        assert await provider.ack(queue, [delivery.receipt]) == [True]
        assert await provider.ack(queue, [delivery.receipt]) == [False]
        await elapse(2 * self.short_ms)
        assert await self.take(provider, queue) == []

    async def test_ack_of_some(self, provider: QueueProvider, queue: str) -> None:
        """In one call each receipt is judged by itself, in order, one given twice counting once."""
        await provider.enqueue(queue, new_messages(b"a", b"b"))
        first, second = await self.take(provider, queue)
        await provider.ack(queue, [first.receipt])
        receipts = [first.receipt, second.receipt, second.receipt]
        assert await provider.ack(queue, receipts) == [False, True, False]

    async def test_a_leased_message_is_hidden(self, provider: QueueProvider, queue: str) -> None:
        """Nobody else receives a message while it is leased; its delivery says until when."""
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue)
        assert delivery.deliveries == 1
        assert await self.take(provider, queue, wait_ms=50) == []

    async def test_the_lease_deadline(self, provider: QueueProvider, queue: str, clock: Clock) -> None:
        """A delivery says when its lease ends."""
        await provider.enqueue(queue, new_messages(b"x"))
        before_ms = clock.now_ms()
        delivery = await self.take_one(provider, queue)
        assert before_ms + LEASE_MS <= delivery.lease_until_ms <= clock.now_ms() + LEASE_MS

    async def test_nack_redelivers(self, provider: QueueProvider, queue: str) -> None:
        """A message given back comes again, and its deliveries are counted."""
        await provider.enqueue(queue, new_messages(b"x"))
        first = await self.take_one(provider, queue)
        assert await provider.nack(queue, [Return(receipt=first.receipt)]) == [True]
        second = await self.take_one(provider, queue)
        assert (second.id, second.body, second.deliveries) == (first.id, b"x", 2)
        assert await provider.nack(queue, [Return(receipt=first.receipt)]) == [False]

    async def test_nack_with_delay(self, provider: QueueProvider, queue: str, clock: Clock, elapse: Elapse) -> None:
        """A message given back until later is not received before."""
        self.needs("delay")
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue)
        due_ms = clock.now_ms() + 2 * self.short_ms
        await provider.nack(queue, [Return(receipt=delivery.receipt, due_ms=due_ms)])
        await elapse(self.short_ms)
        assert await self.take(provider, queue) == []
        await elapse(self.short_ms)
        assert (await self.take_one(provider, queue)).id == delivery.id

    async def test_nack_with_a_successor(self, provider: QueueProvider, queue: str) -> None:
        """A new body takes the place of the old one, under the same id, and is counted from 1."""
        await provider.enqueue(queue, new_messages(b"attempt 1"))
        first = await self.take_one(provider, queue)
        await provider.nack(queue, [Return(receipt=first.receipt, body=b"attempt 2\xff")])
        second = await self.take_one(provider, queue)
        assert (second.id, second.body, second.deliveries) == (first.id, b"attempt 2\xff", 1)

    async def test_a_hand_back_is_not_counted(self, provider: QueueProvider, queue: str) -> None:
        """A message handed back was not worked on: it comes again as if it had never been leased."""
        await provider.enqueue(queue, new_messages(b"a", b"b"))
        first = await self.take_one(provider, queue)
        assert await provider.nack(queue, [Return(receipt=first.receipt, handed_back=True)]) == [True]
        again = await self.take_one(provider, queue)
        assert again.deliveries == 1

    async def test_an_expired_lease(self, provider: QueueProvider, queue: str, elapse: Elapse) -> None:
        """A message whose lease ran out comes again, and the late consumer can do nothing to it any more."""
        await provider.enqueue(queue, new_messages(b"x"))
        late = await self.take_one(provider, queue, lease_ms=self.short_ms)
        await elapse(self.short_ms + 1)
        current = await self.take_one(provider, queue)
        assert (current.id, current.deliveries) == (late.id, 2)
        assert await provider.ack(queue, [late.receipt]) == [False]
        assert await provider.nack(queue, [Return(receipt=late.receipt, body=b"stale")]) == [False]
        if self.capabilities.lease_extension:
            assert await provider.extend(queue, [late.receipt], lease_ms=LEASE_MS) == [False]
        assert await provider.ack(queue, [current.receipt]) == [True]

    async def test_extension(self, provider: QueueProvider, queue: str, elapse: Elapse) -> None:
        """An extended lease lasts from the extension; a settled delivery cannot be extended."""
        self.needs("lease_extension")
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue, lease_ms=2 * self.short_ms)
        await elapse(self.short_ms)
        assert await provider.extend(queue, [delivery.receipt], lease_ms=2 * self.short_ms) == [True]
        await elapse(1.5 * self.short_ms)
        assert await self.take(provider, queue) == []
        assert await provider.ack(queue, [delivery.receipt]) == [True]
        assert await provider.extend(queue, [delivery.receipt], lease_ms=LEASE_MS) == [False]

    async def test_an_extended_lease_ends_too(self, provider: QueueProvider, queue: str, elapse: Elapse) -> None:
        """An extension is not for ever."""
        self.needs("lease_extension")
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue, lease_ms=self.short_ms)
        await provider.extend(queue, [delivery.receipt], lease_ms=2 * self.short_ms)
        await elapse(2 * self.short_ms + 1)
        assert (await self.take_one(provider, queue)).deliveries == 2

    async def test_receivers_share_nothing(self, provider: QueueProvider, queue: str) -> None:
        """Concurrent receivers never hold the same message, and together they get all."""
        messages = new_messages(*[b""] * 200)
        await provider.enqueue(queue, messages)
        batches = await asyncio.gather(*(self.take(provider, queue, 7, wait_ms=100) for _ in range(40)))
        ids = [delivery.id for batch in batches for delivery in batch]
        assert sorted(ids) == sorted(message.id for message in messages)

    async def test_a_waiting_receiver_is_woken(self, provider: QueueProvider, queue: str) -> None:
        """A receiver waits for a message and gets it soon after it was stored."""
        waiting = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        began = monotonic()
        await provider.enqueue(queue, new_messages(b"x"))
        deliveries = await asyncio.wait_for(waiting, 20)
        assert [d.body for d in deliveries] == [b"x"]
        assert monotonic() - began < self.wake_seconds

    async def test_a_waiting_receiver_sees_what_falls_due(
        self, provider: QueueProvider, queue: str, clock: Clock, elapse: Elapse
    ) -> None:
        """A receiver that waits gets a delayed message, and one whose lease ran out, when the time comes."""
        self.needs("delay")
        due_ms = clock.now_ms() + self.short_ms
        leased, delayed = new_messages(b"leased", b"delayed")
        await provider.enqueue(queue, [leased])
        await self.take_one(provider, queue, lease_ms=3 * self.short_ms)
        await provider.enqueue(queue, [msgspec.structs.replace(delayed, due_ms=due_ms)])
        for expected in (b"delayed", b"leased"):
            waiting = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
            await asyncio.sleep(0.02)
            await elapse(1.6 * self.short_ms)
            assert [d.body for d in await asyncio.wait_for(waiting, 10)] == [expected]

    async def test_a_return_wakes_a_waiting_receiver(self, provider: QueueProvider, queue: str) -> None:
        """A message given back is received by somebody who waits."""
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue)
        waiting = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
        await asyncio.sleep(0.02)
        await provider.nack(queue, [Return(receipt=delivery.receipt)])
        assert len(await asyncio.wait_for(waiting, self.wake_seconds)) == 1

    async def test_a_receiver_waits_no_longer_than_asked(self, provider: QueueProvider, queue: str) -> None:
        """Without a message a receiver returns empty-handed when its time is up."""
        began = monotonic()
        assert await self.take(provider, queue, wait_ms=100) == []
        assert 0.09 < monotonic() - began < 5

    async def test_a_cancelled_receiver_waits_no_more(self, provider: QueueProvider, queue: str) -> None:
        """A receiver cancelled while waiting takes nothing."""
        waiting = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await provider.enqueue(queue, new_messages(b"x"))
        assert (await self.take_one(provider, queue)).deliveries == 1

    async def test_a_cancelled_receiver_loses_nothing(self, provider: QueueProvider, queue: str) -> None:
        """Whatever a receiver had leased when it was cancelled is there for the next one, uncounted."""
        for turn in range(30):
            (message,) = new_messages(b"x")
            receiving = asyncio.create_task(self.take(provider, queue, wait_ms=20_000))
            await asyncio.sleep(0.002)
            storing = asyncio.create_task(provider.enqueue(queue, [message]))
            await asyncio.sleep(turn * self.wake_seconds / 10_000)  # catches it at different points
            receiving.cancel()
            await storing
            got = await asyncio.gather(receiving, return_exceptions=True)
            if isinstance(got[0], BaseException):
                delivery = await self.take_one(provider, queue)
                assert (delivery.id, delivery.deliveries) == (message.id, 1)
            else:
                (delivery,) = got[0]
            assert await provider.ack(queue, [delivery.receipt]) == [True]
