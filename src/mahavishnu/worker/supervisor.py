"""Several worker processes under one parent: kept running, stopped together, and gone when the parent is."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from mahavishnu.worker.signals import PARENT_FD

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

__all__ = ["Supervisor"]

DEFAULT_GRACE = timedelta(seconds=30)
EXIT_MARGIN_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 10.0
WRONG_USE = 2

_logger = logging.getLogger("mahavishnu.worker")


class Supervisor:
    """Keeps `processes` children running until it is told to stop.

    A child that ends is started again, at once if it had been running for 10 s, otherwise after a pause that grows
    from 0.5 to 30 s. One that exits with code 2 (wrong use: it would do so again) stops everything. Children are
    in sessions of their own, so Ctrl-C in a terminal reaches them through the supervisor only.

    Args:
        argv: The program and arguments of each child. It should call `end_with_parent`.
        processes: How many, at least 1.
        grace: How long children may take to stop after `stop`, 30 s by default; 10 s later they are killed.
        env: Their environment; `None`: this process's.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        processes: int,
        grace: timedelta = DEFAULT_GRACE,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._argv = list(argv)
        self._processes = processes
        self._grace_seconds = grace.total_seconds()
        self._env = env
        self._children: dict[int, Process] = {}
        self._stop_asked = asyncio.Event()
        self._exit_code = 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that are running, by slot."""
        return [child.pid for _, child in sorted(self._children.items())]

    def stop(self, *, now: bool = False) -> None:
        """Tell the children to stop; `now`: to hand back what they run instead of waiting for it. Idempotent."""
        if now or not self._stop_asked.is_set():
            self._signal(signal.SIGTERM)
        self._stop_asked.set()

    async def run(self) -> int:
        """Run the children until `stop`; returns the exit code for this process: 0, or 2 if a child said wrong use."""
        reader, writer = os.pipe()
        slots = [
            asyncio.create_task(self._keep(slot, reader), name=f"mahavishnu-child-{slot}")
            for slot in range(self._processes)
        ]
        try:
            await self._stop_asked.wait()
            await asyncio.wait(slots, timeout=self._grace_seconds + EXIT_MARGIN_SECONDS)
        finally:
            self.stop()
            for slot in slots:
                slot.cancel()
            await asyncio.shield(self._kill())
            await asyncio.gather(*slots, return_exceptions=True)
            os.close(reader)
            os.close(writer)
        return self._exit_code

    async def _keep(self, slot: int, parent_end: int) -> None:
        """Start a child again and again; the pauses grow while it keeps dying young."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while not self._stop_asked.is_set():
            started = loop.time()
            try:
                code = await self._run_child(slot, parent_end)
            except OSError as exc:  # no such program, no more processes
                _logger.error("worker_child_unstartable: %s: %s", self._argv[0], exc)
                code = WRONG_USE
            if self._stop_asked.is_set():
                return
            _logger.warning("worker_child_ended: slot %d, code %d; starting another", slot, code)
            if code == WRONG_USE:
                self._exit_code = WRONG_USE
                self.stop()
                return
            if loop.time() - started >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _run_child(self, slot: int, parent_end: int) -> int:
        env = {**(os.environ if self._env is None else self._env), PARENT_FD: str(parent_end)}
        child = await asyncio.create_subprocess_exec(
            *self._argv, env=env, pass_fds=(parent_end,), start_new_session=True
        )
        self._children[slot] = child
        try:
            if self._stop_asked.is_set():  # asked while it was being started
                child.send_signal(signal.SIGTERM)
            return await child.wait()
        finally:
            if child.returncode is not None:
                self._children.pop(slot, None)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)

    async def _kill(self) -> None:
        """End what is still there."""
        left = [child for child in self._children.values() if child.returncode is None]
        for child in left:
            _logger.error("worker_child_killed: process %d did not stop in time", child.pid)
            with suppress(ProcessLookupError):
                child.kill()
        for child in left:
            await child.wait()
        self._children.clear()
