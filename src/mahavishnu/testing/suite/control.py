"""Contract: looking into queues, taking messages out, and counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from mahavishnu.queues.base import Message, QueueControl, QueueProvider, QueueStats
from mahavishnu.testing.suite.fixtures import ContractBase, Elapse, new_messages

if TYPE_CHECKING:
    from mahavishnu.clock import Clock

__all__ = ["ControlContract"]

_FAR_MS = 3_600_000


class ControlContract(ContractBase):
    """What operators do."""

    @pytest.fixture
    async def mixed(self, provider: QueueProvider, queue: str, clock: Clock) -> list[Message]:
        """One message that is leased, one that is ready and one that is delayed, in this order."""
        self.needs("delay")
        leased, ready, delayed = new_messages(b"leased", b"ready", b"delayed")
        await provider.enqueue(queue, [leased])
        await self.take_one(provider, queue)
        delayed = msgspec.structs.replace(delayed, due_ms=clock.now_ms() + _FAR_MS)
        await provider.enqueue(queue, [ready, delayed])
        return [leased, ready, delayed]

    async def test_cancel_ready(
        self, provider: QueueProvider, control: QueueControl, queue: str, mixed: list[Message]
    ) -> None:
        """A message that is due and not leased can be removed, once."""
        self.needs("cancel_ready")
        assert await control.cancel([mixed[1].id]) == [mixed[1].id]
        assert await control.cancel([mixed[1].id, "unknown"]) == []
        assert await self.take(provider, queue) == []

    async def test_cancel_delayed(
        self, provider: QueueProvider, control: QueueControl, queue: str, mixed: list[Message], elapse: Elapse
    ) -> None:
        """A delayed message can be removed and never falls due."""
        self.needs("cancel_delayed")
        assert await control.cancel([mixed[2].id]) == [mixed[2].id]
        assert [message.id for message in await control.find([m.id for m in mixed])] == [mixed[0].id, mixed[1].id]

    async def test_a_leased_message_stays(self, control: QueueControl, mixed: list[Message]) -> None:
        """A message somebody works on is not removed."""
        self.needs("cancel_ready", "cancel_delayed")
        removed = await control.cancel([message.id for message in mixed])
        assert sorted(removed) == sorted([mixed[1].id, mixed[2].id])
        assert len(await control.find([mixed[0].id])) == 1

    async def test_find(self, control: QueueControl, mixed: list[Message]) -> None:
        """Messages are found by id whatever their state, with their bytes; unknown ids are left out."""
        found = await control.find([message.id for message in mixed] + ["unknown"])
        assert {m.id: m.body for m in found} == {m.id: m.body for m in mixed}
        by_id = {message.id: message for message in found}
        assert by_id[mixed[2].id].due_ms == mixed[2].due_ms

    async def test_purge(
        self, provider: QueueProvider, control: QueueControl, queue: str, mixed: list[Message]
    ) -> None:
        """A purge removes what is ready or delayed in this queue, and nothing that is leased or elsewhere."""
        other = f"{queue}-other"
        await provider.enqueue(other, new_messages(b"x"))
        assert await control.purge(queue) == 2
        assert [message.id for message in await control.find([m.id for m in mixed])] == [mixed[0].id]
        assert len(await self.take(provider, other)) == 1
        assert await control.purge(f"{queue}-unknown") == 0

    async def test_a_purged_id_is_free_again(self, provider: QueueProvider, control: QueueControl, queue: str) -> None:
        """What was removed may be stored anew."""
        messages = new_messages(b"x")
        await provider.enqueue(queue, messages)
        await control.purge(queue)
        (receipt,) = await provider.enqueue(queue, messages)
        assert not receipt.deduplicated
        assert len(await self.take(provider, queue)) == 1

    async def test_stats(self, provider: QueueProvider, queue: str, mixed: list[Message], clock: Clock) -> None:
        """Ready, delayed and leased messages are counted exactly, and the oldest ready one is known."""
        self.needs("exact_stats")
        (stats,) = [stats for stats in await provider.stats() if stats.queue == queue]
        assert (stats.ready, stats.delayed, stats.in_flight, stats.dead, stats.exact) == (1, 1, 1, 0, True)
        assert stats.oldest_ready_ms is not None
        assert clock.now_ms() - 60_000 <= stats.oldest_ready_ms <= clock.now_ms()

    async def test_stats_follow_the_clock(
        self, provider: QueueProvider, queue: str, clock: Clock, elapse: Elapse
    ) -> None:
        """A message that has fallen due and one whose lease ran out count as ready, before anybody receives."""
        self.needs("exact_stats", "delay")
        leased, delayed = new_messages(b"leased", b"delayed")
        await provider.enqueue(queue, [leased])
        await self.take_one(provider, queue, lease_ms=self.short_ms)
        await provider.enqueue(queue, [msgspec.structs.replace(delayed, due_ms=clock.now_ms() + self.short_ms)])
        await elapse(self.short_ms + 1)
        (stats,) = [stats for stats in await provider.stats() if stats.queue == queue]
        assert (stats.ready, stats.delayed, stats.in_flight) == (2, 0, 0)

    async def test_an_emptied_queue_is_still_listed(self, provider: QueueProvider, queue: str) -> None:
        """A queue that has held something stays in the list."""
        self.needs("exact_stats")
        await provider.enqueue(queue, new_messages(b"x"))
        await provider.ack(queue, [(await self.take_one(provider, queue)).receipt])
        empty = QueueStats(queue=queue, ready=0, delayed=0, in_flight=0, dead=0)
        assert [stats for stats in await provider.stats() if stats.queue == queue] == [empty]
