"""Contract: storing messages, once each, and receiving them in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from mahavishnu.queues.base import EnqueueReceipt, Message, QueueProvider
from mahavishnu.testing.suite.fixtures import ContractBase, Elapse, MakeProvider, new_messages

if TYPE_CHECKING:
    from mahavishnu.clock import Clock

__all__ = ["StoringContract"]


def _keyed(key: str, body: bytes = b"", ttl_ms: int = 60_000) -> Message:
    return msgspec.structs.replace(new_messages(body)[0], unique_key=key, unique_ttl_ms=ttl_ms)


class StoringContract(ContractBase):
    """Order, bodies, priorities, delays and duplicates."""

    def test_it_declares_what_is_tested(self, make_provider: MakeProvider) -> None:
        """The provider claims the capabilities this suite checks, and has a name and an address."""
        provider = make_provider()
        assert provider.capabilities == self.capabilities
        assert provider.name
        assert provider.url

    async def test_a_batch_keeps_its_order(self, provider: QueueProvider, queue: str) -> None:
        """Receipts come in the order given, and messages are received in the order stored."""
        messages = new_messages(*(b"%d" % i for i in range(250)))
        receipts = await provider.enqueue(queue, messages)
        assert receipts == [EnqueueReceipt(message.id) for message in messages]
        first = await self.take(provider, queue, 100)
        second = await self.take(provider, queue, 200)
        assert [d.body for d in [*first, *second]] == [message.body for message in messages]
        assert [d.id for d in [*first, *second]] == [message.id for message in messages]

    async def test_no_more_than_the_limit(self, provider: QueueProvider, queue: str) -> None:
        """A receiver gets at most as many as it asked for, and leaves the rest to others."""
        await provider.enqueue(queue, new_messages(b"a", b"b", b"c"))
        assert len(await self.take(provider, queue, 2)) == 2
        assert len(await self.take(provider, queue, 2)) == 1

    async def test_an_empty_batch(self, provider: QueueProvider, queue: str) -> None:
        """Storing, acknowledging or returning nothing is fine."""
        assert await provider.enqueue(queue, []) == []
        assert await provider.ack(queue, []) == []
        assert await provider.nack(queue, []) == []

    async def test_a_queue_nobody_has_used(self, provider: QueueProvider, queue: str) -> None:
        """A queue that does not exist is an empty one."""
        assert await self.take(provider, queue) == []
        assert await self.take(provider, queue, wait_ms=30) == []

    async def test_queues_are_separate(self, provider: QueueProvider, queue: str) -> None:
        """A message is received from its own queue only."""
        await provider.enqueue(queue, new_messages(b"here"))
        assert await self.take(provider, f"{queue}-other") == []
        assert len(await self.take(provider, queue)) == 1

    @pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00\x80", b"\x00", bytes(range(256)) * 3600])
    async def test_any_bytes(self, provider: QueueProvider, queue: str, body: bytes) -> None:
        """Bodies come back as they were: empty, not text, with zeros, and of 900 KB."""
        if self.capabilities.max_body_bytes is not None and len(body) > self.capabilities.max_body_bytes:
            pytest.skip("larger than the provider claims to take")
        await provider.enqueue(queue, new_messages(body))
        assert (await self.take_one(provider, queue)).body == body

    async def test_odd_names(self, provider: QueueProvider, queue: str) -> None:
        """Queue names may have any letters."""
        odd = f"{queue} nächste/größe:*.>"
        await provider.enqueue(odd, new_messages(b"x"))
        assert (await self.take_one(provider, odd)).body == b"x"

    async def test_priorities(self, provider: QueueProvider, queue: str) -> None:
        """The most urgent message is received first, the oldest of equally urgent ones before the others."""
        self.needs("strict_priority")
        messages = [
            msgspec.structs.replace(message, priority=priority)
            for message, priority in zip(new_messages(*[b""] * 6), (5, 0, 9, 5, 9, 1), strict=True)
        ]
        await provider.enqueue(queue, messages)
        deliveries = await self.take(provider, queue, 4) + await self.take(provider, queue, 4)
        assert [d.id for d in deliveries] == [messages[i].id for i in (2, 4, 0, 3, 5, 1)]
        assert [d.priority for d in deliveries] == [9, 9, 5, 5, 1, 0]

    async def test_never_early(self, provider: QueueProvider, queue: str, clock: Clock, elapse: Elapse) -> None:
        """A delayed message is received once it is due, not before, however urgent it is."""
        self.needs("delay")
        now, later = new_messages(b"now", b"later")
        due_ms = clock.now_ms() + 3 * self.short_ms
        await provider.enqueue(queue, [msgspec.structs.replace(later, due_ms=due_ms, priority=9), now])
        assert [d.body for d in await self.take(provider, queue)] == [b"now"]
        await elapse(self.short_ms)
        assert await self.take(provider, queue) == []
        await elapse(2 * self.short_ms)
        assert (await self.take_one(provider, queue)).body == b"later"
        assert clock.now_ms() >= due_ms

    async def test_a_due_time_that_has_passed(self, provider: QueueProvider, queue: str) -> None:
        """A due time in the past means at once."""
        await provider.enqueue(queue, [msgspec.structs.replace(new_messages(b"x")[0], due_ms=1)])
        assert (await self.take_one(provider, queue)).body == b"x"

    async def test_the_same_id_twice(self, provider: QueueProvider, queue: str) -> None:
        """Storing an id that is present, waiting or leased, changes nothing and says so."""
        (message,) = new_messages(b"first")
        again = msgspec.structs.replace(message, body=b"second")
        await provider.enqueue(queue, [message])
        assert await provider.enqueue(queue, [again]) == [EnqueueReceipt(message.id, deduplicated=True)]
        assert (await self.take_one(provider, queue)).body == b"first"
        assert await provider.enqueue(queue, [again]) == [EnqueueReceipt(message.id, deduplicated=True)]
        assert await self.take(provider, queue) == []

    async def test_a_repeated_batch(self, provider: QueueProvider, queue: str) -> None:
        """A batch of which some is stored already stores the rest, and one id in it twice is stored once."""
        old, new = new_messages(b"old", b"new")
        await provider.enqueue(queue, [old])
        receipts = await provider.enqueue(queue, [new, old, new])
        assert [receipt.deduplicated for receipt in receipts] == [False, True, True]
        assert sorted(d.body for d in await self.take(provider, queue)) == [b"new", b"old"]

    async def test_equal_keys_make_one_message(self, provider: QueueProvider, queue: str, elapse: Elapse) -> None:
        """An equal key within the window yields the first message's id, and a new message after it."""
        self.needs("unique")
        first, second, third = (_keyed(f"{queue}-key", b"%d" % i, 5 * self.short_ms) for i in range(3))
        assert await provider.enqueue(queue, [first]) == [EnqueueReceipt(first.id)]
        assert await provider.enqueue(queue, [second]) == [EnqueueReceipt(first.id, deduplicated=True)]
        assert len(await self.take(provider, queue)) == 1
        await elapse(5 * self.short_ms)
        assert await provider.enqueue(queue, [third]) == [EnqueueReceipt(third.id)]

    async def test_keys_outlive_their_message(self, provider: QueueProvider, queue: str) -> None:
        """A key is remembered after its message was acknowledged, and so is the id that has it."""
        self.needs("unique")
        first, second = _keyed(f"{queue}-key"), _keyed(f"{queue}-key")
        await provider.enqueue(queue, [first])
        await provider.ack(queue, [(await self.take_one(provider, queue)).receipt])
        duplicate = [EnqueueReceipt(first.id, deduplicated=True)]
        assert await provider.enqueue(queue, [second]) == duplicate
        assert await provider.enqueue(queue, [first]) == duplicate
        assert await self.take(provider, queue) == []

    async def test_keys_within_a_batch(self, provider: QueueProvider, queue: str) -> None:
        """Equal keys in one batch make one message; other messages of the batch are stored."""
        self.needs("unique")
        first, second = _keyed(f"{queue}-key", b"first"), _keyed(f"{queue}-key", b"second")
        (plain,) = new_messages(b"plain")
        receipts = await provider.enqueue(queue, [first, plain, second, first])
        assert [receipt.id for receipt in receipts] == [first.id, plain.id, first.id, first.id]
        assert [receipt.deduplicated for receipt in receipts] == [False, False, True, True]
        assert sorted(d.body for d in await self.take(provider, queue)) == [b"first", b"plain"]

    async def test_keys_of_concurrent_callers(self, make_provider: MakeProvider, queue: str) -> None:
        """Of callers that use one key at the same time, one stores a message and all learn its id."""
        self.needs("unique")
        providers = [make_provider() for _ in range(2 if self.capabilities.shared_between_processes else 1)]
        await asyncio.gather(*(provider.open() for provider in providers))
        try:
            calls = [provider.enqueue(queue, [_keyed(f"{queue}-key")]) for provider in providers for _ in range(10)]
            receipts = [receipt for (receipt,) in await asyncio.gather(*calls)]
            assert sum(not receipt.deduplicated for receipt in receipts) == 1
            assert len({receipt.id for receipt in receipts}) == 1
            assert len(await self.take(providers[0], queue)) == 1
        finally:
            await asyncio.gather(*(provider.close() for provider in providers))
