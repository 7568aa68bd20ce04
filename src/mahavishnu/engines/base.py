"""The contract of an engine: seven things the front door asks of each of the three."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.job import EnqueuedJob, JobRequest
    from mahavishnu.model.run import Run
    from mahavishnu.model.schedule import Schedule

__all__ = ["Engine", "EngineHealth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """How an engine is.

    Attributes:
        engine: Its name.
        enabled: Whether settings switch it on.
        ready: Whether it can take work now.
        detail: What was found, or what is wrong and what to do about it.
        version: The version of the library or server behind it.
        facts: Further pairs for `doctor`, such as URLs and paths (no credentials).
    """

    engine: str
    enabled: bool
    ready: bool
    detail: str
    version: str = ""
    facts: dict[str, str] = field(default_factory=dict[str, str])


class Engine(Protocol):
    """Fires schedules and runs jobs in its own way.

    `apply`, `withdraw` and `submit` work before `start` too, as far as the engine can keep what it is told.
    An option of a schedule or job that the engine cannot honour is a `CapabilityError`, raised before anything
    is changed. Start and stop are idempotent; stop without start is fine.
    """

    @property
    def name(self) -> EngineName:
        """Which of the three this is."""
        ...

    async def start(self) -> None:
        """Begin to fire schedules.

        Raises:
            EngineUnavailableError: Something it needs is not there; nothing is left running.
        """
        ...

    async def stop(self, grace: timedelta) -> None:
        """Fire no more, let running work finish for at most `grace`, then let go of everything."""
        ...

    async def apply(self, schedule: Schedule) -> Schedule:
        """Make the engine fire this schedule from now on, or hold it if paused; replaces what it had under the id.

        Returns:
            The schedule with what the engine adds: `next_fire_at`, `external_id`.
        """
        ...

    async def withdraw(self, schedule: Schedule) -> None:
        """Stop firing this schedule. Idempotent. Runs under way are left to finish."""
        ...

    async def submit(self, requests: Sequence[JobRequest]) -> list[EnqueuedJob]:
        """Run these jobs once each, now or at their `schedule_time`; returns when they are accepted."""
        ...

    async def cancel(self, run: Run) -> bool:
        """Stop a queued or running job of this engine; returns whether there was anything to stop."""
        ...

    async def health(self) -> EngineHealth:
        """Say how it is, within two seconds, without raising."""
        ...
