"""What one app holds open in one process: the ledger, the queues and the engines, each on first use."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK, Clock
from mahavishnu.engines.registry import local_engine, prefect_engine, queue_engine
from mahavishnu.errors import EngineUnavailableError
from mahavishnu.history.registry import make_history
from mahavishnu.model.engine import EngineName
from mahavishnu.observability.events import Events
from mahavishnu.observability.hooks import FailureHooks
from mahavishnu.queues.queue import Queue
from mahavishnu.queues.registry import create_provider, resolve_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mahavishnu.engines.base import Engine
    from mahavishnu.engines.local import LocalEngine
    from mahavishnu.engines.prefect.engine import PrefectEngine
    from mahavishnu.engines.queue import QueueEngine
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.settings import Settings
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["Runtime", "process_id"]


ENVELOPE_ALLOWANCE = 65_536
"""Room in a job's bytes for all but its context: notes of earlier attempts, labels, ids."""


def process_id(clock: Clock) -> str:
    """Return this process's id: host, process number and start, so that a reused number is told apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{clock.now_ms():x}"


class Runtime:
    """The open resources of one app.

    Args:
        settings: Where things are and how they behave.
        registry: The app's workflows.
        clock: Source of time.
    """

    def __init__(self, settings: Settings, registry: WorkflowRegistry, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.registry = registry
        self.clock = clock
        self.events: Events = Events()
        self.hooks: FailureHooks = FailureHooks(self.events)
        self.process_id: str = process_id(clock)
        self.history: HistoryStore = make_history(
            settings.ledger_url.reveal(), state_dir=settings.state_dir, clock=clock
        )
        self._queues: dict[str, Queue] = {}
        self._local: LocalEngine | None = None
        self._queue: QueueEngine | None = None
        self._prefect: PrefectEngine | None = None

    # --- opened on first use ---

    async def open_history(self) -> HistoryStore:
        """Return the ledger, open.

        Raises:
            StorageError: It cannot be used.
        """
        await self.hooks.start()
        await self.history.open()
        return self.history

    async def open_queue(self, provider: str | None = None) -> Queue:
        """Return the queues of a provider, open; `None`: the default provider of the settings.

        Raises:
            UnknownProviderError: There is no such provider.
            MissingExtraError: Its client is not installed.
            QueueConnectionError: Its server cannot be reached.
        """
        queue = self.queue_of(provider)
        await queue.open()
        return queue

    def queue_of(self, provider: str | None = None) -> Queue:
        """Return the queues of a provider, not opened; see `open_queue`."""
        key = resolve_provider(provider or self.settings.queue_provider, self.settings.providers)
        if key not in self._queues:
            self._queues[key] = self.new_queue(key)
        return self._queues[key]

    def new_queue(self, provider: str | None = None) -> Queue:
        """Return queues of a provider of their own, for another event loop; the caller opens and closes them."""
        settings = self.settings
        name = provider or settings.queue_provider
        return Queue(
            create_provider(name, state_dir=settings.state_dir, clock=self.clock, settings=settings.providers),
            clock=self.clock,
            events=self.events,
            unique_window=settings.jobs.idempotency_window,
            max_body_bytes=settings.jobs.max_payload_bytes + ENVELOPE_ALLOWANCE,
        )

    async def open_queues(self) -> list[Queue]:
        """Return the queues of every provider used so far in this process, and the default one's."""
        await self.open_queue(None)
        return list(self._queues.values())

    # --- engines ---

    def engine(self, name: EngineName) -> Engine:
        """Return an engine, made on first use.

        Raises:
            EngineUnavailableError: It is Prefect, and Prefect is not enabled.
            MissingExtraError: It is Prefect, and Prefect is not installed.
        """
        if name is EngineName.APSCHEDULER:
            return self.local
        return self.queue if name is EngineName.ONEIRIC else self.prefect

    @property
    def local(self) -> LocalEngine:
        """The in-process engine."""
        if self._local is None:
            self._local = local_engine()(
                history=self.history,
                events=self.events,
                registry=self.registry,
                clock=self.clock,
                owner=self.process_id,
                threads=self.settings.worker.threads,
            )
        return self._local

    @property
    def queue(self) -> QueueEngine:
        """The durable engine."""
        if self._queue is None:
            self._queue = queue_engine()(
                history=self.history,
                open_queue=self.open_queue,
                registry=self.registry,
                events=self.events,
                clock=self.clock,
                owner=self.process_id,
                max_payload_bytes=self.settings.jobs.max_payload_bytes,
            )
        return self._queue

    @property
    def prefect(self) -> PrefectEngine:
        """The Prefect engine.

        Raises:
            EngineUnavailableError: Prefect is not enabled.
            MissingExtraError: Prefect is not installed.
        """
        if self._prefect is None:
            if not self.settings.prefect.enabled:
                raise EngineUnavailableError(
                    "prefect", "it is not enabled", "set `enabled = true` under [prefect] in mahavishnu.toml"
                )
            self._prefect = prefect_engine()(
                settings=self.settings,
                history=self.history,
                events=self.events,
                registry=self.registry,
                clock=self.clock,
                owner=self.process_id,
            )
        return self._prefect

    def enabled_engines(self) -> Iterable[Engine]:
        """Yield the engines that settings switch on, in the order they start."""
        yield self.queue
        yield self.local
        if self.settings.prefect.enabled:
            yield self.prefect

    async def close(self) -> None:
        """Close the queues and the ledger. Idempotent; the next use opens them again."""
        for queue in self._queues.values():
            await queue.close()
        await self.hooks.stop()
        await self.history.close()
