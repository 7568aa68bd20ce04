"""What happens, as values, and the list of those who want to hear of it.

Engines, the executor and the queue emit; logs, hooks, metrics and traces listen. An emitter never waits for a
listener, and a listener's exception is logged, never raised into the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import msgspec

from mahavishnu.model.run import Run

__all__ = [
    "DeadLettered",
    "EngineChanged",
    "Event",
    "Events",
    "LeaseLost",
    "OccurrenceSkipped",
    "RunFinished",
    "RunStarted",
]

_logger = logging.getLogger("mahavishnu.events")


class RunStarted(msgspec.Struct, frozen=True):
    """A run has begun. Emitted only while somebody listens."""

    run: Run


class RunFinished(msgspec.Struct, frozen=True):
    """A run has ended, whatever its outcome; `exception` is what it raised, if anything."""

    run: Run
    exception: BaseException | None = None


class OccurrenceSkipped(msgspec.Struct, frozen=True, kw_only=True):
    """Fire times of a schedule were deliberately not run."""

    schedule_id: str
    task: str
    first_ms: int
    last_ms: int
    count: int
    reason: str


class DeadLettered(msgspec.Struct, frozen=True, kw_only=True):
    """A job was parked for a person."""

    job_id: str
    queue: str
    workflow: str | None
    reason: str
    error: str


class LeaseLost(msgspec.Struct, frozen=True, kw_only=True):
    """A job's lease was lost while it ran; its outcome here does not count."""

    job_id: str
    task: str


class EngineChanged(msgspec.Struct, frozen=True, kw_only=True):
    """An engine or service started, stopped or failed; `state` is `started`, `stopped` or `failed`."""

    engine: str
    state: str
    detail: str = ""


Event: TypeAlias = RunStarted | RunFinished | OccurrenceSkipped | DeadLettered | LeaseLost | EngineChanged
E_ = TypeVar("E_", bound=Event)
Listener: TypeAlias = Callable[[Any], None]


class Events:
    """A list of listeners by kind of event. Listeners are called at once, in the emitter's thread; keep them short."""

    def __init__(self) -> None:
        self._listeners: dict[type[Event], tuple[Listener, ...]] = {}

    def listen(self, kind: type[E_], listener: Callable[[E_], None]) -> None:
        """Call `listener` with every event of this kind from now on."""
        self._listeners[kind] = (*self._listeners.get(kind, ()), cast("Listener", listener))

    def wants(self, kind: type[Event]) -> bool:
        """Return whether anybody listens to this kind, so that nobody builds an event for nothing."""
        return kind in self._listeners

    def emit(self, event: Event) -> None:
        """Tell everyone who listens to this kind of event."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event)
            except Exception:
                _logger.exception("event_listener_failed: %s on %s", listener, type(event).__name__)
