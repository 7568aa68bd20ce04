"""Whatever is done to a local provider, in whatever order, it behaves as the plainest model of a queue does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mahavishnu.queues.base import Burial, DeadLetter, DeadLetterFilter, EnqueueReceipt, Message, QueueStats, Return
from mahavishnu.queues.registry import create_provider
from mahavishnu.testing import FakeClock

IDS = [f"id{number}" for number in range(8)]
QUEUES = ["a", "b"]
TTL_MS = 5000
LEASE_MS = 2000

new_message = st.tuples(
    st.sampled_from(IDS),
    st.sampled_from([None, None, "k1", "k2"]),
    st.integers(0, 9),
    st.sampled_from([None, None, 500, 3000]),
)


@dataclass
class Held:
    """A message of the model."""

    queue: str
    body: bytes
    priority: int
    due_ms: int
    order: int
    deliveries: int = 0
    lease: int = 0
    until_ms: int = 0


@dataclass
class Model:
    """The contract in a few lines, without any regard for speed."""

    held: dict = field(default_factory=dict)
    dead: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    used: set = field(default_factory=set)
    counter: int = 0

    def next(self):
        """Count."""
        self.counter += 1
        return self.counter

    def store(self, queue, message, now_ms):
        """Return the receipt."""
        if message.id in self.held or message.id in self.dead:
            return EnqueueReceipt(message.id, True)
        if message.unique_key is not None:
            holder, until_ms = self.keys.get(message.unique_key, ("", 0))
            if until_ms > now_ms:
                return EnqueueReceipt(holder, True)
            self.keys[message.unique_key] = (message.id, now_ms + message.unique_ttl_ms)
        self.used.add(queue)
        due_ms = now_ms if message.due_ms is None else message.due_ms
        self.held[message.id] = Held(queue, message.body, message.priority, due_ms, self.next())
        return EnqueueReceipt(message.id)

    def is_free(self, held, now_ms):
        """Return whether nobody has the message."""
        return held.until_ms <= now_ms

    def receive(self, queue, limit, now_ms):
        """Lease; returns ids, bodies and counts in order."""
        due = [
            (-held.priority, held.due_ms, held.order, job_id)
            for job_id, held in self.held.items()
            if held.queue == queue and self.is_free(held, now_ms) and held.due_ms <= now_ms
        ]
        got = []
        for *_, job_id in sorted(due)[:limit]:
            held = self.held[job_id]
            held.deliveries, held.lease, held.until_ms = held.deliveries + 1, self.next(), now_ms + LEASE_MS
            got.append((job_id, held.body, held.deliveries, held.priority, held.until_ms))
        return got

    def owned(self, job_id, lease, now_ms):
        """Return the message if the lease is still good."""
        held = self.held.get(job_id)
        return held if held is not None and held.lease == lease and held.until_ms > now_ms else None

    def stats(self, now_ms):
        """Count."""
        counted = []
        for queue in sorted(self.used):
            here = [held for held in self.held.values() if held.queue == queue]
            free = [held.due_ms for held in here if self.is_free(held, now_ms)]
            ready = [due_ms for due_ms in free if due_ms <= now_ms]
            counted.append(
                QueueStats(
                    queue=queue,
                    ready=len(ready),
                    delayed=len(free) - len(ready),
                    in_flight=len(here) - len(free),
                    dead=sum(letter.queue == queue for letter in self.dead.values()),
                    oldest_ready_ms=min(ready, default=None),
                )
            )
        return counted


class QueueMachine(RuleBasedStateMachine):
    """Drives the model, the provider in memory and the one in a file side by side."""

    leases = Bundle("leases")

    @initialize()
    def start(self):
        """Open both providers on one clock."""
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.model = Model()
        self.providers = [create_provider(n, state_dir=self.folder, clock=self.clock) for n in ("memory", "sqlite")]
        self.bodies = 0
        self.both(lambda provider: provider.open())

    def teardown(self):
        """Close both."""
        if hasattr(self, "loop"):
            self.both(lambda provider: provider.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)

    def both(self, call):
        """Return the answers of both providers."""
        return [self.loop.run_until_complete(call(provider)) for provider in self.providers]

    @property
    def now_ms(self):
        """The time of all three."""
        return self.clock.now_ms()

    def new_body(self):
        """Return bytes not used before."""
        self.bodies += 1
        return b"\xff%d" % self.bodies

    @rule(
        queue=st.sampled_from(QUEUES),
        chosen=st.lists(new_message, min_size=1, max_size=4, unique_by=lambda chosen: chosen[0]),
        twice=st.booleans(),
    )
    def enqueue(self, queue, chosen, twice):
        """Store a batch with ids and keys that may be there already, and perhaps one message in it twice."""
        batch = [
            Message(
                id=job_id,
                body=self.new_body(),
                priority=priority,
                due_ms=None if delay_ms is None else self.now_ms + delay_ms,
                unique_key=key,
                unique_ttl_ms=TTL_MS,
            )
            for job_id, key, priority, delay_ms in chosen
        ]
        batch += batch[:1] if twice else []
        expected = [self.model.store(queue, message, self.now_ms) for message in batch]
        for receipts in self.both(lambda provider: provider.enqueue(queue, batch)):
            assert receipts == expected

    @rule(target=leases, queue=st.sampled_from(QUEUES), limit=st.integers(1, 5))
    def receive(self, queue, limit):
        """Lease what is due, in the right order."""
        expected = self.model.receive(queue, limit, self.now_ms)
        got = self.both(lambda provider: provider.receive(queue, limit=limit, lease_ms=LEASE_MS, wait_ms=0))
        for deliveries in got:
            assert [(d.id, d.body, d.deliveries, d.priority, d.lease_until_ms) for d in deliveries] == expected
        return multiple(
            *(
                (queue, memory.id, self.model.held[memory.id].lease, memory.receipt, sqlite.receipt)
                for memory, sqlite in zip(*got, strict=True)
            )
        )

    def on_lease(self, lease, call):
        """Call both providers with their receipts; returns the model's message if the lease is good."""
        _, job_id, number, *receipts = lease
        held = self.model.owned(job_id, number, self.now_ms)
        for provider, receipt in zip(self.providers, receipts, strict=True):
            assert self.loop.run_until_complete(call(provider, receipt)) == [held is not None]
        return held

    @rule(lease=leases)
    def ack(self, lease):
        """Acknowledge, perhaps too late or for the second time."""
        if self.on_lease(lease, lambda provider, receipt: provider.ack(lease[0], [receipt])) is not None:
            del self.model.held[lease[1]]

    @rule(
        lease=leases,
        delay_ms=st.sampled_from([None, 0, 1000]),
        with_body=st.booleans(),
        handed_back=st.booleans(),
    )
    def nack(self, lease, delay_ms, with_body, handed_back):
        """Give back, in every way there is."""
        body = self.new_body() if with_body else None
        due_ms = None if delay_ms is None else self.now_ms + delay_ms

        def call(provider, receipt):
            item = Return(receipt=receipt, due_ms=due_ms, body=body, handed_back=handed_back)
            return provider.nack(lease[0], [item])

        held = self.on_lease(lease, call)
        if held is not None:
            held.lease = held.until_ms = 0
            if body is not None:
                held.body, held.deliveries = body, 0
            elif handed_back:
                held.deliveries -= 1
            if due_ms is not None:
                held.due_ms = due_ms
            elif not handed_back:
                held.due_ms = self.now_ms

    @rule(lease=leases, lease_ms=st.sampled_from([500, 4000]))
    def extend(self, lease, lease_ms):
        """Make a lease last longer, or shorter."""
        held = self.on_lease(lease, lambda provider, receipt: provider.extend(lease[0], [receipt], lease_ms=lease_ms))
        if held is not None:
            held.until_ms = self.now_ms + lease_ms

    @rule(lease=consumes(leases))
    def bury(self, lease):
        """Park."""
        queue, job_id, *_ = lease
        held = self.model.held.get(job_id)
        letter = DeadLetter(
            id=job_id,
            queue=queue,
            body=self.new_body(),
            reason="refused",
            died_ms=self.now_ms,
            priority=held.priority if held is not None else 5,
        )
        burial = lambda provider, receipt: provider.bury(queue, [Burial(receipt=receipt, letter=letter)])  # noqa: E731
        if self.on_lease(lease, burial) is not None:
            del self.model.held[job_id]
            self.model.dead[job_id] = letter

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=2, unique=True), anew=st.booleans())
    def redrive(self, ids, anew):
        """Bring letters back, with their own bytes or others."""
        where = DeadLetterFilter(ids=tuple(ids))
        letters = self.parked(ids)
        bodies = {job_id: self.new_body() for job_id in ids} if anew else {}
        for moved in self.both(lambda provider: provider.redrive(None, where, bodies)):
            assert moved == [letter.id for letter in letters]
        for letter in letters:
            del self.model.dead[letter.id]
            body = bodies.get(letter.id, letter.body)
            message = Message(id=letter.id, body=body, priority=letter.priority)
            self.model.store(letter.queue, message, self.now_ms)

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=2, unique=True))
    def discard(self, ids):
        """Delete letters."""
        letters = self.parked(ids)
        for count in self.both(lambda provider: provider.discard(None, DeadLetterFilter(ids=tuple(ids)))):
            assert count == len(letters)
        for letter in letters:
            del self.model.dead[letter.id]

    def parked(self, ids):
        """Return the model's letters, oldest first; of one instant, the one parked first."""
        return sorted((letter for letter in self.model.dead.values() if letter.id in ids), key=lambda it: it.died_ms)

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True))
    def cancel(self, ids):
        """Remove what nobody has."""
        held = self.model.held
        expected = sorted(it for it in ids if it in held and self.model.is_free(held[it], self.now_ms))
        for removed in self.both(lambda provider: provider.cancel(ids)):
            assert sorted(removed) == expected
        for job_id in expected:
            del held[job_id]

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue):
        """Empty a queue."""
        held = self.model.held
        gone = [it for it in held if held[it].queue == queue and self.model.is_free(held[it], self.now_ms)]
        for count in self.both(lambda provider: provider.purge(queue)):
            assert count == len(gone)
        for job_id in gone:
            del held[job_id]

    @rule(duration_ms=st.sampled_from([1, 400, 1000, 2000, 5000]))
    def time_passes(self, duration_ms):
        """Let leases, delays and keys run out."""
        self.clock.advance(timedelta(milliseconds=duration_ms))

    @rule()
    def restart(self):
        """Close and open again, which must change nothing."""
        self.both(lambda provider: provider.close())
        self.both(lambda provider: provider.open())

    @invariant()
    def they_hold_the_same(self):
        """Counts, messages and letters agree after every step."""
        if not hasattr(self, "loop"):
            return
        for stats in self.both(lambda provider: provider.stats()):
            assert stats == self.model.stats(self.now_ms)
        for found in self.both(lambda provider: provider.find(IDS)):
            assert {m.id: (m.body, m.priority, m.due_ms) for m in found} == {
                job_id: (held.body, held.priority, held.due_ms) for job_id, held in self.model.held.items()
            }
        for letters in self.both(lambda provider: provider.dead_letters(None, DeadLetterFilter())):
            assert letters == self.parked(IDS)


TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
