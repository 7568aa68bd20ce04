"""Run a scheduler process, alone or with all that one machine needs, and show what it does."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from mahavishnu.cli.following import Tail, run_line
from mahavishnu.cli.interrupting import Interrupts
from mahavishnu.cli.output import is_terminal, print_table
from mahavishnu.cli.schedules import print_schedules
from mahavishnu.cli.screen import Screen
from mahavishnu.cli.wording import counted, span
from mahavishnu.cli.worker import make_worker, worker_command
from mahavishnu.errors import EngineError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import EngineChanged
from mahavishnu.observability.logs import configure_logging
from mahavishnu.scheduler.internal import INTERNAL_PREFIX, schedule_internals
from mahavishnu.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mahavishnu.cli.output import Cell
    from mahavishnu.engines.base import EngineHealth
    from mahavishnu.model.run import Run
    from mahavishnu.scheduler.app import MahavishnuApp
    from mahavishnu.worker.worker import Worker

__all__ = ["SchedulerRun"]

_INTERRUPTED = 130
_STATUS_SECONDS = 2.0


class SchedulerRun:
    """One scheduler process from start to stop.

    Args:
        app: Whose.
        workers: How many worker processes to run beside it; 0: none.
        limit: Stop after this long; `None`: when told to.
    """

    def __init__(self, app: MahavishnuApp, *, workers: int, limit: timedelta | None) -> None:
        self._app = app
        self._count = workers
        self._limit = limit
        self._screen = Screen()
        self._interrupts = Interrupts(lambda text: self._screen.say((text, "yellow")))
        self._workers: Supervisor | Worker | None = None
        self._finished = 0

    async def run(self) -> int:
        """Start, show what happens, stop; returns the exit code.

        Raises:
            MahavishnuError: Something could not start; what had started is stopped again.
        """
        logging = self._app.settings.logging
        self._app.runtime.events.listen(EngineChanged, self._say_changed)
        with self._interrupts.listening(), self._screen.shown():
            configure_logging(logging.level, logging.format)  # here, so that lines go above the status line
            try:
                await self._run()
            except asyncio.CancelledError:
                if not self._interrupts.asked.is_set():
                    raise
                return _INTERRUPTED
        self._screen.say(("stopped", "bold"))
        return 0

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(self._app.scheduler.lifecycle())
            await schedule_internals(scheduler, self._app.runtime)
            self._interrupts.on_hurry(self._hurry)
            ended = await stack.enter_async_context(self._working()) if self._count else None
            self._interrupts.is_running = True
            await self._announce()
            await self._show_until_stopped(ended)
            await self._say_what_is_waited_for()

    def _say_changed(self, event: EngineChanged) -> None:
        if event.engine not in set(EngineName):
            return
        style = {"started": "green", "failed": "red"}.get(event.state, "")
        self._screen.say((f"{event.engine:<12}", "bold"), (event.state, style), event.detail)
        self._screen.status(f"{event.engine} {event.state}")

    # --- workers ---

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[asyncio.Task[object]]:
        """Run workers inside the block; the value is the task that ends when they do."""
        self._workers = await self._make_workers()
        task: asyncio.Task[object] = asyncio.create_task(self._workers.run(), name="mahavishnu-workers")
        try:
            yield task
        finally:
            self._workers.stop()
            await asyncio.wait([task])

    async def _make_workers(self) -> Supervisor | Worker:
        queue = await self._app.runtime.open_queue(None)
        if not queue.capabilities.shared_between_processes:
            return await make_worker(self._app, is_alone=True)
        self._screen.say((f"{'worker':<12}", "bold"), ("started", "green"), f"{self._count} at work")
        return Supervisor(
            worker_command(), processes=self._count, grace=self._app.settings.worker.grace, env=_worker_environment()
        )

    # --- showing ---

    async def _announce(self) -> None:
        app, screen = self._app, self._screen
        screen.say()
        healths = [await engine.health() for engine in app.runtime.enabled_engines()]
        print_table(["engine", "version", "state", "where"], [_engine_row(health) for health in healths], empty="")
        screen.say(("state folder:", "dim"), str(app.settings.state_dir))
        for link in (it.facts.get("url", "") for it in healths if it.engine == EngineName.PREFECT):
            screen.say(("Prefect UI:", "dim"), (link.removesuffix("/api"), "underline"))
        screen.say()
        schedules = await app.scheduler.list_schedules()
        print_schedules([it for it in schedules if not it.id.startswith(INTERNAL_PREFIX)], with_reasons=True)
        screen.say()
        left = "Ctrl-C stops" if self._limit is None else f"running for {span(self._limit)}"
        screen.say((f"ready; {left}. Runs of all engines, as they end:", "bold"))

    async def _show_until_stopped(self, workers_ended: asyncio.Task[object] | None) -> None:
        """Print runs until a signal, the limit, or the end of the workers."""
        asked = asyncio.create_task(self._interrupts.asked.wait(), name="mahavishnu-asked-to-stop")
        showing = asyncio.create_task(self._show_runs(), name="mahavishnu-show-runs")
        waited = {asked, showing, *([workers_ended] if workers_ended is not None else [])}
        seconds = None if self._limit is None else self._limit.total_seconds()
        try:
            done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
        if workers_ended in done and not self._interrupts.asked.is_set():
            raise EngineError("the workers ended by themselves; their own message above says why")

    async def _show_runs(self) -> None:
        history = await self._app.runtime.open_history()
        tail = Tail(history)
        await tail.begin()
        loop = asyncio.get_running_loop()
        status_due = loop.time()
        while True:
            if loop.time() >= status_due:
                await self._update_status()
                status_due = loop.time() + _STATUS_SECONDS
            for run in await tail.next():
                self._finished += 1
                if not _is_quiet(run):
                    self._screen.say(*run_line(run))

    async def _update_status(self) -> None:
        stats = await self._app.scheduler.queue_stats()
        waiting, dead = sum(it.ready + it.delayed for it in stats), sum(it.dead for it in stats)
        running = sum(it.in_flight for it in stats) + self._app.runtime.local.runner.active
        self._screen.status(
            f"{counted(self._finished, 'run')} ended, {running} running, {waiting} waiting, {dead} dead letters"
        )

    # --- stopping ---

    async def _say_what_is_waited_for(self) -> None:
        here = self._app.runtime.local.runner.active
        queued = sum(it.in_flight for it in await self._app.scheduler.queue_stats()) if self._count else 0
        at_most = span(max(self._app.settings.worker.grace, self._app.settings.scheduler.stop_grace))
        what = (
            f"waiting for {counted(here + queued, 'running job')}, {at_most} at most"
            if here + queued
            else "nothing is running"
        )
        self._screen.say((f"stopping: {what} (a second signal hurries)", "yellow"))
        self._screen.status("stopping")

    def _hurry(self) -> None:
        if self._workers is not None:
            self._workers.stop(now=True)
        runner = self._app.runtime.local.runner
        self._hurrying = asyncio.create_task(runner.stop(timedelta(0)), name="mahavishnu-hurry")


def _worker_environment() -> dict[str, str] | None:
    """Have workers write warnings only where a status line is shown, unless the environment names a level."""
    name = "MAHAVISHNU_LOGGING__LEVEL"
    return {name: "warning", **os.environ} if is_terminal() else None


def _engine_row(health: EngineHealth) -> list[Cell]:
    where = ", ".join(f"{name} {value}" for name, value in health.facts.items())
    here = "this process" if health.engine == EngineName.APSCHEDULER else ""
    return [(str(health.engine), "bold"), health.version or "-", health.detail, where or here]


def _is_quiet(run: Run) -> bool:
    """Return whether a run is the product's own upkeep and went well."""
    return run.state is RunState.SUCCEEDED and (run.schedule_id or "").startswith(INTERNAL_PREFIX)
