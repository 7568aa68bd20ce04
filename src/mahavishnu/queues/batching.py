"""Callers that enqueue one job at a time, sharing one call of the provider.

While a call is under way, whoever comes meanwhile joins the next one; when none is, the call starts at once.
So a lone caller waits for nobody, and a thousand concurrent ones pay for a few round trips.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mahavishnu.queues.base import EnqueueReceipt, Message

    Send: TypeAlias = Callable[[str, Sequence[Message]], Awaitable[list[EnqueueReceipt]]]

__all__ = ["EnqueueBatcher"]

MOST_PER_CALL = 200


class EnqueueBatcher:
    """Collects single messages of one queue into calls of at most 200.

    Args:
        queue: The queue's name.
        send: The provider's `enqueue`.
    """

    def __init__(self, queue: str, send: Send) -> None:
        self._queue = queue
        self._send = send
        self._pending: list[tuple[Message, asyncio.Future[EnqueueReceipt]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def enqueue(self, message: Message) -> EnqueueReceipt:
        """Store one message; returns once the provider confirmed. Cancelling the caller does not undo it."""
        future: asyncio.Future[EnqueueReceipt] = asyncio.get_running_loop().create_future()
        self._pending.append((message, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name=f"mahavishnu-enqueue-{self._queue}")
        return await future

    async def drain(self) -> None:
        """Wait until everything handed over so far was sent."""
        if self._sender is not None:
            await asyncio.shield(self._sender)

    async def _send_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:MOST_PER_CALL], self._pending[MOST_PER_CALL:]
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: list[tuple[Message, asyncio.Future[EnqueueReceipt]]]) -> None:
        try:
            receipts = await self._send(self._queue, [message for message, _ in batch])
        except BaseException as exc:
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            if not isinstance(exc, Exception):
                raise
            return
        for (_, future), receipt in zip(batch, receipts, strict=True):
            if not future.done():
                future.set_result(receipt)
