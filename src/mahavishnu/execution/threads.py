"""Threads for sync functions: named, bounded, interruptible, and never in the way of the process's end.

The threads of `concurrent.futures` are joined when the interpreter exits, so one that is stuck keeps its process
alive for ever. These are daemons. A function can be interrupted by raising `JobStopped` in its thread; Python
delivers that between two bytecodes, so a thread that is inside C code notices only when it comes back.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from mahavishnu.execution.attempt import Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Context

    from mahavishnu.execution.attempt import Happened

__all__ = ["JobStopped", "ThreadCall", "ThreadPool"]


class JobStopped(BaseException):  # like CancelledError: no error, and not to be caught as one
    """Raised inside a sync function that is made to stop. Let it pass, as you would `CancelledError`."""


class ThreadCall:
    """One function to be called in some thread, and the event loop's future for how it went.

    Args:
        function: What to call.
        arguments: Its keyword arguments.
        context: The context variables it sees.
    """

    __slots__ = (
        "_arguments",
        "_context",
        "_function",
        "_is_withdrawn",
        "_lock",
        "_loop",
        "_thread_id",
        "future",
        "started_at",
    )

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, object], context: Context) -> None:
        self._function = function
        self._arguments = arguments
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._is_withdrawn = False
        self.future: asyncio.Future[Happened] = self._loop.create_future()
        self.started_at: float | None = None

    def interrupt(self) -> None:
        """Raise `JobStopped` in the function; one that still waits for a thread is not called at all.

        To be called from the event loop; may be called again if the function catches `JobStopped`.
        """
        with self._lock:
            if self._thread_id is not None:
                _raise_in(self._thread_id, JobStopped)
                return
            self._is_withdrawn = True
        if self.started_at is None:
            self.settle(Raised(JobStopped()))

    def run(self) -> None:
        """Call the function, in this thread, unless it was withdrawn meanwhile."""
        with self._lock:
            if self._is_withdrawn:
                return
            self._thread_id = threading.get_ident()
            self.started_at = monotonic()
        happened: Happened
        try:
            try:
                happened = Returned(self._context.run(self._function, **self._arguments))
            except BaseException as exc:  # whatever it raises is its outcome
                happened = Raised(exc)
            self._leave()
        except JobStopped as exc:  # it came between the function's end and ours
            happened = Raised(exc)
            self._leave_for_certain()
        try:
            self._loop.call_soon_threadsafe(self.settle, happened)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
            return

    def settle(self, happened: Happened) -> None:
        """Resolve the future with how it went, unless that is known already; runs in the event loop."""
        if not self.future.done():
            self.future.set_result(happened)

    def _leave(self) -> None:
        with self._lock:
            if self._thread_id is not None:
                _raise_in(self._thread_id, None)  # one that was sent and has not arrived yet
            self._thread_id = None

    def _leave_for_certain(self) -> None:
        while True:
            try:
                self._leave()
            except JobStopped:
                continue
            return


class ThreadPool:
    """At most `size` threads, started as they are needed and kept.

    Args:
        size: The most threads, at least 1.
        name: What their names begin with.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._calls: SimpleQueue[ThreadCall | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> int:
        """How many calls are running or waiting for a thread."""
        return self._pending

    def submit(self, call: ThreadCall) -> None:
        """Have the function called as soon as a thread is free."""
        with self._lock:
            self._pending += 1
            if self._pending > len(self._threads) and len(self._threads) < self.size:
                self._start_thread()
        self._calls.put(call)

    def close(self) -> None:
        """End the threads, each after the call it is in; does not wait."""
        with self._lock:
            for _ in self._threads:
                self._calls.put(None)
            self._threads = []

    def _start_thread(self) -> None:
        name = f"{self._name}-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            with self._lock:
                self._pending -= 1
            del call  # it holds the arguments and the result


def _raise_in(thread_id: int, exception: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), None if exception is None else ctypes.py_object(exception)
    )
