"""What a flow run needs of the app whose workflow it runs, and how it comes to it in the worker's process."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mahavishnu.clock import Clock
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.observability.events import Events
    from mahavishnu.settings import Settings
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["APP_VARIABLE", "CURRENT_HOST", "Host", "flow_host"]

APP_VARIABLE = "MAHAVISHNU_APP"
"""The environment variable that names the app, as `module:attribute`."""


class _Runtime(Protocol):
    """What is asked of an app's open resources."""

    settings: Settings
    clock: Clock
    events: Events
    process_id: str

    async def open_history(self) -> HistoryStore: ...

    async def close(self) -> None: ...


class _App(Protocol):
    """What is asked of an app."""

    registry: WorkflowRegistry

    @property
    def runtime(self) -> _Runtime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What runs a flow run's jobs.

    Attributes:
        registry: The workflows.
        history: The ledger, open.
        events: Told of starts, ends and skips.
        clock: Source of time.
        worker: This process, for the ledger.
        threads: Most sync functions at once.
        state_dir: Where flow runs of this project meet, for taking turns.
    """

    registry: WorkflowRegistry
    history: HistoryStore
    events: Events
    clock: Clock
    worker: str
    threads: int
    state_dir: Path


CURRENT_HOST: ContextVar[Host | None] = ContextVar("mahavishnu_prefect_host", default=None)
"""The host of flow runs that are started in this process, rather than by a worker."""


@asynccontextmanager
async def flow_host() -> AsyncGenerator[Host]:
    """Return this process's host, or load the app and open its ledger for the duration of the block.

    Raises:
        ConfigurationError: The app cannot be loaded.
        StorageError: Its ledger cannot be opened.
    """
    current = CURRENT_HOST.get()
    if current is not None:
        yield current
        return
    app = _load_app(os.environ.get(APP_VARIABLE, ""))
    runtime = app.runtime
    try:
        history = await runtime.open_history()
        settings = runtime.settings
        # Prefect sets up the handlers of this process, and leaves levels as they are: at warning.
        logging.getLogger("mahavishnu").setLevel(settings.logging.level.upper())
        yield Host(
            registry=app.registry,
            history=history,
            events=runtime.events,
            clock=runtime.clock,
            worker=runtime.process_id,
            threads=settings.worker.threads,
            state_dir=settings.state_dir,
        )
    finally:
        await runtime.close()


def _load_app(import_path: str) -> _App:
    module_name, _, attribute = import_path.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"{APP_VARIABLE}={import_path!r} names no app; deploy the schedule again")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: object = importlib.import_module(module_name)
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not hasattr(found, "registry") or not hasattr(found, "runtime"):
        raise ConfigurationError(f"{APP_VARIABLE}={import_path!r} is no MahavishnuApp; correct app in mahavishnu.toml")
    return found  # pyright: ignore[reportReturnType]  # it was looked at, and layers keep us from its class
