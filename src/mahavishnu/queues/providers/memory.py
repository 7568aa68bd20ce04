"""Queues in this process's memory: for tests, and for work that may be forgotten.

Everything a provider can promise except surviving its process. It is also the contract in its plainest form.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.errors import QueueConnectionError
from mahavishnu.queues.base import Capabilities, Delivery, EnqueueReceipt, Message, QueueStats
from mahavishnu.queues.waiting import Claimed, WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.clock import Clock
    from mahavishnu.queues.base import Burial, DeadLetter, DeadLetterFilter, Return

__all__ = ["MemoryQueueProvider"]


class _Held:
    """A message and where it stands; `lease` is `None` while it waits."""

    __slots__ = (
        "body",
        "deliveries",
        "due_ms",
        "id",
        "is_gone",
        "lease",
        "lease_until_ms",
        "priority",
        "queue",
        "seq",
    )

    def __init__(self, message: Message, queue: str, seq: int, now_ms: int) -> None:
        self.id = message.id
        self.queue = queue
        self.body = message.body
        self.priority = message.priority
        self.due_ms = now_ms if message.due_ms is None else message.due_ms
        self.seq = seq
        self.deliveries = 0
        self.lease: int | None = None
        self.lease_until_ms = 0
        self.is_gone = False

    def is_leased(self, now_ms: int) -> bool:
        return self.lease is not None and self.lease_until_ms > now_ms

    def delivery(self) -> Delivery:
        return Delivery(
            id=self.id,
            body=self.body,
            receipt=self.lease,
            deliveries=self.deliveries,
            lease_until_ms=self.lease_until_ms,
            priority=self.priority,
        )


class _Heaps:
    """The order of one queue's messages. An entry that is no longer true is dropped when it surfaces."""

    __slots__ = ("delayed", "leased", "ready")

    def __init__(self) -> None:
        self.ready: list[tuple[int, int, int, _Held]] = []
        self.delayed: list[tuple[int, int, _Held]] = []
        self.leased: list[tuple[int, int, _Held]] = []

    def place(self, held: _Held, now_ms: int) -> None:
        """Enter a message where its state says."""
        if held.lease is not None:
            heappush(self.leased, (held.lease_until_ms, held.lease, held))
        elif held.due_ms > now_ms:
            heappush(self.delayed, (held.due_ms, held.seq, held))
        else:
            heappush(self.ready, (-held.priority, held.due_ms, held.seq, held))

    def pop_ready(self) -> _Held | None:
        """Take the message to be delivered next."""
        while self.ready:
            held = heappop(self.ready)[-1]
            if held.lease is None and not held.is_gone:
                return held
        return None

    def promote(self, now_ms: int) -> None:
        """Make ready what has fallen due and what was leased for too long."""
        while (next_ms := self.next_ms()) is not None and next_ms <= now_ms:
            if self.delayed and self.delayed[0][0] == next_ms:
                held = heappop(self.delayed)[-1]
            else:
                held = heappop(self.leased)[-1]
                held.lease = None
            self.place(held, now_ms)

    def next_ms(self) -> int | None:
        """Return when something falls due next."""
        while self.delayed and (self.delayed[0][-1].is_gone or self.delayed[0][-1].lease is not None):
            heappop(self.delayed)
        while self.leased and not _is_current(self.leased[0]):
            heappop(self.leased)
        return min((heap[0][0] for heap in (self.delayed, self.leased) if heap), default=None)


def _is_current(entry: tuple[int, int, _Held]) -> bool:
    until_ms, lease, held = entry
    return held.lease == lease and held.lease_until_ms == until_ms and not held.is_gone


class MemoryQueueProvider:
    """Queues in memory. Closing keeps the messages; they end with the object.

    Args:
        clock: Tells due times and leases.
    """

    name = "memory"
    url = "memory:"
    capabilities: Capabilities = Capabilities(survives_restart=False, shared_between_processes=False)

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._is_open = False
        self._held: dict[str, _Held] = {}
        self._leases: dict[object, _Held] = {}
        self._queues: dict[str, _Heaps] = {}
        self._letters: dict[str, DeadLetter] = {}
        self._keys: dict[str, tuple[str, int]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._numbers = count(1)
        self._waiting = WaitingRoom(clock, _never_changed)

    async def open(self) -> None:
        """Make it usable. Idempotent."""
        self._is_open = True

    async def close(self) -> None:
        """Refuse further calls. Idempotent."""
        self._is_open = False
        self._waiting.ring_all()

    async def enqueue(self, queue: str, messages: Sequence[Message]) -> list[EnqueueReceipt]:
        """Store messages; all of them or, if the provider is closed, none."""
        now_ms = self._now_ms()
        receipts = [self._store(queue, message, now_ms) for message in messages]
        self._waiting.ring(queue, min((message.due_ms or 0 for message in messages), default=0))
        return receipts

    def _store(self, queue: str, message: Message, now_ms: int) -> EnqueueReceipt:
        if message.id in self._held or message.id in self._letters:
            return EnqueueReceipt(message.id, deduplicated=True)
        if message.unique_key is not None:
            holder = self._take_key(message.unique_key, message.id, now_ms + message.unique_ttl_ms, now_ms)
            if holder is not None:
                return EnqueueReceipt(holder, deduplicated=True)
        held = self._held[message.id] = _Held(message, queue, next(self._numbers), now_ms)
        self._heaps(queue).place(held, now_ms)
        return EnqueueReceipt(message.id)

    def _take_key(self, key: str, job_id: str, expires_ms: int, now_ms: int) -> str | None:
        """Remember a key; returns who has it already."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            del self._keys[heappop(self._expiries)[1]]
        if key in self._keys:
            return self._keys[key][0]
        self._keys[key] = (job_id, expires_ms)
        heappush(self._expiries, (expires_ms, key))
        return None

    # --- consuming ---

    async def receive(self, queue: str, *, limit: int, lease_ms: int, wait_ms: int) -> list[Delivery]:
        """Lease due messages, waiting for one if there is none."""
        self._now_ms()

        async def claim() -> Claimed:
            return self._claim(queue, limit, lease_ms)

        return await self._waiting.receive(queue, claim, wait_ms)

    def _claim(self, queue: str, limit: int, lease_ms: int) -> Claimed:
        now_ms = self._now_ms()
        heaps = self._queues.get(queue)
        if heaps is None:
            return Claimed([], None)
        heaps.promote(now_ms)
        deliveries: list[Delivery] = []
        while len(deliveries) < limit and (held := heaps.pop_ready()) is not None:
            deliveries.append(self._lease(heaps, held, now_ms, lease_ms))
        return Claimed(deliveries, None if deliveries else heaps.next_ms())

    def _lease(self, heaps: _Heaps, held: _Held, now_ms: int, lease_ms: int) -> Delivery:
        held.lease = next(self._numbers)
        held.lease_until_ms = now_ms + lease_ms
        held.deliveries += 1
        self._leases[held.lease] = held
        heaps.place(held, now_ms)
        return held.delivery()

    async def ack(self, queue: str, receipts: Sequence[object]) -> list[bool]:
        """Forget finished messages."""
        now_ms = self._now_ms()
        return [self._settle(queue, receipt, now_ms, forget=True) is not None for receipt in receipts]

    async def nack(self, queue: str, returns: Sequence[Return]) -> list[bool]:
        """Give deliveries back."""
        now_ms = self._now_ms()
        results = [self._give_back(queue, item, now_ms) for item in returns]
        self._waiting.ring(queue, min((item.due_ms or 0 for item in returns), default=0))
        return results

    def _give_back(self, queue: str, item: Return, now_ms: int) -> bool:
        held = self._settle(queue, item.receipt, now_ms)
        if held is None:
            return False
        if item.body is not None:
            held.body, held.deliveries = item.body, 0
        elif item.handed_back:
            held.deliveries -= 1
        if item.due_ms is not None:
            held.due_ms = item.due_ms
        elif not item.handed_back:
            held.due_ms = now_ms
        self._queues[queue].place(held, now_ms)
        return True

    async def extend(self, queue: str, receipts: Sequence[object], *, lease_ms: int) -> list[bool]:
        """Make leases last longer."""
        now_ms = self._now_ms()
        owned = [self._owned(queue, receipt, now_ms) for receipt in receipts]
        for held in owned:
            if held is not None:
                held.lease_until_ms = now_ms + lease_ms
                self._queues[queue].place(held, now_ms)
        return [held is not None for held in owned]

    def _owned(self, queue: str, receipt: object, now_ms: int) -> _Held | None:
        """Return the message that this receipt still holds."""
        held = self._leases.get(receipt)
        if held is None or held.queue != queue:
            return None
        if held.lease == receipt and held.is_leased(now_ms):
            return held
        del self._leases[receipt]
        return None

    def _settle(self, queue: str, receipt: object, now_ms: int, *, forget: bool = False) -> _Held | None:
        """End a lease; returns its message if it was still held."""
        held = self._owned(queue, receipt, now_ms)
        if held is not None:
            del self._leases[receipt]
            held.lease = None
            if forget:
                self._forget(held)
        return held

    def _forget(self, held: _Held) -> None:
        held.is_gone = True
        del self._held[held.id]

    # --- dead letters ---

    async def bury(self, queue: str, burials: Sequence[Burial]) -> list[bool]:
        """Park deliveries."""
        now_ms = self._now_ms()
        buried: list[bool] = []
        for burial in burials:
            held = self._settle(queue, burial.receipt, now_ms, forget=True)
            buried.append(held is not None)
            if held is not None:
                died_ms = burial.letter.died_ms or now_ms
                self._letters[held.id] = msgspec.structs.replace(burial.letter, died_ms=died_ms)
        return buried

    async def dead_letters(self, queue: str | None, where: DeadLetterFilter) -> list[DeadLetter]:
        """List parked messages, oldest first."""
        self._now_ms()
        return self._parked(queue, where)

    def _parked(self, queue: str | None, where: DeadLetterFilter) -> list[DeadLetter]:
        found = [letter for letter in self._letters.values() if _matches(letter, queue, where)]
        return sorted(found, key=_age)[: where.limit]

    async def redrive(self, queue: str | None, where: DeadLetterFilter, bodies: dict[str, bytes]) -> list[str]:
        """Move parked messages back to their queues."""
        now_ms = self._now_ms()
        letters = self._parked(queue, where)
        for letter in letters:
            del self._letters[letter.id]
            body = bodies.get(letter.id, letter.body)
            self._store(letter.queue, Message(id=letter.id, body=body, priority=letter.priority), now_ms)
            self._waiting.ring(letter.queue)
        return [letter.id for letter in letters]

    async def discard(self, queue: str | None, where: DeadLetterFilter) -> int:
        """Delete parked messages."""
        self._now_ms()
        letters = self._parked(queue, where)
        for letter in letters:
            del self._letters[letter.id]
        return len(letters)

    # --- looking in ---

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Remove messages that are not leased."""
        now_ms = self._now_ms()
        found = [held for job_id in dict.fromkeys(ids) if (held := self._held.get(job_id)) is not None]
        return [held.id for held in found if self._removed(held, now_ms)]

    async def find(self, ids: Sequence[str]) -> list[Message]:
        """Return those of the messages that are present."""
        self._now_ms()
        found = [held for job_id in dict.fromkeys(ids) if (held := self._held.get(job_id)) is not None]
        return [Message(id=held.id, body=held.body, priority=held.priority, due_ms=held.due_ms) for held in found]

    async def purge(self, queue: str) -> int:
        """Delete every message of the queue that is not leased."""
        now_ms = self._now_ms()
        here = [held for held in self._held.values() if held.queue == queue]
        return sum(self._removed(held, now_ms) for held in here)

    def _removed(self, held: _Held, now_ms: int) -> bool:
        if held.is_leased(now_ms):
            return False
        self._forget(held)
        return True

    async def stats(self) -> list[QueueStats]:
        """Count the messages of every queue."""
        now_ms = self._now_ms()
        return [self._count(name, now_ms) for name in sorted(self._queues)]

    def _count(self, name: str, now_ms: int) -> QueueStats:
        here = [held for held in self._held.values() if held.queue == name]
        waiting = [held.due_ms for held in here if not held.is_leased(now_ms)]
        ready = [due_ms for due_ms in waiting if due_ms <= now_ms]
        return QueueStats(
            queue=name,
            ready=len(ready),
            delayed=len(waiting) - len(ready),
            in_flight=len(here) - len(waiting),
            dead=sum(letter.queue == name for letter in self._letters.values()),
            oldest_ready_ms=min(ready, default=None),
        )

    def _heaps(self, queue: str) -> _Heaps:
        heaps = self._queues.get(queue)
        if heaps is None:
            heaps = self._queues[queue] = _Heaps()
        return heaps

    def _now_ms(self) -> int:
        """Return the time, of an open provider."""
        if not self._is_open:
            raise QueueConnectionError(self.name, self.url, "the provider is closed")
        return self._clock.now_ms()


def _never_changed() -> int:
    """Return the same number always: nobody changes a process's memory behind its back."""
    return 0


def _matches(letter: DeadLetter, queue: str | None, where: DeadLetterFilter) -> bool:
    return (
        (queue is None or letter.queue == queue)
        and (where.ids is None or letter.id in where.ids)
        and (where.workflow is None or letter.workflow == where.workflow)
        and (where.reason is None or letter.reason == where.reason)
        and (where.died_before_ms is None or letter.died_ms < where.died_before_ms)
    )


def _age(letter: DeadLetter) -> int:
    return letter.died_ms
