"""Follow the ledger: each run once, when it has ended, whichever process ran it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from mahavishnu.cli.output import Cell, state_style
from mahavishnu.cli.wording import clock_time, span
from mahavishnu.errors import RunNotFoundError
from mahavishnu.model.run import Run, RunFilter

if TYPE_CHECKING:
    from mahavishnu.history.store import HistoryStore

__all__ = ["Tail", "run_line"]

_LOOKED_AT = 500
_STEP = timedelta(seconds=0.5)
_DETAIL_CHARACTERS = 100


class Tail:
    """The runs of a ledger that end from now on.

    Args:
        history: The open ledger.
        where: Which runs; all by default.
    """

    def __init__(self, history: HistoryStore, where: RunFilter | None = None) -> None:
        self._history = history
        self._where = msgspec.structs.replace(where or RunFilter(), limit=_LOOKED_AT)
        self._version: int | None = None
        self._shown: set[str] = set()
        self._unfinished: set[str] = set()

    async def begin(self) -> None:
        """Take what has ended so far as seen."""
        self._version = await self._history.version()
        await self._look()

    async def next(self) -> list[Run]:
        """Return the runs that ended since the last call, oldest first; waits half a second at most."""
        version = await self._history.version()
        if version == self._version:
            await self._history.changed(within=_STEP)
            version = await self._history.version()
        if version == self._version:
            return []
        self._version = version
        return await self._look()

    async def _look(self) -> list[Run]:
        listed = await self._history.list_runs(self._where)
        by_id = {run.id: run for run in listed}
        for long_ago in self._unfinished - by_id.keys():
            by_id |= await self._find(long_ago)
        ended = {id: run for id, run in by_id.items() if run.is_final}
        fresh = [run for id, run in ended.items() if id not in self._shown]
        self._unfinished = by_id.keys() - ended.keys()
        self._shown = set(ended)
        return sorted(fresh, key=lambda run: run.finished_at_ms or 0)

    async def _find(self, run_id: str) -> dict[str, Run]:
        """Return a run that began too long ago to be among the newest."""
        try:
            run = await self._history.get_run(run_id)
        except RunNotFoundError:
            return {}
        return {run.id: run}


def run_line(run: Run) -> list[Cell]:
    """Return what one line says of a run that has ended."""
    name = run.schedule_id or run.task
    where = f"{name} [{run.repo}]" if run.repo else name
    attempt = f"attempt {run.attempt}" if run.attempt > 1 else ""
    state, style = state_style(run.state.value)
    cells: list[Cell] = [
        (clock_time(run.finished_at) if run.finished_at else "-", "dim"),
        (f"{state:<9}", style),
        f"{run.engine.value:<11}",
        (f"{where:<24}", "bold"),
        f"{span(run.duration):>8}",
        *([(attempt, "yellow")] if attempt else []),
        _detail(run),
    ]
    return cells


def _detail(run: Run) -> Cell:
    problem = run.error or run.reason
    if problem:
        return _short(problem), "red" if run.error else "yellow"
    return (_short(run.result), "dim") if run.result not in {None, "null"} else ""


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _DETAIL_CHARACTERS else f"{line[: _DETAIL_CHARACTERS - 1]}…"
