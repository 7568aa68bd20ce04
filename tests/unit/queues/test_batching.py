"""Single messages sharing calls."""

from __future__ import annotations

import asyncio

import pytest

from mahavishnu.errors import QueueConnectionError
from mahavishnu.queues.base import EnqueueReceipt, Message
from mahavishnu.queues.batching import EnqueueBatcher


class Recorder:
    """A provider's `enqueue` that notes its batches and can be held up or made to fail."""

    def __init__(self):
        self.batches = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None

    async def __call__(self, queue, messages):
        """Store nothing, confirm everything."""
        self.batches.append([message.id for message in messages])
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [EnqueueReceipt(message.id) for message in messages]


def message(number):
    """Return one message."""
    return Message(id=str(number), body=b"")


async def test_a_lone_message_is_sent_at_once():
    """A caller without company waits for nobody."""
    recorder = Recorder()
    batcher = EnqueueBatcher("q", recorder)
    assert await batcher.enqueue(message(1)) == EnqueueReceipt("1")
    assert await batcher.enqueue(message(2)) == EnqueueReceipt("2")
    assert recorder.batches == [["1"], ["2"]]


async def test_callers_at_the_same_time_share_a_call():
    """Callers of one moment go together, at most 200 at a time, and each gets its own receipt."""
    recorder = Recorder()
    batcher = EnqueueBatcher("q", recorder)
    receipts = await asyncio.gather(*(batcher.enqueue(message(number)) for number in range(450)))
    assert [receipt.id for receipt in receipts] == [str(number) for number in range(450)]
    assert [len(batch) for batch in recorder.batches] == [200, 200, 50]


async def test_callers_during_a_call_share_the_next():
    """Whoever comes while a call is under way waits for it and goes with the others."""
    recorder = Recorder()
    recorder.gate.clear()
    batcher = EnqueueBatcher("q", recorder)
    first = asyncio.create_task(batcher.enqueue(message(0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(batcher.enqueue(message(number))) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    recorder.gate.set()
    await asyncio.gather(first, *others)
    assert recorder.batches == [["0"], ["1", "2", "3"]]


async def test_a_failure_reaches_every_caller_and_no_later_one():
    """All callers of a failed call hear of it; the next call is tried anew."""
    recorder = Recorder()
    recorder.error = QueueConnectionError("x", "x:", "gone")
    batcher = EnqueueBatcher("q", recorder)
    results = await asyncio.gather(*(batcher.enqueue(message(n)) for n in range(3)), return_exceptions=True)
    assert results == [recorder.error] * 3
    recorder.error = None
    assert await batcher.enqueue(message(4)) == EnqueueReceipt("4")


async def test_a_cancelled_caller_does_not_disturb_the_others():
    """A caller that gives up leaves the call to those who share it."""
    recorder = Recorder()
    recorder.gate.clear()
    batcher = EnqueueBatcher("q", recorder)
    tasks = [asyncio.create_task(batcher.enqueue(message(number))) for number in (1, 2)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    recorder.gate.set()
    assert await tasks[1] == EnqueueReceipt("2")
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_draining_waits_for_what_was_handed_over():
    """After `drain` everything handed over before is sent; without any it returns at once."""
    recorder = Recorder()
    batcher = EnqueueBatcher("q", recorder)
    await batcher.drain()
    task = asyncio.create_task(batcher.enqueue(message(1)))
    await asyncio.sleep(0)
    await batcher.drain()
    assert recorder.batches == [["1"]]
    await task
