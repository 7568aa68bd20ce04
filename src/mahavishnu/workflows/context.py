"""What a running job may ask about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from datetime import datetime
    from logging import Logger, LoggerAdapter

    from mahavishnu.clock import Clock

__all__ = ["JobContext"]


class JobContext:
    """The job a workflow is running for; annotate a parameter with this class to receive it.

    Safe to use from the event loop and from threads alike.

    Attributes:
        job_id: The job's id, the same on every attempt.
        task: The workflow's key.
        attempt: Which attempt this is, from 1.
        scheduled_for: The instant (UTC) the job was due; `None` where it had no set time.
        schedule_id: The schedule this is an occurrence of; `None` for a single job.
        logger: A logger whose records carry the job's id, task and attempt.
        heartbeat_at: Monotonic seconds of the latest `heartbeat()`, at first those of the start.
    """

    __slots__ = (
        "_clock",
        "_is_cancelled",
        "attempt",
        "heartbeat_at",
        "job_id",
        "logger",
        "schedule_id",
        "scheduled_for",
        "task",
    )

    def __init__(
        self,
        *,
        job_id: str,
        task: str,
        logger: Logger | LoggerAdapter[Logger],
        attempt: int = 1,
        scheduled_for: datetime | None = None,
        schedule_id: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.job_id: str = job_id
        self.task: str = task
        self.logger: Logger | LoggerAdapter[Logger] = logger
        self.attempt: int = attempt
        self.scheduled_for: datetime | None = scheduled_for
        self.schedule_id: str | None = schedule_id
        self.heartbeat_at: float = clock.monotonic()
        self._clock = clock
        # One attribute, only ever set to True: reading and writing it is atomic, so no lock is needed.
        self._is_cancelled = False

    def __repr__(self) -> str:
        return f"JobContext(task={self.task!r}, job_id={self.job_id!r}, attempt={self.attempt})"

    @property
    def is_cancelled(self) -> bool:
        """Whether the job should stop: somebody cancelled it, it timed out, or its lease was lost.

        An async workflow is interrupted anyway; a sync one, running in a thread, looks here from time to
        time and returns when this turns true.
        """
        return self._is_cancelled

    def heartbeat(self) -> None:
        """Record that the job is making progress. Never blocks and never raises."""
        self.heartbeat_at = self._clock.monotonic()

    def cancel(self) -> None:
        """Ask the job to stop. Called by whoever executes it; may be called twice."""
        self._is_cancelled = True
