"""Contract: dead letters, of providers that keep them."""

from __future__ import annotations

import msgspec
import pytest

from mahavishnu.model.run import AttemptNote
from mahavishnu.model.states import RunState
from mahavishnu.queues.base import (
    Burial,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterStore,
    QueueProvider,
    QueueStats,
)
from mahavishnu.testing.suite.fixtures import LEASE_MS, ContractBase, Elapse, new_messages

__all__ = ["ParkingContract"]

_ANY = DeadLetterFilter()
_NOTES = (
    AttemptNote(attempt=1, state=RunState.FAILED, at_ms=1, error="ValueError: \N{SNOWMAN}", worker="host:1"),
    AttemptNote(attempt=2, state=RunState.TIMED_OUT, at_ms=2),
)


class ParkingContract(ContractBase):
    """Parking, listing, redriving and discarding."""

    @pytest.fixture
    async def parked(self, provider: QueueProvider, letters: DeadLetterStore, queue: str) -> list[DeadLetter]:
        """Four letters: two workflows, two reasons, dead at 1000, 2000, 3000 and 4000."""
        await provider.enqueue(queue, new_messages(*(b"\xff%d" % i for i in range(4))))
        deliveries = await self.take(provider, queue)
        made = [
            DeadLetter(
                id=delivery.id,
                queue=queue,
                body=delivery.body,
                reason="attempts-exhausted" if i < 3 else "crash-loop",
                workflow="backup" if i % 2 else "sweep",
                error=f"error {i}",
                traceback="Traceback\n  line",
                attempts=_NOTES,
                died_ms=1000 * (i + 1),
                priority=delivery.priority,
            )
            for i, delivery in enumerate(deliveries)
        ]
        burials = [Burial(receipt=d.receipt, letter=letter) for d, letter in zip(deliveries, made, strict=True)]
        assert await letters.bury(queue, burials) == [True] * 4
        return made

    async def test_buried_is_listed(
        self, provider: QueueProvider, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """A parked message is listed with all that is known of it, oldest first, and is not delivered."""
        assert await letters.dead_letters(queue, _ANY) == parked
        assert await self.take(provider, queue) == []

    async def test_lists_are_of_one_queue_or_all(
        self, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """Without a queue the letters of all queues are listed."""
        assert await letters.dead_letters(f"{queue}-other", _ANY) == []
        everywhere = await letters.dead_letters(None, _ANY)
        assert [letter for letter in everywhere if letter.queue == queue] == parked

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (DeadLetterFilter(workflow="backup"), [1, 3]),
            (DeadLetterFilter(reason="crash-loop"), [3]),
            (DeadLetterFilter(workflow="sweep", reason="crash-loop"), []),
            (DeadLetterFilter(died_before_ms=3000), [0, 1]),
            (DeadLetterFilter(limit=2), [0, 1]),
            (DeadLetterFilter(ids=()), []),
        ],
    )
    async def test_filters(
        self,
        letters: DeadLetterStore,
        queue: str,
        parked: list[DeadLetter],
        where: DeadLetterFilter,
        expected: list[int],
    ) -> None:
        """Each filter selects what it says, and all given must hold."""
        assert await letters.dead_letters(queue, where) == [parked[i] for i in expected]

    async def test_a_stale_burial(
        self, provider: QueueProvider, letters: DeadLetterStore, queue: str, elapse: Elapse
    ) -> None:
        """Somebody whose lease ran out can park nothing."""
        await provider.enqueue(queue, new_messages(b"x"))
        late = await self.take_one(provider, queue, lease_ms=self.short_ms)
        await elapse(self.short_ms + 1)
        current = await self.take_one(provider, queue)
        letter = DeadLetter(id=late.id, queue=queue, body=late.body, reason="refused")
        assert await letters.bury(queue, [Burial(receipt=late.receipt, letter=letter)]) == [False]
        assert await letters.dead_letters(queue, _ANY) == []
        assert await provider.ack(queue, [current.receipt]) == [True]

    async def test_redrive_one(
        self, provider: QueueProvider, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """A redriven letter is a message again, with its own bytes, due at once, counted from 1."""
        assert await letters.redrive(queue, DeadLetterFilter(ids=(parked[2].id,)), {}) == [parked[2].id]
        delivery = await self.take_one(provider, queue)
        assert (delivery.id, delivery.body, delivery.deliveries) == (parked[2].id, parked[2].body, 1)
        assert delivery.priority == parked[2].priority
        assert await letters.dead_letters(queue, _ANY) == [parked[0], parked[1], parked[3]]

    async def test_redrive_some_with_new_bodies(
        self, provider: QueueProvider, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """A filter selects what is redriven; bodies given take the place of the letters' own."""
        where = DeadLetterFilter(workflow="backup")
        assert await letters.redrive(None, where, {parked[1].id: b"anew"}) == [parked[1].id, parked[3].id]
        bodies = {delivery.id: delivery.body for delivery in await self.take(provider, queue)}
        assert bodies == {parked[1].id: b"anew", parked[3].id: parked[3].body}

    async def test_redrive_all(
        self, provider: QueueProvider, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """Without a filter all letters of the queue are redriven, and can be parked again."""
        assert await letters.redrive(queue, _ANY, {}) == [letter.id for letter in parked]
        deliveries = await self.take(provider, queue)
        assert {delivery.id for delivery in deliveries} == {letter.id for letter in parked}
        again = msgspec.structs.replace(parked[0], reason="refused", died_ms=9000)
        burial = Burial(receipt=next(d.receipt for d in deliveries if d.id == again.id), letter=again)
        assert await letters.bury(queue, [burial]) == [True]
        assert await letters.dead_letters(queue, _ANY) == [again]

    async def test_redrive_of_another_queue(
        self, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]
    ) -> None:
        """Naming a queue leaves the letters of others where they are."""
        assert await letters.redrive(f"{queue}-other", DeadLetterFilter(ids=(parked[0].id,)), {}) == []
        assert await letters.dead_letters(queue, _ANY) == parked

    async def test_discard(self, letters: DeadLetterStore, queue: str, parked: list[DeadLetter]) -> None:
        """Discarded letters are gone; the others stay."""
        assert await letters.discard(queue, DeadLetterFilter(reason="crash-loop")) == 1
        assert await letters.discard(queue, DeadLetterFilter(ids=(parked[0].id, "unknown"))) == 1
        assert await letters.dead_letters(queue, _ANY) == parked[1:3]
        assert await letters.discard(queue, _ANY) == 2

    async def test_letters_are_counted(self, provider: QueueProvider, queue: str, parked: list[DeadLetter]) -> None:
        """Statistics count dead letters apart from messages."""
        self.needs("exact_stats")
        counts = {stats.queue: stats for stats in await provider.stats()}
        assert counts[queue] == QueueStats(queue=queue, ready=0, delayed=0, in_flight=0, dead=len(parked))

    async def test_a_letter_without_a_date(self, provider: QueueProvider, letters: DeadLetterStore, queue: str) -> None:
        """A letter that does not say when it died did so when it was parked."""
        await provider.enqueue(queue, new_messages(b"x"))
        delivery = await self.take_one(provider, queue, lease_ms=LEASE_MS)
        letter = DeadLetter(id=delivery.id, queue=queue, body=b"x", reason="refused")
        await letters.bury(queue, [Burial(receipt=delivery.receipt, letter=letter)])
        (listed,) = await letters.dead_letters(queue, _ANY)
        assert delivery.lease_until_ms - LEASE_MS <= listed.died_ms <= delivery.lease_until_ms
