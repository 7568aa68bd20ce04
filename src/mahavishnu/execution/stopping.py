"""Making running jobs stop: when their time is up, when somebody asks, and when they do not listen."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from mahavishnu.execution.attempt import Attempt, Raised, StopReason
from mahavishnu.execution.deadlines import DeadlineWatcher
from mahavishnu.execution.threads import JobStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.execution.running import Running

    OnStuck: TypeAlias = Callable[[Attempt], None]

__all__ = ["DEFAULT_KILL_GRACE", "Stopper"]

DEFAULT_KILL_GRACE = timedelta(seconds=5)
NAG_SECONDS = 1.0

_logger = logging.getLogger("mahavishnu.execution")


class Stopper:
    """Watches the time limits of what is active, and tells jobs to stop, repeatedly where they swallow that.

    Args:
        active: What is running; abandoned jobs are taken out.
        kill_grace: How long a job may go on after it was told to stop before it is abandoned.
        settle_abandoned: Settles an async job that is abandoned; `None`: those are nagged for ever.
        on_stuck: Told of sync jobs whose thread did not come back.
    """

    def __init__(
        self,
        active: set[Running],
        *,
        kill_grace: timedelta,
        settle_abandoned: Callable[[Running], None] | None,
        on_stuck: OnStuck | None,
    ) -> None:
        self._active = active
        self._kill_seconds = kill_grace.total_seconds()
        self._settle_abandoned = settle_abandoned
        self._on_stuck = on_stuck
        self._deadlines = DeadlineWatcher(active, self._expire)

    def close(self) -> None:
        """Watch no longer."""
        self._deadlines.close()

    def register(self, running: Running) -> None:
        """List a job as active, and watch its time limit."""
        self._active.add(running)
        limit_ms = running.limit_ms
        if limit_ms is not None:
            self._look_at(running, asyncio.get_running_loop().time() + limit_ms / 1000)

    def stop(self, running: Running, reason: StopReason) -> None:
        """Tell a job to stop, and keep telling it. The first reason given is the one that counts."""
        if running.stop_reason is not None:
            return
        running.stop_reason = reason
        running.stop_asked_at = asyncio.get_running_loop().time()
        if running.job_context is not None:
            running.job_context.cancel()
        self._nag(running, running.stop_asked_at)

    def abandon(self, running: Running) -> None:
        """Wait for a job no longer: settle it as what it was stopped for."""
        if running.call is None and self._settle_abandoned is None:
            self._nag(running, asyncio.get_running_loop().time())
            return
        running.is_abandoned = True
        running.deadline = None
        self._active.discard(running)
        attempt = running.attempt
        _logger.warning("job_abandoned: %s %s ignores: %s", attempt.task, attempt.job_id, running.stop_reason)
        if running.call is not None:
            running.call.settle(Raised(JobStopped()))
            if self._on_stuck is not None:
                self._on_stuck(attempt)
        elif self._settle_abandoned is not None:
            self._settle_abandoned(running)

    def _expire(self, running: Running, now: float) -> None:
        """Act on a deadline: the job's time is up, or it was told to stop and has not."""
        if running.stop_reason is None:
            due = _due(running, now)
            if due > now:
                self._look_at(running, due)
            else:
                self.stop(running, StopReason.TIMEOUT)
        elif now >= running.stop_asked_at + self._kill_seconds:
            self.abandon(running)
        else:
            self._nag(running, now)

    def _nag(self, running: Running, now: float) -> None:
        if running.call is not None:
            running.call.interrupt()
        elif running.task is not None:
            running.cancels += 1
            running.task.cancel()
        give_up_at = running.stop_asked_at + self._kill_seconds
        self._look_at(running, now + NAG_SECONDS if give_up_at <= now else min(now + NAG_SECONDS, give_up_at))

    def _look_at(self, running: Running, when: float) -> None:
        running.deadline = when
        self._deadlines.watch(when)


def _due(running: Running, now: float) -> float:
    """Return when the time is up of a job whose deadline has come; in a thread it counts from the start there."""
    if running.call is None:
        return now
    started_at = now if running.call.started_at is None else running.call.started_at
    return started_at + (running.limit_ms or 0) / 1000
