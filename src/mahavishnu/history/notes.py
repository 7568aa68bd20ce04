"""What is written soon and not now: notes of runs, skips and processes, gathered and written by one task.

Taking a note costs a dictionary entry. The task sleeps without a timer while there is nothing to write; after
the first note it waits a moment for more. A note that comes when the first one has waited long enough has all of
them written at once, so that a process that does something once a second is not woken in between. A write that
fails keeps everything and is tried again, later each time.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from time import monotonic
from typing import TYPE_CHECKING

from mahavishnu.errors import StorageError
from mahavishnu.history.rows import may_replace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mahavishnu.history.store import ProcessInfo, Skip
    from mahavishnu.model.run import Run

__all__ = ["NoteBuffer", "Notes"]

_logger = logging.getLogger("mahavishnu.history")

LINGER_SECONDS = 3.0
RIPE_SHARE = 0.9
ENOUGH_ROWS = 500
RETRY_SECONDS = 0.5
MOST_RUNS = 100_000
_RUNS_PER_WRITE = 5_000
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Notes:
    """What waits to be written: the latest note of each run, skips in order, the latest report of each process."""

    runs: dict[str, Run] = field(default_factory=dict[str, "Run"])
    skips: list[Skip] = field(default_factory=list["Skip"])
    processes: dict[str, ProcessInfo] = field(default_factory=dict[str, "ProcessInfo"])

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self.runs or self.skips or self.processes)

    def add_runs(self, runs: Sequence[Run]) -> None:
        """Keep the latest note of each run. Called for every run."""
        pending = self.runs
        for run in runs:
            old = pending.setdefault(run.id, run)
            if old is not run and may_replace(old.state, run.state):
                pending[run.id] = run

    def first(self, most_runs: int) -> Notes:
        """Return the oldest notes without removing them, at most so many runs."""
        return Notes(dict(islice(self.runs.items(), most_runs)), self.skips[:most_runs], dict(self.processes))

    def remove(self, written: Notes) -> None:
        """Forget what `first` returned."""
        for run_id in written.runs:
            del self.runs[run_id]
        del self.skips[: len(written.skips)]
        self.processes.clear()

    def followed_by(self, later: Notes) -> Notes:
        """Return these notes with later ones behind them."""
        self.add_runs(list(later.runs.values()))
        self.skips.extend(later.skips)
        self.processes.update(later.processes)
        return self

    def shrink(self, most: int) -> int:
        """Drop notes beyond `most`, of runs that have not ended first, then the oldest; returns how many."""
        excess = len(self.runs) - most
        if excess > 0:
            live = (run.id for run in self.runs.values() if not run.is_final)
            final = (run.id for run in self.runs.values() if run.is_final)
            for run_id in list(islice(chain(live, final), excess)):
                del self.runs[run_id]
        excess_skips = max(0, len(self.skips) - most)
        del self.skips[:excess_skips]
        return max(0, excess) + excess_skips


class NoteBuffer:
    """Gathers notes and has them written in the background.

    Args:
        write: Writes notes durably, all or none; writing the same ones twice must do no harm.
        name: Names the task and the log lines.
        linger_seconds: How long a first note waits for others at most; default 3.
        retry_seconds: How long the first pause after a failed write is; default 0.5, doubled up to 30.
        most_runs: How many runs are kept while writing fails, before the least valuable are dropped; default 100,000.
    """

    def __init__(
        self,
        write: Callable[[Notes], Awaitable[None]],
        *,
        name: str,
        linger_seconds: float = LINGER_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        most_runs: int = MOST_RUNS,
    ) -> None:
        self._write = write
        self._name = name
        self._linger_seconds = linger_seconds
        self._retry_seconds = retry_seconds
        self._most_runs = most_runs
        self._notes = Notes()
        self._ripe_at = 0.0
        self._wanted = asyncio.Event()
        self._enough = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether notes are taken."""
        return self._task is not None

    def start(self) -> None:
        """Begin to write in the background. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._write_as_needed(), name=f"mahavishnu-notes-{self._name}")

    async def stop(self) -> None:
        """Write what waits and end. What cannot be written is lost, and logged. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        try:
            await self.flush()
        except StorageError as exc:
            _logger.error("ledger_notes_lost: %d runs were never written: %s", len(self._notes.runs), exc)

    def add_runs(self, runs: Sequence[Run]) -> None:
        """Note runs. Never waits, never raises."""
        notes = self._notes
        notes.add_runs(runs)
        if not self._wanted.is_set():
            self._want()
        elif monotonic() >= self._ripe_at:
            self._enough.set()
        if len(notes.runs) >= ENOUGH_ROWS:
            self._crowded()

    def add_skips(self, skips: Sequence[Skip]) -> None:
        """Note skips."""
        self._notes.skips.extend(skips)
        self._want()
        if len(self._notes.skips) >= ENOUGH_ROWS:
            self._crowded()

    def add_process(self, process: ProcessInfo) -> None:
        """Note what a process reports of itself."""
        self._notes.processes[process.id] = process
        self._want()

    def forget_process(self, process_id: str) -> None:
        """Drop a report that waits."""
        self._notes.processes.pop(process_id, None)

    def hurry(self) -> None:
        """Have what waits written without waiting for more: somebody is waiting for it."""
        if self._wanted.is_set():
            self._enough.set()

    def _want(self) -> None:
        if not self._wanted.is_set():
            self._ripe_at = monotonic() + self._linger_seconds * RIPE_SHARE
            self._wanted.set()

    def _crowded(self) -> None:
        self._enough.set()
        if max(len(self._notes.runs), len(self._notes.skips)) > self._most_runs:
            dropped = self._notes.shrink(
                self._most_runs - self._most_runs // 100
            )  # some more, so as not to do it each time
            _logger.warning("ledger_notes_dropped: %d notes were dropped; the ledger cannot be written", dropped)

    async def flush(self) -> None:
        """Return once everything noted before is written.

        Raises:
            StorageError: It cannot be written now; it is kept, and tried again in the background.
        """
        async with self._lock:
            taken, self._notes = self._notes, Notes()
            self._wanted.clear()
            self._enough.clear()
            try:
                while taken:
                    batch = taken.first(_RUNS_PER_WRITE)
                    await self._write(batch)
                    taken.remove(batch)
            finally:
                if taken:
                    self._notes = taken.followed_by(self._notes)
                    self._wanted.set()

    async def _write_as_needed(self) -> None:
        pause = self._retry_seconds
        while True:
            await self._wanted.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_seconds):
                    await self._enough.wait()
            if await self._try_to_flush(pause):
                pause = self._retry_seconds
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _try_to_flush(self, pause: float) -> bool:
        try:
            await self.flush()
        except StorageError as exc:
            waiting = len(self._notes.runs)
            _logger.warning("ledger_write_failed: %d runs wait, next try in %.1f s: %s", waiting, pause, exc)
            return False
        except Exception:
            dropped, self._notes = len(self._notes.runs), Notes()
            _logger.exception("ledger_notes_lost: %d runs could not be stored", dropped)
        return True
