"""The processes that the contract suite starts, stops and kills.

`python -m mahavishnu.testing.process FACTORY PLACE QUEUE ROLE NUMBER` opens the provider that the factory makes of
the place and plays a role, reporting on standard output, one line at a time:

- `produce`: enqueues batches of NUMBER messages without end, and writes their ids once they are confirmed.
- `hold`: leases one message for NUMBER milliseconds and writes its id; on a line of input it acknowledges it and
  writes `True` or `False`.
- `drain`: on a line of input, receives and acknowledges batches of at most NUMBER until the queue stays empty, writing
  the ids whose acknowledgement was accepted.
- `send`: on each line of input, enqueues one message and writes its id; NUMBER is not used.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.ids import new_ids
from mahavishnu.queues.base import Message
from mahavishnu.testing.factories import load_factory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mahavishnu.queues.base import QueueProvider

__all__ = ["main"]

DRAIN_LEASE_MS = 60_000
DRAIN_WAIT_MS = 300


def _report(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _new_messages(count: int) -> list[Message]:
    return [Message(id=job_id, body=job_id.encode()) for job_id in new_ids(SYSTEM_CLOCK.now_ms(), count)]


async def _produce(provider: QueueProvider, queue: str, number: int) -> None:
    while True:
        receipts = await provider.enqueue(queue, _new_messages(number))
        _report(receipt.id for receipt in receipts)


async def _hold(provider: QueueProvider, queue: str, number: int) -> None:
    deliveries = await provider.receive(queue, limit=1, lease_ms=number, wait_ms=10_000)
    _report(delivery.id for delivery in deliveries)
    await asyncio.to_thread(sys.stdin.readline)
    _report(map(str, await provider.ack(queue, [delivery.receipt for delivery in deliveries])))


async def _drain(provider: QueueProvider, queue: str, number: int) -> None:
    await asyncio.to_thread(sys.stdin.readline)
    while deliveries := await provider.receive(queue, limit=number, lease_ms=DRAIN_LEASE_MS, wait_ms=DRAIN_WAIT_MS):
        acked = await provider.ack(queue, [delivery.receipt for delivery in deliveries])
        _report(delivery.id for delivery, was_ours in zip(deliveries, acked, strict=True) if was_ours)


async def _send(provider: QueueProvider, queue: str, number: int) -> None:
    del number
    while await asyncio.to_thread(sys.stdin.readline):
        receipts = await provider.enqueue(queue, _new_messages(1))
        _report(receipt.id for receipt in receipts)


_ROLES = {"produce": _produce, "hold": _hold, "drain": _drain, "send": _send}


async def _play(factory: str, place: str, queue: str, role: str, number: int) -> None:
    provider = load_factory(factory)(place)
    await provider.open()
    _report(["ready"])
    try:
        await _ROLES[role](provider, queue, number)
    finally:
        await provider.close()


def main(arguments: list[str]) -> None:
    """Play one role until it ends or the process is killed."""
    factory, place, queue, role, number = arguments
    asyncio.run(_play(factory, place, queue, role, int(number)))


if __name__ == "__main__":
    main(sys.argv[1:])
