"""What the SQLite provider adds to the contract: speed of wake-ups, its query plans, and files that refuse."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
import threading
from datetime import timedelta
from functools import partial
from time import monotonic

import pytest

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import QueueConnectionError, StorageError
from mahavishnu.model.ids import new_ids
from mahavishnu.queues.base import Burial, DeadLetter, EnqueueReceipt, Message, Return
from mahavishnu.queues.registry import create_provider
from mahavishnu.storage.statements import load_statements
from mahavishnu.testing import FakeClock

SQL = load_statements("mahavishnu.queues.providers")


def make(folder, clock=SYSTEM_CLOCK, **options):
    """Make a provider in a folder."""
    return create_provider("sqlite", state_dir=folder, clock=clock, settings={"sqlite": options})


@pytest.fixture
async def provider(tmp_path):
    """An open provider that waits for locks only briefly."""
    provider = make(tmp_path, busy_seconds=0.2)
    await provider.open()
    yield provider
    await provider.close()


@pytest.fixture
async def another(tmp_path, provider):
    """Another provider of the same file, as in another process."""
    another = make(tmp_path, busy_seconds=0.2)
    await another.open()
    yield another
    await another.close()


def messages(count, **fields):
    """Return new messages."""
    return [Message(id=job_id, body=b"x", **fields) for job_id in new_ids(SYSTEM_CLOCK.now_ms(), count)]


def receive(provider, limit=10, wait_ms=0):
    """Receive."""
    return provider.receive("q", limit=limit, lease_ms=30_000, wait_ms=wait_ms)


# --- waking up ---


async def test_a_delayed_message_comes_on_time(provider):
    """A waiting receiver gets a message within 100 ms of its due time, never before."""
    waiting = asyncio.create_task(receive(provider, wait_ms=10_000))
    due_ms = SYSTEM_CLOCK.now_ms() + 150
    await provider.enqueue("q", messages(1, due_ms=due_ms))
    assert len(await waiting) == 1
    assert 0 <= SYSTEM_CLOCK.now_ms() - due_ms < 100


async def test_an_earlier_message_shortens_the_wait(provider, another):
    """A receiver that sleeps until a far due time wakes for a nearer one, from whichever process."""
    await provider.enqueue("q", messages(1, due_ms=SYSTEM_CLOCK.now_ms() + 60_000))
    for sender in (provider, another):
        waiting = asyncio.create_task(receive(provider, wait_ms=10_000))
        await asyncio.sleep(0.05)
        began = monotonic()
        await sender.enqueue("q", messages(1, due_ms=SYSTEM_CLOCK.now_ms() + 100))
        assert len(await waiting) == 1
        assert 0.09 < monotonic() - began < 0.5


async def test_without_sockets_it_is_only_slower(tmp_path, monkeypatch):
    """Where no socket can be made, a waiting receiver finds another process's message by its slow look."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    receiving, sending = make(tmp_path), make(tmp_path)
    await asyncio.gather(receiving.open(), sending.open())
    waiting = asyncio.create_task(receive(receiving, wait_ms=10_000))
    await asyncio.sleep(0.05)
    began = monotonic()
    await sending.enqueue("q", messages(1))
    assert len(await waiting) == 1
    assert monotonic() - began < 2.5
    await asyncio.gather(receiving.close(), sending.close())


async def test_an_idle_receiver_does_nothing(provider, monkeypatch):
    """While nothing happens a waiting receiver asks the file once, and not again."""
    submitted, submit = [], provider._database.submit
    monkeypatch.setattr(provider._database, "submit", lambda *a, **k: submitted.append(a) or submit(*a, **k))
    await provider.enqueue("q", messages(1, due_ms=SYSTEM_CLOCK.now_ms() + 60_000))
    assert await receive(provider, wait_ms=300) == []
    assert len(submitted) == 2


async def test_receivers_of_other_queues_sleep_on(provider, monkeypatch):
    """News of one queue wakes its own receivers only."""
    waiting = asyncio.create_task(receive(provider, wait_ms=300))
    await asyncio.sleep(0.05)
    submitted, submit = [], provider._database.submit
    monkeypatch.setattr(provider._database, "submit", lambda *a, **k: submitted.append(a) or submit(*a, **k))
    await provider.enqueue("other", messages(1))
    await asyncio.sleep(0.1)
    assert len(submitted) == 1
    assert await waiting == []


# --- bookkeeping ---


async def test_a_dead_letter_keeps_its_id(provider):
    """An id that is parked counts as present, so a repeated enqueue does not revive it behind an operator's back."""
    (message,) = messages(1)
    await provider.enqueue("q", [message])
    (delivery,) = await receive(provider)
    letter = DeadLetter(id=message.id, queue="q", body=b"x", reason="refused")
    await provider.bury("q", [Burial(receipt=delivery.receipt, letter=letter)])
    (fresh,) = messages(1)
    receipts = await provider.enqueue("q", [message, fresh])
    assert receipts == [EnqueueReceipt(message.id, deduplicated=True), EnqueueReceipt(fresh.id)]
    assert [delivery.id for delivery in await receive(provider)] == [fresh.id]


async def test_old_keys_are_swept(tmp_path):
    """Expired keys go away little by little as new ones come."""
    clock = FakeClock()
    provider = make(tmp_path, clock)
    await provider.open()
    await provider.enqueue("q", [m for n in range(40) for m in messages(1, unique_key=f"old {n}", unique_ttl_ms=1000)])
    clock.advance(timedelta(seconds=2))
    for number in range(3):
        await provider.enqueue("q", messages(1, unique_key=f"new {number}"))
    count = await provider._database.read(lambda c: c.execute("SELECT count(*) FROM unique_key").fetchone()[0])
    assert count == 3
    await provider.close()


@pytest.mark.parametrize("name", ["reclaim", "claim", "next_due", "ack", "nack", "extend", "sweep_keys", "take_key"])
async def test_hot_statements_search(provider, name):
    """No statement of the hot path walks through a table or index, however many messages there are."""

    def plan(connection):
        parameters = [None] * max(int(number) for number in re.findall(r"\?(\d)", SQL[name]))
        return [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", parameters)]

    steps = await provider._database.read(plan)
    tables = ("message", "waiting", "unique_key", "queue", "dead_letter")
    assert not [step for step in steps if step.startswith("SCAN") and step.split()[1] in tables]


async def test_urgent_messages_of_the_future_cost_nothing(provider):
    """A claim among many delayed messages of higher priority stays quick."""
    far_ms = SYSTEM_CLOCK.now_ms() + 3_600_000
    await provider.enqueue("q", messages(20_000, due_ms=far_ms, priority=9))
    await provider.enqueue("q", messages(20, priority=1))

    def steps_of(claim, connection):
        steps = 0

        def count():
            nonlocal steps
            steps += 1

        connection.set_progress_handler(count, 1)
        connection.execute(SQL["claim"], claim).fetchall()
        connection.set_progress_handler(None, 0)
        return steps

    claim = ("q", SYSTEM_CLOCK.now_ms(), 10, 1, far_ms)
    assert await provider._database.write(partial(steps_of, claim)) < 3000


async def test_a_claim_without_a_receiver_is_handed_back(provider):
    """What the writer leases after its receiver was cancelled is there for the next one, also across a close."""
    await provider.enqueue("q", messages(1))
    for closing in (False, True):
        held = threading.Event()
        provider._database.submit(lambda _, held=held: held.wait(5), durable=False)
        receiving = asyncio.create_task(receive(provider))
        await asyncio.sleep(0.01)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        held.set()
        if closing:
            await provider.close()
            await provider.open()
        (delivery,) = await receive(provider, wait_ms=5000)
        assert delivery.deliveries == 1
        await provider.nack("q", [Return(receipt=delivery.receipt, handed_back=True)])


# --- files that refuse ---


async def test_a_full_disk_keeps_what_was_accepted(provider):
    """On a full disk an enqueue is refused whole; the messages before it are there, and come out again."""
    await provider.enqueue("q", messages(5))
    await provider._database.write(lambda connection: connection.execute("PRAGMA max_page_count = 30"))
    with pytest.raises(StorageError, match="the disk is full; free some space") as caught:
        await provider.enqueue("q", messages(5000))
    assert caught.value.retryable
    assert "\n" not in str(caught.value)
    deliveries = await receive(provider)
    assert len(deliveries) == 5
    assert await provider.ack("q", [delivery.receipt for delivery in deliveries]) == [True] * 5


async def test_a_locked_file_is_refused_and_recovers(tmp_path, provider):
    """While another program holds the file every change is a retryable error; afterwards all is well."""
    await provider.enqueue("q", messages(2))
    (held, _) = await receive(provider)
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for call in (provider.enqueue("q", messages(1)), receive(provider), provider.ack("q", [held.receipt])):
        with pytest.raises(StorageError, match=r"queue\.db: locked by another process") as caught:
            await call
        assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()
    assert await provider.ack("q", [held.receipt]) == [True]
    (stats,) = await provider.stats()
    assert (stats.ready, stats.in_flight) == (0, 1)


async def test_a_file_that_is_no_queue(tmp_path):
    """A file with something else in it is one clear error, and stays closed."""
    (tmp_path / "queue.db").write_text("hello " * 1000)
    provider = make(tmp_path)
    with pytest.raises(StorageError, match="not a database; move the file away, or choose another `state_dir`"):
        await provider.open()
    with pytest.raises(QueueConnectionError, match="closed"):
        await provider.stats()
    await provider.close()


async def test_a_cancelled_caller_still_enqueues(provider, another):
    """Cancelling the caller does not undo the call, and the receivers of other processes hear of it."""
    waiting = asyncio.create_task(receive(another, wait_ms=10_000))
    await asyncio.sleep(0.05)
    storing = asyncio.create_task(provider.enqueue("q", messages(1)))
    await asyncio.sleep(0)
    storing.cancel()
    assert len(await asyncio.wait_for(waiting, 0.9)) == 1
