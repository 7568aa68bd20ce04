"""One timer for the deadlines of everything that runs.

A timeout object per job would cost more than a short job itself, and most deadlines are never reached. So
deadlines are plain numbers; one timer is armed for the earliest, and looks at all of them when it goes off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["DeadlineWatcher", "HasDeadline"]


class HasDeadline(Protocol):
    """Something with a point in time, on the event loop's clock, after which it is to be looked at."""

    deadline: float | None


D = TypeVar("D", bound=HasDeadline)


class DeadlineWatcher(Generic[D]):
    """Calls `expire` for each of `watched` whose deadline has come.

    Args:
        watched: Everything with a deadline; the caller adds and removes.
        expire: Called with what is due and the time; it moves the deadline on, or what is due is dropped from
            `watched` by then.
    """

    def __init__(self, watched: Collection[D], expire: Callable[[D, float], None]) -> None:
        self._watched = watched
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")

    def watch(self, deadline: float) -> None:
        """See to it that a deadline just set is not missed."""
        if deadline < self._armed_for:
            self._arm(deadline)

    def close(self) -> None:
        """Disarm."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._armed_for = float("inf")

    def _arm(self, deadline: float) -> None:
        self.close()
        self._armed_for = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        self._armed_for = float("inf")
        now = asyncio.get_running_loop().time()
        for one in [one for one in self._watched if one.deadline is not None and one.deadline <= now]:
            one.deadline = None
            self._expire(one, now)
        earliest = min((one.deadline for one in self._watched if one.deadline is not None), default=None)
        if earliest is not None:
            self.watch(earliest)
