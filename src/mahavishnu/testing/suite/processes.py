"""Contract: several processes on one queue, some of which are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from mahavishnu.testing.factories import load_factory
from mahavishnu.testing.suite.fixtures import ContractBase, new_messages

if TYPE_CHECKING:
    from mahavishnu.queues.base import QueueProvider

__all__ = ["ProcessesContract", "Start"]

Start: TypeAlias = Callable[[str, str, int], Coroutine[Any, Any, Process]]
"""`start(queue, role, number)`: see `mahavishnu.testing.process`."""

LIMIT_SECONDS = 20


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), LIMIT_SECONDS)).decode().strip()


async def _rest(process: Process) -> list[str]:
    """Read what the process wrote until it ended; a line cut off by its death is not counted."""
    assert process.stdout is not None
    written = await asyncio.wait_for(process.stdout.read(), LIMIT_SECONDS)
    return written.decode().split("\n")[:-1]


async def _tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


class ProcessesContract(ContractBase):
    """Nothing acknowledged is lost, and nobody finishes what is no longer theirs."""

    @pytest.fixture
    async def here(self, place: str) -> AsyncIterator[QueueProvider]:
        """An open provider in this process, made as the other processes make theirs."""
        self.needs("survives_restart", "shared_between_processes")
        assert self.child_factory is not None, f"{type(self).__name__} needs `child_factory`"
        provider = load_factory(self.child_factory)(place)
        await provider.open()
        yield provider
        await provider.close()

    @pytest.fixture
    async def start(self, here: QueueProvider, place: str) -> AsyncIterator[Start]:
        """Start a process in a role; it is killed when the test ends."""
        async with _processes(f"{self.child_factory}", place) as start:
            yield start

    async def test_a_killed_producer(self, here: QueueProvider, start: Start, queue: str) -> None:
        """Every message whose storing was confirmed is there after its producer was killed, exactly once."""
        producer = await start(queue, "produce", 20)
        confirmed = [await _line(producer) for _ in range(200)]
        producer.kill()
        confirmed += await _rest(producer)
        present: list[str] = []
        while deliveries := await self.take(here, queue, 500):
            present += [delivery.id for delivery in deliveries]
        assert len(present) == len(set(present))
        assert set(confirmed) <= set(present)

    async def test_a_killed_consumer(self, here: QueueProvider, start: Start, queue: str) -> None:
        """The message of a consumer that was killed comes again once its lease ran out, and not before."""
        await here.enqueue(queue, new_messages(b"x"))
        consumer = await start(queue, "hold", 1000)
        held = await _line(consumer)
        consumer.kill()
        await consumer.wait()
        began = monotonic()
        delivery = await self.take_one(here, queue)
        assert (delivery.id, delivery.deliveries) == (held, 2)
        assert 0.5 < monotonic() - began < 4

    async def test_a_stopped_consumer(self, here: QueueProvider, start: Start, queue: str) -> None:
        """A consumer that was asleep beyond its lease cannot acknowledge what another one holds now."""
        await here.enqueue(queue, new_messages(b"x"))
        consumer = await start(queue, "hold", 500)
        held = await _line(consumer)
        os.kill(consumer.pid, signal.SIGSTOP)
        delivery = await self.take_one(here, queue)
        assert delivery.id == held
        os.kill(consumer.pid, signal.SIGCONT)
        await _tell(consumer)
        assert await _line(consumer) == "False"
        assert await here.ack(queue, [delivery.receipt]) == [True]

    async def test_another_process_wakes_us(self, here: QueueProvider, start: Start, queue: str) -> None:
        """A receiver that waits hears of a message that another process stored."""
        sender = await start(queue, "send", 1)
        for _ in range(3):
            waiting = asyncio.create_task(self.take(here, queue, wait_ms=LIMIT_SECONDS * 1000))
            await asyncio.sleep(0.05)
            began = monotonic()
            await _tell(sender)
            (delivery,) = await asyncio.wait_for(waiting, LIMIT_SECONDS)
            assert monotonic() - began < self.wake_seconds
            assert delivery.id == await _line(sender)

    async def test_processes_share_a_queue(self, here: QueueProvider, start: Start, queue: str) -> None:
        """Three consumers, one of which is killed, finish all but what the killed one held; none is finished twice."""
        messages = new_messages(*[b""] * 4500)
        await here.enqueue(queue, messages)
        consumers = [await start(queue, "drain", 10) for _ in range(3)]
        for consumer in consumers:  # together, so that none has finished the work before the others have begun
            await _tell(consumer)
        finished = [await _line(consumers[0])]
        consumers[0].kill()
        finished += [job_id for lines in await asyncio.gather(*map(_rest, consumers)) for job_id in lines]
        in_flight = [stats.in_flight for stats in await here.stats() if stats.queue == queue]
        assert len(finished) == len(set(finished))
        assert set(finished) <= {message.id for message in messages}
        assert len(messages) - len(finished) <= 20  # one batch held, and one acknowledged but not reported
        assert in_flight[0] <= 10


@asynccontextmanager
async def _processes(factory: str, place: str) -> AsyncGenerator[Start]:
    started: list[Process] = []

    async def start(queue: str, role: str, number: int) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mahavishnu.testing.process", factory, place, queue, role, str(number)),
            stdin=PIPE,
            stdout=PIPE,
        )
        started.append(process)
        assert await _line(process) == "ready"
        return process

    try:
        yield start
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # no public way to let go of its pipes
