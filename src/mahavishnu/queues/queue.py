"""The portable queue: what every provider needs done once, above the bytes a provider moves.

It turns jobs into messages and back, refuses what the provider cannot do, makes one provider call of many
callers' single jobs, and tells listeners of dead letters. Everybody but the registry holds this type.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import msgspec

from mahavishnu.errors import CapabilityError, ConfigurationError, ContextError, EnvelopeError
from mahavishnu.model.instants import from_ms
from mahavishnu.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE, PRIORITY_RANGE, EnqueuedJob
from mahavishnu.observability.events import DeadLettered
from mahavishnu.queues.base import DeadLetter, DeadLetterFilter, DeadLetterStore, Message, QueueControl, Return
from mahavishnu.queues.batching import EnqueueBatcher
from mahavishnu.queues.envelope import (
    REMEMBERED_ATTEMPTS,
    Envelope,
    decode_envelope,
    encode_envelope,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mahavishnu.clock import Clock
    from mahavishnu.observability.events import Events
    from mahavishnu.queues.base import (
        Burial,
        Capabilities,
        Delivery,
        EnqueueReceipt,
        QueueProvider,
        QueueStats,
    )

__all__ = ["DeadJob", "FoundJob", "PreparedJob", "Queue"]

DEFAULT_UNIQUE_WINDOW = timedelta(hours=24)
DEFAULT_MAX_BODY_BYTES = 1024 * 1024
REDRIVEN_PER_CALL = 200
ABLE = ("sqlite", "memory")
"""The embedded providers can do everything the portable queue offers."""

_ANY = DeadLetterFilter()
_MILLISECOND = timedelta(milliseconds=1)


class PreparedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job ready to be enqueued: checked against its workflow, its context encoded.

    Attributes:
        envelope: The job as it travels.
        queue: The queue it shall wait in.
        priority: 0 (least urgent) to 9 (most urgent).
        due_ms: Not before this instant, Unix milliseconds, however far away; `None`: at once.
        idempotency_key: Equal keys of one workflow within the window make one job.
    """

    envelope: Envelope
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    due_ms: int | None = None
    idempotency_key: str | None = None


class DeadJob(msgspec.Struct, frozen=True):
    """A dead letter and, where its bytes could be read, the job in it."""

    letter: DeadLetter
    envelope: Envelope | None


class FoundJob(msgspec.Struct, frozen=True):
    """A message in a queue and, where its bytes could be read, the job in it."""

    message: Message
    envelope: Envelope | None


class Queue:
    """Durable queues of one provider.

    All methods are safe to call concurrently from the event loop that called `open`.

    Args:
        provider: Moves the bytes.
        clock: Tells due times.
        events: Told of dead letters.
        unique_window: How long an idempotency key is remembered, from when it was first used; 24 hours by default.
        max_body_bytes: The largest encoded job, 1 MiB by default; a provider's own smaller limit prevails.
    """

    def __init__(
        self,
        provider: QueueProvider,
        *,
        clock: Clock,
        events: Events,
        unique_window: timedelta = DEFAULT_UNIQUE_WINDOW,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._events = events
        self._unique_ttl_ms = unique_window // _MILLISECOND
        self._capabilities = provider.capabilities
        self._max_body_bytes = min(max_body_bytes, self._capabilities.max_body_bytes or max_body_bytes)
        self._batchers: dict[str, EnqueueBatcher] = {}

    @property
    def provider_name(self) -> str:
        """The provider's key, such as `sqlite`."""
        return self._provider.name

    @property
    def url(self) -> str:
        """Where the provider stores its messages, without credentials."""
        return self._provider.url

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do by itself."""
        return self._capabilities

    async def open(self) -> None:
        """Connect. Idempotent; after `close` it opens anew.

        Raises:
            QueueConnectionError: The server cannot be reached.
            StorageError: The file of an embedded provider cannot be used.
        """
        await self._provider.open()

    async def close(self) -> None:
        """Send what was handed over, then let go of the connection. Idempotent; deliveries keep their lease."""
        for batcher in self._batchers.values():
            await batcher.drain()
        self._batchers.clear()
        await self._provider.close()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    # --- producing ---

    async def enqueue(self, jobs: Sequence[PreparedJob]) -> list[EnqueuedJob]:
        """Store jobs durably; returns in order, only after the provider confirmed all of them.

        After an error the whole call may be repeated: jobs stored by the first try are recognised by their ids.
        Concurrent calls with one job each share the provider's round trips.

        Raises:
            CapabilityError: The provider cannot honour a delay or an idempotency key.
            ConfigurationError: A priority is not 0 to 9.
            ContextError: A job is too large.
            QueueConnectionError: The server cannot be reached.
            StorageError: The file of an embedded provider cannot be written.
        """
        now_ms = self._clock.now_ms()
        messages = [self._message(job, now_ms) for job in jobs]
        if len(jobs) == 1:
            return [self._enqueued(jobs[0], await self._batcher(jobs[0].queue).enqueue(messages[0]))]
        receipts = await self._enqueue_by_queue(jobs, messages)
        return list(map(self._enqueued, jobs, receipts))

    async def _enqueue_by_queue(
        self, jobs: Sequence[PreparedJob], messages: Sequence[Message]
    ) -> Sequence[EnqueueReceipt]:
        places: dict[str, list[int]] = defaultdict(list)
        for place, job in enumerate(jobs):
            places[job.queue].append(place)
        if len(places) == 1:
            return await self._provider.enqueue(jobs[0].queue, messages)
        receipts: dict[int, EnqueueReceipt] = {}
        for queue, here in places.items():
            stored = await self._provider.enqueue(queue, [messages[place] for place in here])
            receipts.update(zip(here, stored, strict=True))
        return [receipts[place] for place in range(len(jobs))]

    def _batcher(self, queue: str) -> EnqueueBatcher:
        batcher = self._batchers.get(queue)
        if batcher is None:
            batcher = self._batchers[queue] = EnqueueBatcher(queue, self._provider.enqueue)
        return batcher

    def _message(self, job: PreparedJob, now_ms: int) -> Message:
        envelope, due_ms = job.envelope, job.due_ms
        if job.priority not in PRIORITY_RANGE:
            raise ConfigurationError(
                f"priority {job.priority!r} of workflow {envelope.workflow!r}: give 0 (least urgent) to 9 (most urgent)"
            )
        if due_ms is not None:
            due_ms, envelope = self._first_hop(envelope, due_ms, now_ms)
        body = encode_envelope(envelope)
        if len(body) > self._max_body_bytes:
            raise self._too_large(envelope.workflow, len(body))
        if job.idempotency_key is None:
            return Message(id=envelope.id, body=body, priority=job.priority, due_ms=due_ms)
        return Message(
            id=envelope.id,
            body=body,
            priority=job.priority,
            due_ms=due_ms,
            unique_key=self._unique_key(envelope.workflow, job.idempotency_key),
            unique_ttl_ms=self._unique_ttl_ms,
        )

    def _first_hop(self, envelope: Envelope, due_ms: int, now_ms: int) -> tuple[int | None, Envelope]:
        """Return when the provider shall deliver, at most its longest delay away, and the job knowing the rest."""
        if due_ms <= now_ms:
            return None, envelope
        if not self._capabilities.delay:
            raise self._cannot("schedule_time", "it delivers at once")
        longest_ms = self._capabilities.max_delay_ms
        if longest_ms is None or due_ms - now_ms <= longest_ms:
            return due_ms, envelope
        return now_ms + longest_ms, msgspec.structs.replace(envelope, due_ms=due_ms)

    def _unique_key(self, workflow: str, key: str) -> str:
        if not self._capabilities.unique:
            raise self._cannot("idempotency_key", "it does not recognise equal keys")
        if ":" in workflow or "%" in workflow:  # so that `a:b` + `c` and `a` + `b:c` stay apart
            workflow = workflow.replace("%", "%25").replace(":", "%3A")
        return f"{workflow}:{key}"

    def _too_large(self, workflow: str, size: int) -> ContextError:
        return ContextError(
            workflow,
            f"the job is {size:,} bytes, the limit on {self.provider_name} is {self._max_body_bytes:,};"
            " keep the data in a file or table and pass its name",
        )

    def _enqueued(self, job: PreparedJob, receipt: EnqueueReceipt) -> EnqueuedJob:
        return EnqueuedJob(
            job_id=receipt.id,
            workflow=job.envelope.workflow,
            provider=self._provider.name,
            queue=job.queue,
            scheduled_for=None if job.due_ms is None else from_ms(job.due_ms),
            deduplicated=receipt.deduplicated,
        )

    # --- consuming ---

    async def receive(self, queue: str, *, limit: int, lease_ms: int, wait_ms: int) -> list[Delivery]:
        """Lease up to `limit` due jobs, most urgent first, then oldest due.

        Returns as soon as there is one, or an empty list after `wait_ms`. Cancelling the call loses nothing.
        Bytes are not decoded here: use `decode_envelope`, and `early_return` before running the job.
        """
        return await self._provider.receive(queue, limit=limit, lease_ms=lease_ms, wait_ms=wait_ms)

    def early_return(self, delivery: Delivery, envelope: Envelope) -> Return | None:
        """Return how to send a job back that is on the way to a due time beyond the provider's longest delay.

        `None`: it is due, run it. Otherwise `nack` this: it is not an attempt and not a delivery.
        """
        longest_ms = self._capabilities.max_delay_ms
        if longest_ms is None or envelope.due_ms is None:
            return None
        now_ms = self._clock.now_ms()
        if envelope.due_ms <= now_ms:
            return None
        return Return(receipt=delivery.receipt, due_ms=min(envelope.due_ms, now_ms + longest_ms), handed_back=True)

    async def ack(self, queue: str, receipts: Sequence[object]) -> list[bool]:
        """Forget finished jobs. For each receipt, whether it was still ours; a stale one changes nothing."""
        return await self._provider.ack(queue, receipts)

    async def nack(self, queue: str, returns: Sequence[Return]) -> list[bool]:
        """Give deliveries back. For each, whether it was still ours; a stale one changes nothing.

        A due time beyond the provider's longest delay is reached in hops; such a return must bring its `body`.

        Raises:
            CapabilityError: The provider cannot delay, or a hop is needed and there is no body to note it in.
        """
        if self._capabilities.max_delay_ms is not None or not self._capabilities.delay:
            now_ms = self._clock.now_ms()
            returns = [self._hopping(item, now_ms) for item in returns]
        return await self._provider.nack(queue, returns)

    def _hopping(self, item: Return, now_ms: int) -> Return:
        if item.due_ms is None:
            return item
        if item.body is None:
            longest_ms = self._capabilities.max_delay_ms
            if not self._capabilities.delay or (longest_ms is not None and item.due_ms - now_ms > longest_ms):
                raise self._cannot("a delayed return", "the delay exceeds what it can hold by itself")
            return item
        due_ms, envelope = self._first_hop(decode_envelope(item.body), item.due_ms, now_ms)
        if due_ms == item.due_ms:
            return item
        return msgspec.structs.replace(item, due_ms=due_ms, body=encode_envelope(envelope))

    async def extend(self, queue: str, receipts: Sequence[object], *, lease_ms: int) -> list[bool]:
        """Make leases last `lease_ms` from now. For each, whether it was still ours.

        Raises:
            CapabilityError: The provider's leases cannot be extended.
        """
        if not self._capabilities.lease_extension:
            raise self._cannot("lease extension", "its leases have a fixed end")
        return await self._provider.extend(queue, receipts, lease_ms=lease_ms)

    # --- dead letters ---

    async def bury(self, queue: str, burials: Sequence[Burial]) -> list[bool]:
        """Park deliveries for a person and tell listeners. For each, whether it was still ours.

        Raises:
            CapabilityError: The provider keeps no dead letters.
        """
        buried = await self._letters().bury(queue, burials)
        if self._events.wants(DeadLettered):
            for burial, was_ours in zip(burials, buried, strict=True):
                if was_ours:
                    self._events.emit(_dead_lettered(burial.letter))
        return buried

    async def dead_letters(self, queue: str | None = None, where: DeadLetterFilter = _ANY) -> list[DeadJob]:
        """List dead letters of one queue, or of all, oldest first, decoded where that is possible.

        Raises:
            CapabilityError: The provider keeps no dead letters.
        """
        letters = await self._letters().dead_letters(queue, where)
        return [DeadJob(letter, _decoded(letter.body)) for letter in letters]

    async def redrive(self, queue: str | None = None, where: DeadLetterFilter = _ANY) -> list[str]:
        """Move dead letters back to their queues, due at once, as first attempts; returns their ids.

        The notes of earlier attempts stay with the job. Letters parked after the call began are not touched.

        Raises:
            CapabilityError: The provider keeps no dead letters.
        """
        store = self._letters()
        until_ms = self._clock.now_ms() + 1
        before_ms = until_ms if where.died_before_ms is None else min(until_ms, where.died_before_ms)
        moved: list[str] = []
        while where.limit is None or len(moved) < where.limit:
            most = REDRIVEN_PER_CALL if where.limit is None else min(REDRIVEN_PER_CALL, where.limit - len(moved))
            page = msgspec.structs.replace(where, died_before_ms=before_ms, limit=most)
            letters = await store.dead_letters(queue, page)
            if not letters:
                break
            bodies = {letter.id: _revived(letter) for letter in letters}
            revived = await store.redrive(queue, DeadLetterFilter(ids=tuple(bodies)), bodies)
            if not revived:  # somebody else has them
                break
            moved += revived
        return moved

    async def discard(self, queue: str | None = None, where: DeadLetterFilter = _ANY) -> int:
        """Delete dead letters; returns how many.

        Raises:
            CapabilityError: The provider keeps no dead letters.
        """
        return await self._letters().discard(queue, where)

    # --- looking in ---

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Remove jobs that no worker holds, in any queue; returns the ids that were removed.

        Raises:
            CapabilityError: The provider cannot take single jobs out.
        """
        return await self._control("cancelling queued jobs").cancel(ids)

    async def find(self, ids: Sequence[str]) -> list[FoundJob]:
        """Return those of the jobs that are present, leased or not.

        Raises:
            CapabilityError: The provider cannot look jobs up.
        """
        messages = await self._control("looking up jobs").find(ids)
        return [FoundJob(message, _decoded(message.body)) for message in messages]

    async def purge(self, queue: str) -> int:
        """Delete every job of the queue that no worker holds; dead letters stay. Returns how many.

        Raises:
            CapabilityError: The provider cannot empty a queue.
        """
        return await self._control("purging").purge(queue)

    async def stats(self) -> list[QueueStats]:
        """Count the jobs of every queue, by name."""
        return await self._provider.stats()

    # --- what the provider has ---

    def _letters(self) -> DeadLetterStore:
        if self._capabilities.dead_letters and isinstance(self._provider, DeadLetterStore):
            return self._provider
        raise self._cannot("dead letters", "it keeps none")

    def _control(self, what: str) -> QueueControl:
        if isinstance(self._provider, QueueControl):
            return self._provider
        raise self._cannot(what, "it cannot look into its queues")

    def _cannot(self, option: str, why: str) -> CapabilityError:
        return CapabilityError(f"queue provider {self.provider_name!r}", option, why, ABLE)


def _decoded(body: bytes) -> Envelope | None:
    try:
        return decode_envelope(body)
    except EnvelopeError:
        return None


def _revived(letter: DeadLetter) -> bytes:
    """Return the job as a first attempt that remembers the earlier ones; bytes that cannot be read stay as they are."""
    envelope = _decoded(letter.body)
    if envelope is None:
        return letter.body
    notes = (letter.attempts or envelope.notes)[-REMEMBERED_ATTEMPTS:]
    return encode_envelope(msgspec.structs.replace(envelope, attempt=1, notes=notes))


def _dead_lettered(letter: DeadLetter) -> DeadLettered:
    return DeadLettered(
        job_id=letter.id,
        queue=letter.queue,
        workflow=letter.workflow,
        reason=letter.reason,
        error=letter.error,
    )
