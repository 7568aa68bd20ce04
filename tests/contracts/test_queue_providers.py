"""The built-in queue providers keep the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from mahavishnu.queues.base import Capabilities
from mahavishnu.queues.registry import create_provider
from mahavishnu.testing import FakeClock
from mahavishnu.testing.provider_suite import MakeProvider, ProviderContract

if TYPE_CHECKING:
    from mahavishnu.clock import Clock


class TestMemory(ProviderContract):
    """The provider in memory, on a clock that is advanced."""

    capabilities: ClassVar = Capabilities(survives_restart=False, shared_between_processes=False)
    wake_seconds: ClassVar = 0.5

    @pytest.fixture
    def clock(self) -> Clock:
        """A clock that is advanced."""
        return FakeClock()

    @pytest.fixture
    def make_provider(self, place: str, clock: Clock) -> MakeProvider:
        """Make one."""
        return lambda: create_provider("memory", state_dir=Path(place), clock=clock)


class TestSqlite(ProviderContract):
    """The provider in a SQLite file, on a clock that is advanced."""

    capabilities: ClassVar = Capabilities()
    child_factory: ClassVar = "mahavishnu.testing.factories:sqlite_provider"
    wake_seconds: ClassVar = 0.5

    @pytest.fixture
    def clock(self) -> Clock:
        """A clock that is advanced."""
        return FakeClock()

    @pytest.fixture
    def make_provider(self, place: str, clock: Clock) -> MakeProvider:
        """Make one."""
        return lambda: create_provider("sqlite", state_dir=Path(place), clock=clock)
