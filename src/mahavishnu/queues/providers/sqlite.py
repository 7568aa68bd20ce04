"""Queues in one SQLite file, shared by the processes of one machine. No server.

The file is in WAL mode. What a caller is promised (stored, settled, parked) is flushed to disk before the call
returns and survives power loss; a lease is not, since losing one only means an earlier redelivery. A lease is
fenced by a random token, so a late consumer can never touch a message that was claimed again.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from mahavishnu.errors import QueueConnectionError
from mahavishnu.model.run import AttemptNote
from mahavishnu.queues.base import (
    Capabilities,
    DeadLetter,
    DeadLetterFilter,
    Delivery,
    EnqueueReceipt,
    Message,
    QueueStats,
    Return,
)
from mahavishnu.queues.doorbell import Doorbell
from mahavishnu.queues.waiting import Claimed, WaitingRoom
from mahavishnu.storage.sqlite import Database
from mahavishnu.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mahavishnu.clock import Clock
    from mahavishnu.queues.base import Burial
    from mahavishnu.storage.sqlite import Connection

__all__ = ["SqliteQueueProvider"]

T = TypeVar("T")

SQL = load_statements("mahavishnu.queues.providers")
MIGRATIONS = [SQL["schema_1"]]
BUSY_SECONDS = 30.0
PURGED_AT_ONCE = 5000
SWEPT_AT_LEAST = 16


class _Detail(msgspec.Struct, array_like=True):
    """What a dead letter keeps that nobody searches for."""

    error: str
    traceback: str
    attempts: tuple[AttemptNote, ...]


_encode = msgspec.json.Encoder().encode
_encode_detail = msgspec.msgpack.Encoder().encode
_decode_detail = msgspec.msgpack.Decoder(_Detail).decode


class SqliteQueueProvider:
    """Queues in a SQLite file.

    Args:
        path: The file; missing folders are made.
        clock: Tells due times and leases.
        busy_seconds: How long to wait for another process's lock on the file, 30 by default.
    """

    name = "sqlite"
    capabilities: Capabilities = Capabilities()

    def __init__(self, path: Path, *, clock: Clock, busy_seconds: float = BUSY_SECONDS) -> None:
        self._clock = clock
        self._path = path
        self._database = Database(path, migrations=MIGRATIONS, busy_seconds=busy_seconds)
        self._waiting = WaitingRoom(clock, self._version)
        self._doorbell = Doorbell(path, self._waiting.ring)
        self._orphans: set[asyncio.Future[Claimed]] = set()

    @property
    def url(self) -> str:
        """The file, as `sqlite:///…`."""
        return f"sqlite:///{self._path}"

    async def open(self) -> None:
        """Open the file, creating it if need be. Idempotent.

        Raises:
            StorageError: The file or its folder cannot be used.
        """
        await self._database.open()
        self._doorbell.open()

    async def close(self) -> None:
        """Finish what is under way and close the file. Idempotent."""
        if self._orphans:
            await asyncio.wait(self._orphans)
            await asyncio.sleep(0)  # lets their hand-backs be submitted
        await self._database.close()
        self._doorbell.close()
        self._waiting.ring_all()

    # --- producing ---

    async def enqueue(self, queue: str, messages: Sequence[Message]) -> list[EnqueueReceipt]:
        """Store messages in one durable transaction: all or none.

        Raises:
            StorageError: The file cannot be written; nothing was stored.
        """
        self._check_open()
        now_ms = self._clock.now_ms()
        due_ms = min((message.due_ms or 0 for message in messages), default=0)
        return await self._change(partial(_store, queue, messages, now_ms), [(queue, due_ms)])

    async def _change(self, function: Callable[[Connection], T], bells: Sequence[tuple[str, int]]) -> T:
        """Commit a change durably and wake the receivers it concerns, even if the caller is cancelled.

        The receivers of this process are woken at once: their claims queue up right behind the change and so
        find it committed. Those of other processes are woken once it is.
        """
        future = self._database.submit(function)
        for queue, due_ms in bells:
            self._waiting.ring(queue, due_ms)
        future.add_done_callback(partial(self._ring_others, bells))
        return await asyncio.shield(future)

    def _ring_others(self, bells: Sequence[tuple[str, int]], future: asyncio.Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            for queue, due_ms in bells:
                self._doorbell.ring(queue, due_ms)

    # --- consuming ---

    async def receive(self, queue: str, *, limit: int, lease_ms: int, wait_ms: int) -> list[Delivery]:
        """Lease due messages, waiting for one if there is none.

        Raises:
            StorageError: The file cannot be read or written.
        """
        self._check_open()
        if wait_ms > 0:
            self._doorbell.listen()
        return await self._waiting.receive(queue, partial(self._claim, queue, limit, lease_ms), wait_ms)

    async def _claim(self, queue: str, limit: int, lease_ms: int) -> Claimed:
        self._check_open()
        function = partial(_claim, queue, limit, self._clock.now_ms, lease_ms)
        future = self._database.submit(function, durable=False)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._orphans.add(future)
            future.add_done_callback(partial(self._hand_back, queue))
            raise

    def _hand_back(self, queue: str, future: asyncio.Future[Claimed]) -> None:
        """Return what was claimed for a receiver that has gone."""
        self._orphans.discard(future)
        if future.cancelled() or future.exception() is not None or not self._database.is_open:
            return
        returns = [Return(receipt=delivery.receipt, handed_back=True) for delivery in future.result().deliveries]
        if returns:
            self._database.submit(partial(_give_back, returns, self._clock.now_ms()), durable=False)
            self._waiting.ring(queue)

    async def ack(self, queue: str, receipts: Sequence[object]) -> list[bool]:
        """Forget finished messages.

        Raises:
            StorageError: The file cannot be written; nothing was forgotten.
        """
        self._check_open()
        return await self._database.write(partial(_ack, receipts, self._clock.now_ms()))

    async def nack(self, queue: str, returns: Sequence[Return]) -> list[bool]:
        """Give deliveries back.

        Raises:
            StorageError: The file cannot be written; the deliveries keep their leases.
        """
        self._check_open()
        due_ms = min((item.due_ms or 0 for item in returns), default=0)
        return await self._change(partial(_give_back, returns, self._clock.now_ms()), [(queue, due_ms)])

    async def extend(self, queue: str, receipts: Sequence[object], *, lease_ms: int) -> list[bool]:
        """Make leases last longer.

        Raises:
            StorageError: The file cannot be written.
        """
        self._check_open()
        function = partial(_extend, receipts, self._clock.now_ms(), lease_ms)
        return await self._database.write(function, durable=False)

    # --- dead letters ---

    async def bury(self, queue: str, burials: Sequence[Burial]) -> list[bool]:
        """Park deliveries.

        Raises:
            StorageError: The file cannot be written; the deliveries keep their leases.
        """
        self._check_open()
        return await self._database.write(partial(_bury, burials, self._clock.now_ms()))

    async def dead_letters(self, queue: str | None, where: DeadLetterFilter) -> list[DeadLetter]:
        """List parked messages, oldest first.

        Raises:
            StorageError: The file cannot be read.
        """
        self._check_open()
        return await self._database.read(partial(_parked, queue, where))

    async def redrive(self, queue: str | None, where: DeadLetterFilter, bodies: dict[str, bytes]) -> list[str]:
        """Move parked messages back to their queues.

        Raises:
            StorageError: The file cannot be written; nothing was moved.
        """
        self._check_open()
        moved = await self._database.write(partial(_redrive, queue, where, bodies, self._clock.now_ms()))
        for name in {letter.queue for letter in moved}:
            self._waiting.ring(name)
            self._doorbell.ring(name)
        return [letter.id for letter in moved]

    async def discard(self, queue: str | None, where: DeadLetterFilter) -> int:
        """Delete parked messages.

        Raises:
            StorageError: The file cannot be written; nothing was deleted.
        """
        self._check_open()
        return await self._database.write(partial(_discard, queue, where))

    # --- looking in ---

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Remove messages that are not leased.

        Raises:
            StorageError: The file cannot be written; nothing was removed.
        """
        self._check_open()
        return await self._database.write(partial(_cancel, ids, self._clock.now_ms()))

    async def find(self, ids: Sequence[str]) -> list[Message]:
        """Return those of the messages that are present.

        Raises:
            StorageError: The file cannot be read.
        """
        self._check_open()
        return await self._database.read(partial(_find, ids))

    async def purge(self, queue: str) -> int:
        """Delete every message of the queue that is not leased, a few thousand at a time.

        Raises:
            StorageError: The file cannot be written; some may have been deleted.
        """
        purged = 0
        while True:
            self._check_open()
            deleted = await self._database.write(partial(_purge, queue, self._clock.now_ms()))
            purged += deleted
            if deleted < PURGED_AT_ONCE:
                return purged

    async def stats(self) -> list[QueueStats]:
        """Count the messages of every queue.

        Raises:
            StorageError: The file cannot be read.
        """
        self._check_open()
        return await self._database.read(partial(_count, self._clock.now_ms()))

    def _version(self) -> int:
        self._check_open()
        return self._database.version()

    def _check_open(self) -> None:
        if not self._database.is_open:
            raise QueueConnectionError(self.name, self.url, "the provider is closed")


# --- what runs in the writer and reader threads ---


def _store(queue: str, messages: Sequence[Message], now_ms: int, connection: Connection) -> list[EnqueueReceipt]:
    newest = connection.execute(SQL["newest_message"]).fetchone()[0]
    holders = _known(messages, now_ms, newest, connection)
    fresh = [message for message in messages if message.id not in holders] if holders else messages
    rows = [
        (message.id, queue, message.priority, now_ms if message.due_ms is None else message.due_ms, message.body)
        for message in fresh
    ]
    stored = connection.executemany(SQL["insert_message"], rows).rowcount if rows else 0
    if stored:
        connection.execute(SQL["remember_queue"], (queue,))
    if stored == len(messages):
        return [EnqueueReceipt(message.id) for message in messages]
    holders |= _present(fresh, newest, connection)
    return _receipts(messages, holders)


def _known(messages: Sequence[Message], now_ms: int, newest: int, connection: Connection) -> dict[str, str]:
    """Return, for messages that must not be stored because of a dead letter or a key, whose id stands for theirs."""
    holders: dict[str, str] = {}
    if connection.execute(SQL["any_dead_letter"]).fetchone()[0]:
        ids = _encode([message.id for message in messages]).decode()
        holders = {job_id: job_id for (job_id,) in connection.execute(SQL["dead_ids"], (ids,))}
    if any(message.unique_key is not None for message in messages):
        first: dict[str, Message] = {}
        for message in messages:
            first.setdefault(message.id, message)
        keyed = [message for message in first.values() if message.unique_key is not None]
        holders |= _present(keyed, newest, connection)
        holders |= _take_keys([message for message in keyed if message.id not in holders], now_ms, connection)
    return holders


def _present(messages: Sequence[Message], newest: int, connection: Connection) -> dict[str, str]:
    """Return the ids of those messages that were stored up to the row `newest`."""
    ids = _encode([message.id for message in messages]).decode()
    return {job_id: job_id for (job_id,) in connection.execute(SQL["present_ids"], (ids, newest))}


def _take_keys(messages: Sequence[Message], now_ms: int, connection: Connection) -> dict[str, str]:
    """Remember the messages' keys; returns the holders of those that are taken already."""
    connection.execute(SQL["sweep_keys"], (now_ms, 2 * len(messages) + SWEPT_AT_LEAST))
    holders: dict[str, str] = {}
    for message in messages:
        taken = (message.unique_key, message.id, now_ms + message.unique_ttl_ms, now_ms)
        if connection.execute(SQL["take_key"], taken).fetchone() is None:
            holder = connection.execute(SQL["key_holder"], (message.unique_key,)).fetchone()
            holders[message.id] = holder[0]
    return holders


def _receipts(messages: Sequence[Message], holders: dict[str, str]) -> list[EnqueueReceipt]:
    receipts: list[EnqueueReceipt] = []
    for message in messages:
        holder = holders.setdefault(message.id, "")  # a second copy in one batch finds the first
        receipts.append(EnqueueReceipt(holder or message.id, deduplicated=bool(holder)))
        holders[message.id] = holder or message.id
    return receipts


def _claim(queue: str, limit: int, clock_ms: Callable[[], int], lease_ms: int, connection: Connection) -> Claimed:
    now_ms = clock_ms()
    token, until_ms = int.from_bytes(os.urandom(7), "big"), now_ms + lease_ms
    connection.execute(SQL["reclaim"], (queue, now_ms))
    rows = connection.execute(SQL["claim"], (queue, now_ms, limit, token, until_ms)).fetchall()
    if not rows:
        return Claimed([], connection.execute(SQL["next_due"], (queue,)).fetchone()[0])
    rows.sort()  # RETURNING promises no order
    deliveries = [
        Delivery(
            id=job_id,
            body=body,
            receipt=(seq, token),
            deliveries=deliveries,
            lease_until_ms=until_ms,
            priority=-urgency,
        )
        for urgency, _, seq, job_id, body, deliveries in rows
    ]
    return Claimed(deliveries, None)


def _ack(receipts: Sequence[object], now_ms: int, connection: Connection) -> list[bool]:
    held = _held(receipts)
    rows_of: dict[int, list[int]] = {}
    for seq, token in held:
        rows_of.setdefault(token, []).append(seq)
    gone = {token for token, rows in rows_of.items() if len(rows) > 1 and _ack_all(token, rows, now_ms, connection)}
    execute, statement = connection.execute, SQL["ack"]
    return [token in gone or execute(statement, (seq, token, now_ms)).rowcount == 1 for seq, token in held]


def _ack_all(token: int, rows: Sequence[int], now_ms: int, connection: Connection) -> bool:
    """Forget all these messages of one claim in one statement, or none if one of them is no longer ours."""
    connection.execute("SAVEPOINT together")
    were_ours = connection.execute(SQL["ack_many"], (token, now_ms, str(rows))).rowcount == len(rows)
    if not were_ours:
        connection.execute("ROLLBACK TO together")
    connection.execute("RELEASE together")
    return were_ours


def _held(receipts: Sequence[object]) -> Sequence[tuple[int, int]]:
    """Return the rows and tokens that `_claim` put into receipts."""
    return cast("Sequence[tuple[int, int]]", receipts)


def _give_back(returns: Sequence[Return], now_ms: int, connection: Connection) -> list[bool]:
    results: list[bool] = []
    held = _held([item.receipt for item in returns])
    for item, (seq, token) in zip(returns, held, strict=True):
        due_ms = now_ms if item.due_ms is None and not item.handed_back else item.due_ms
        row = (seq, token, now_ms, due_ms, item.body, item.handed_back)
        results.append(connection.execute(SQL["nack"], row).rowcount == 1)
    return results


def _extend(receipts: Sequence[object], now_ms: int, lease_ms: int, connection: Connection) -> list[bool]:
    rows = [(seq, token, now_ms, now_ms + lease_ms) for seq, token in _held(receipts)]
    return [connection.execute(SQL["extend"], row).rowcount == 1 for row in rows]


def _bury(burials: Sequence[Burial], now_ms: int, connection: Connection) -> list[bool]:
    were_ours = _ack([burial.receipt for burial in burials], now_ms, connection)
    for burial, was_ours in zip(burials, were_ours, strict=True):
        if was_ours:
            connection.execute(SQL["bury"], _letter_row(burial.letter, now_ms))
    return were_ours


def _letter_row(letter: DeadLetter, now_ms: int) -> tuple[object, ...]:
    detail = _encode_detail(_Detail(letter.error, letter.traceback, letter.attempts))
    died_ms = letter.died_ms or now_ms
    return letter.id, letter.queue, letter.workflow, letter.reason, died_ms, letter.priority, detail, letter.body


def _letter(row: tuple[str, str, str | None, str, int, int, bytes, bytes]) -> DeadLetter:
    job_id, queue, workflow, reason, died_ms, priority, encoded, body = row
    detail = _decode_detail(encoded)
    return DeadLetter(
        id=job_id,
        queue=queue,
        body=body,
        reason=reason,
        workflow=workflow,
        error=detail.error,
        traceback=detail.traceback,
        attempts=detail.attempts,
        died_ms=died_ms,
        priority=priority,
    )


def _parked(queue: str | None, where: DeadLetterFilter, connection: Connection) -> list[DeadLetter]:
    limit = -1 if where.limit is None else where.limit
    row = (queue, where.workflow, where.reason, where.died_before_ms, limit)
    if where.ids is None:
        return [_letter(found) for found in connection.execute(SQL["list_dead_letters"], row)]
    by_id = (*row, _encode(where.ids).decode())
    return [_letter(found) for found in connection.execute(SQL["list_dead_letters_by_id"], by_id)]


def _redrive(
    queue: str | None, where: DeadLetterFilter, bodies: dict[str, bytes], now_ms: int, connection: Connection
) -> list[DeadLetter]:
    letters = _parked(queue, where, connection)
    for letter in letters:
        connection.execute(SQL["delete_dead_letter"], (letter.id,))
        body = bodies.get(letter.id, letter.body)
        connection.execute(SQL["insert_message"], (letter.id, letter.queue, letter.priority, now_ms, body))
    return letters


def _discard(queue: str | None, where: DeadLetterFilter, connection: Connection) -> int:
    letters = _parked(queue, where, connection)
    connection.executemany(SQL["delete_dead_letter"], [(letter.id,) for letter in letters])
    return len(letters)


def _cancel(ids: Sequence[str], now_ms: int, connection: Connection) -> list[str]:
    removed = connection.execute(SQL["cancel"], (_encode(ids).decode(), now_ms)).fetchall()
    return [job_id for (job_id,) in removed]


def _find(ids: Sequence[str], connection: Connection) -> list[Message]:
    found = connection.execute(SQL["find"], (_encode(ids).decode(),))
    return [Message(id=job_id, body=body, priority=urgency, due_ms=due_ms) for job_id, body, urgency, due_ms in found]


def _purge(queue: str, now_ms: int, connection: Connection) -> int:
    return connection.execute(SQL["purge"], (queue, now_ms, PURGED_AT_ONCE)).rowcount


def _count(now_ms: int, connection: Connection) -> list[QueueStats]:
    connection.execute("BEGIN")  # so that all three counts are of one moment
    try:
        names = [name for (name,) in connection.execute(SQL["list_queues"])]
        waiting = {row[0]: row[1:] for row in connection.execute(SQL["count_waiting"], (now_ms,))}
        leased = {row[0]: row[1:] for row in connection.execute(SQL["count_leased"], (now_ms,))}
        dead = dict(connection.execute(SQL["count_dead"]).fetchall())
    finally:
        connection.execute("COMMIT")
    return [_stats(name, waiting.get(name), leased.get(name), dead.get(name, 0)) for name in names]


def _stats(
    name: str, waiting: tuple[int, int, int | None] | None, leased: tuple[int, int, int | None] | None, dead: int
) -> QueueStats:
    ready, delayed, oldest_ms = waiting or (0, 0, None)
    in_flight, expired, oldest_expired_ms = leased or (0, 0, None)
    return QueueStats(
        queue=name,
        ready=ready + expired,
        delayed=delayed,
        in_flight=in_flight,
        dead=dead,
        oldest_ready_ms=min((ms for ms in (oldest_ms, oldest_expired_ms) if ms is not None), default=None),
    )
