"""The contract of a queue provider.

A provider moves opaque bytes with a few facts beside them; it knows nothing of workflows, retries or the ledger.
What two providers would both have to write belongs in `Queue`, which is the type everybody else holds.

The contract is batch first: every call takes and returns sequences, so that one round trip or one transaction
can carry hundreds of jobs. All methods are safe to call concurrently from one event loop, and a provider object
belongs to the event loop that opened it. After `close`, every other method raises `QueueConnectionError`.
Instants are Unix milliseconds on the server's clock where it has one, else this machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from mahavishnu.model.run import AttemptNote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Burial",
    "Capabilities",
    "DeadLetter",
    "DeadLetterFilter",
    "DeadLetterStore",
    "Delivery",
    "EnqueueReceipt",
    "Message",
    "QueueControl",
    "QueueProvider",
    "QueueStats",
    "Return",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do; each claim is tested by the contract suite.

    `Queue` emulates what is missing or refuses with `CapabilityError`; a provider never quietly does less.

    Attributes:
        delay: Holds messages until their due time.
        max_delay_ms: The longest native delay; `None`: no limit.
        lease_extension: `extend` works.
        dead_letters: The provider implements `DeadLetterStore`.
        cancel_ready: `QueueControl.cancel` removes messages that are due and not leased.
        cancel_delayed: `QueueControl.cancel` removes messages that are not due yet.
        unique: Idempotency keys are honoured by the server.
        strict_priority: A more urgent message is always received first.
        atomic_return: `nack` with a new body is one atomic step; otherwise a crash may duplicate, never lose.
        exact_stats: `stats` counts exactly.
        push: The server calls the worker; `receive` is served from those calls.
        survives_restart: Messages are still there after the provider's process was killed.
        shared_between_processes: Several processes may work on one queue.
        max_body_bytes: The largest body accepted; `None`: no limit.
        max_lease_ms: The longest lease; `None`: no limit.
    """

    delay: bool = True
    max_delay_ms: int | None = None
    lease_extension: bool = True
    dead_letters: bool = True
    cancel_ready: bool = True
    cancel_delayed: bool = True
    unique: bool = True
    strict_priority: bool = True
    atomic_return: bool = True
    exact_stats: bool = True
    push: bool = False
    survives_restart: bool = True
    shared_between_processes: bool = True
    max_body_bytes: int | None = None
    max_lease_ms: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to be stored.

    Attributes:
        id: The job's id, unique within the provider. Storing an id that is present already changes nothing and
            counts as deduplicated, so a caller unsure of the first try may repeat it.
        body: The encoded envelope.
        priority: 0 (least urgent) to 9 (most urgent).
        due_ms: Not before this instant; `None`: at once. Late is allowed, early is not.
        unique_key: Equal keys within `unique_ttl_ms` make one message, also after it was acknowledged.
        unique_ttl_ms: How long the key is remembered from now.
    """

    id: str
    body: bytes
    priority: int = 5
    due_ms: int | None = None
    unique_key: str | None = None
    unique_ttl_ms: int = 86_400_000


class EnqueueReceipt(msgspec.Struct, frozen=True):
    """What became of one message.

    Attributes:
        id: The id of the message that is stored: the given one, or the one that was there before.
        deduplicated: Whether one was there before.
    """

    id: str
    deduplicated: bool = False


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One received message and the right to work on it for a while.

    Attributes:
        id: The message's id.
        body: Its bytes, as stored.
        receipt: The fencing token, opaque to everybody but the provider; it is worthless after the lease.
        deliveries: How many times this body has been leased, this time included; hand-backs are not counted.
        lease_until_ms: When the lease ends unless extended.
        priority: The message's priority.
    """

    id: str
    body: bytes
    receipt: object
    deliveries: int
    lease_until_ms: int
    priority: int = 5


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery given back, to be delivered again.

    Attributes:
        receipt: The delivery's fencing token.
        due_ms: Not before this instant; `None`: at once.
        body: The successor's bytes; `None`: unchanged. With a new body the count of deliveries starts anew.
        handed_back: Not worked on: this delivery is not counted.
    """

    receipt: object
    due_ms: int | None = None
    body: bytes | None = None
    handed_back: bool = False


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message parked for a person.

    Attributes:
        id: The job's id.
        queue: The queue it came from and returns to on redrive.
        body: Its bytes, as they were last delivered; on redrive they are stored again.
        reason: A short code: `attempts-exhausted`, `crash-loop`, `unknown-workflow`, `unreadable`,
            `newer-version`, `bad-context`.
        workflow: The workflow's key, where the bytes could be read.
        error: The last error in one line, or what is wrong.
        traceback: The last traceback, bounded.
        attempts: Every earlier attempt that is remembered, oldest first.
        died_ms: When it was parked.
        priority: The message's priority.
    """

    id: str
    queue: str
    body: bytes
    reason: str
    workflow: str | None = None
    error: str = ""
    traceback: str = ""
    attempts: tuple[AttemptNote, ...] = ()
    died_ms: int = 0
    priority: int = 5


class Burial(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to be parked: its fencing token and the letter to keep."""

    receipt: object
    letter: DeadLetter


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; `None` means any.

    Attributes:
        ids: Exactly these.
        workflow: Of this workflow.
        reason: With this reason code.
        died_before_ms: Parked before this instant.
        limit: At most this many, oldest first; `None`: all.
    """

    ids: tuple[str, ...] | None = None
    workflow: str | None = None
    reason: str | None = None
    died_before_ms: int | None = None
    limit: int | None = None


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages a queue holds.

    Attributes:
        queue: Its name.
        ready: Due and not leased.
        delayed: Not due yet.
        in_flight: Leased.
        dead: Parked.
        oldest_ready_ms: When the oldest ready message became due; `None`: none is, or it cannot be told.
        exact: Whether the counts are exact.
    """

    queue: str
    ready: int
    delayed: int
    in_flight: int
    dead: int
    oldest_ready_ms: int | None = None
    exact: bool = True


class QueueProvider(Protocol):
    """Eight methods that every provider has.

    Every failure to reach the server is `QueueConnectionError` (retryable) with the URL but no credentials.
    """

    @property
    def name(self) -> str:
        """The provider's key, such as `sqlite`."""
        ...

    @property
    def url(self) -> str:
        """Where it stores its messages, without credentials."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    async def open(self) -> None:
        """Connect and create what is missing on the server. Idempotent; after `close` it opens anew."""
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent; close without open is fine. Deliveries not settled keep their lease."""
        ...

    async def enqueue(self, queue: str, messages: Sequence[Message]) -> list[EnqueueReceipt]:
        """Store messages durably; returns, in order, only after the server confirmed.

        All or none of a batch is stored wherever the server can do so; a caller that saw an error may repeat
        the whole call, since present ids are recognised.
        """
        ...

    async def receive(self, queue: str, *, limit: int, lease_ms: int, wait_ms: int) -> list[Delivery]:
        """Lease up to `limit` due messages, most urgent first, then oldest due.

        Returns as soon as there is at least one; waits up to `wait_ms` for one (woken by an event, not by
        polling fast), then returns an empty list. Messages whose lease ran out are due again. Cancelling the
        call loses nothing: what it had leased is handed back.
        """
        ...

    async def ack(self, queue: str, receipts: Sequence[object]) -> list[bool]:
        """Forget finished messages. For each receipt, whether it was still ours; a stale one changes nothing."""
        ...

    async def nack(self, queue: str, returns: Sequence[Return]) -> list[bool]:
        """Give deliveries back. For each, whether it was still ours; a stale one changes nothing."""
        ...

    async def extend(self, queue: str, receipts: Sequence[object], *, lease_ms: int) -> list[bool]:
        """Make leases last `lease_ms` from now. For each, whether it was still ours."""
        ...

    async def stats(self) -> list[QueueStats]:
        """Count the messages of every queue that holds any or has held any, by name."""
        ...


@runtime_checkable
class DeadLetterStore(Protocol):
    """Parked messages, of providers that keep them themselves (`Capabilities.dead_letters`)."""

    async def bury(self, queue: str, burials: Sequence[Burial]) -> list[bool]:
        """Park deliveries. For each, whether it was still ours; a stale one changes nothing."""
        ...

    async def dead_letters(self, queue: str | None, where: DeadLetterFilter) -> list[DeadLetter]:
        """List parked messages of one queue, or of all, oldest first."""
        ...

    async def redrive(self, queue: str | None, where: DeadLetterFilter, bodies: dict[str, bytes]) -> list[str]:
        """Move parked messages back to the queue they came from, due at once; returns their ids.

        Args:
            queue: Of this queue; `None`: of all.
            where: Which ones.
            bodies: By id, the bytes to store instead of the letter's own (with the attempts reset).
        """
        ...

    async def discard(self, queue: str | None, where: DeadLetterFilter) -> int:
        """Delete parked messages; returns how many."""
        ...


@runtime_checkable
class QueueControl(Protocol):
    """Looking into a queue and taking messages out of it, for operators."""

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Remove messages that are not leased, in any queue; returns the ids that were removed."""
        ...

    async def find(self, ids: Sequence[str]) -> list[Message]:
        """Return those of the messages that are present, leased or not."""
        ...

    async def purge(self, queue: str) -> int:
        """Delete every message of the queue that is not leased; dead letters stay. Returns how many."""
        ...
