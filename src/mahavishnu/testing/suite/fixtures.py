"""What the parts of the suite share: fixtures, messages, and skipping by capability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import pytest
import pytest_asyncio

from mahavishnu.clock import SYSTEM_CLOCK, Clock
from mahavishnu.model.ids import new_id, new_ids
from mahavishnu.queues.base import (
    Capabilities,
    DeadLetterStore,
    Delivery,
    Message,
    QueueControl,
    QueueProvider,
)
from mahavishnu.testing.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LEASE_MS", "ContractBase", "Elapse", "MakeProvider", "new_messages"]

MakeProvider: TypeAlias = Callable[[], QueueProvider]
Elapse: TypeAlias = Callable[[float], Awaitable[None]]

LEASE_MS = 30_000
"""Longer than any test."""


def new_messages(*bodies: bytes) -> list[Message]:
    """Return one message per body, with new ids in order."""
    ids = sorted(new_ids(SYSTEM_CLOCK.now_ms(), len(bodies)))
    return [Message(id=job_id, body=body) for job_id, body in zip(ids, bodies, strict=True)]


class ContractBase:
    """The base of every part; see `ProviderContract` for what subclasses give."""

    capabilities: ClassVar[Capabilities]
    child_factory: ClassVar[str | None] = None
    short_ms: ClassVar[int] = 300
    wake_seconds: ClassVar[float] = 2.0

    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        """Where messages are stored: a temporary folder."""
        return str(tmp_path)

    @pytest.fixture
    def make_provider(self, place: str) -> MakeProvider:
        """Make a provider; subclasses must replace this."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `make_provider`")

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the provider goes by."""
        return SYSTEM_CLOCK

    @pytest.fixture
    def elapse(self, clock: Clock) -> Elapse:
        """Let milliseconds pass: advance a `FakeClock`; a server's own clock can only be waited for."""

        async def elapse(duration_ms: float) -> None:
            if isinstance(clock, FakeClock):
                clock.advance(timedelta(milliseconds=duration_ms))
            else:
                await asyncio.sleep(duration_ms / 1000)

        return elapse

    @pytest.fixture
    def queue(self) -> str:
        """A queue that no other test uses."""
        return f"contract-{new_id(SYSTEM_CLOCK.now_ms())}"

    @pytest_asyncio.fixture
    async def provider(self, make_provider: MakeProvider) -> AsyncIterator[QueueProvider]:
        """An open provider."""
        provider = make_provider()
        await provider.open()
        yield provider
        await provider.close()

    @pytest.fixture
    def letters(self, provider: QueueProvider) -> DeadLetterStore:
        """The provider as a keeper of dead letters."""
        self.needs("dead_letters")
        assert isinstance(provider, DeadLetterStore)
        return provider

    @pytest.fixture
    def control(self, provider: QueueProvider) -> QueueControl:
        """The provider as one that can be looked into."""
        if not isinstance(provider, QueueControl):
            pytest.skip("the provider is no QueueControl")
        return provider

    def needs(self, *capabilities: str) -> None:
        """Skip the test unless the provider claims these."""
        for capability in capabilities:
            if not getattr(self.capabilities, capability):
                pytest.skip(f"the provider does not claim {capability}")

    async def take(
        self, provider: QueueProvider, queue: str, limit: int = 100, *, lease_ms: int = LEASE_MS, wait_ms: int = 0
    ) -> list[Delivery]:
        """Receive, by default what is there now."""
        return await provider.receive(queue, limit=limit, lease_ms=lease_ms, wait_ms=wait_ms)

    async def take_one(self, provider: QueueProvider, queue: str, *, lease_ms: int = LEASE_MS) -> Delivery:
        """Receive exactly one message, which must be there or come soon."""
        deliveries = await self.take(provider, queue, 1, lease_ms=lease_ms, wait_ms=5000)
        assert len(deliveries) == 1, "a message was expected"
        return deliveries[0]
