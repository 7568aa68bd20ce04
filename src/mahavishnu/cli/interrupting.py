"""From signals to an orderly stop of a whole process: the first stops, the second hurries, the third leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts the signals that ask this process to stop.

    Until `is_running` is set, the first one cancels the current task, so that what had started is rolled back.

    Args:
        say: Told in words what a signal led to.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.is_running = False
        self.asked: asyncio.Event = asyncio.Event()
        self._say = say
        self._count = 0
        self._hurries: list[Callable[[], None]] = []

    def on_hurry(self, action: Callable[[], None]) -> None:
        """Call `action` at the second signal."""
        self._hurries.append(action)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Handle the signals inside the block, in the main thread's event loop."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._receive, number, task)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _receive(self, number: signal.Signals, task: asyncio.Task[object]) -> None:
        self._count += 1
        self.asked.set()
        if self._count == 1 and not self.is_running:
            self._say(f"{number.name}: stopping what has started")
            task.cancel()
        elif self._count == 2:
            self._say(f"{number.name} again: running work is handed back or interrupted now")
            for action in self._hurries:
                action()
        elif self._count > 2:
            os._exit(128 + number)  # children end with this process
