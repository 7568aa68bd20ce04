"""Provider factories by import path, for the processes that the contract suite starts and kills."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.queues.registry import create_provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.queues.base import QueueProvider

__all__ = ["load_factory", "sqlite_provider"]


def load_factory(path: str) -> Callable[[str], QueueProvider]:
    """Return the factory named `package.module:function`; it takes one string saying where messages are stored."""
    module, _, function = path.partition(":")
    return getattr(import_module(module), function)


def sqlite_provider(folder: str) -> QueueProvider:
    """Return the SQLite provider with its file in `folder`, on the system clock."""
    return create_provider("sqlite", state_dir=Path(folder), clock=SYSTEM_CLOCK)
