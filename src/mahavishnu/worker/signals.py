"""From signals to an orderly stop, and from a parent's death too."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta

__all__ = ["PARENT_FD", "Stoppable", "end_with_parent", "leave", "stop_on_signals"]

PARENT_FD = "MAHAVISHNU_INTERNAL_PARENT_FD"
"""The environment variable with the number of the file descriptor that ends when the supervisor does."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ORPHAN_EXIT_CODE = 70


class Stoppable(Protocol):
    """Something that works until it is told to stop."""

    def stop(self, *, now: bool = False) -> None:
        """Stop in an orderly way, or at once. Idempotent."""
        ...


@contextmanager
def stop_on_signals(target: Stoppable) -> Generator[None]:
    """Have SIGTERM and SIGINT stop `target`: the first in an orderly way, any further one at once.

    Call it in the main thread's event loop. The handlers are taken off again at the end.
    """
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal() -> None:
        nonlocal received
        received += 1
        target.stop(now=received > 1)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def leave(code: int = 0) -> NoReturn:
    """End this process now, without waiting for tasks and threads that never end.

    Whatever must be closed has to be closed before; only output and logs are flushed.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def end_with_parent(at_most: timedelta) -> None:
    """If a supervisor started this process, stop when it dies, however it dies.

    The supervisor keeps one end of a pipe open and never writes to it; when it is gone the other end, here,
    reads as ended. A thread waits for that, so a blocked event loop does not matter.

    Args:
        at_most: How long an orderly stop may take then, before the process is ended for certain.
    """
    number = os.environ.pop(PARENT_FD, "")
    if not number.isdecimal():
        return
    descriptor = int(number)
    os.set_inheritable(descriptor, False)  # what jobs start must not hold on to it
    threading.Thread(
        target=_wait_for_end, args=(descriptor, at_most.total_seconds()), name="mahavishnu-parent", daemon=True
    ).start()


def _wait_for_end(descriptor: int, seconds: float) -> None:
    with suppress(OSError):
        while os.read(descriptor, 1):
            continue
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(seconds)
    os._exit(ORPHAN_EXIT_CODE)
