"""`mahavishnu runs`: list runs of all engines, look at one, follow and cancel them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json, back, engine
from mahavishnu.cli.output import Cell, print_json, print_lines, print_pairs, print_table, state_style
from mahavishnu.cli.wording import relative, span, when
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.cli.session import Session
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command", "print_run"]


@click.group("runs", cls=ListingGroup)
def command() -> None:
    """List runs of all engines; without a command, list them."""


@command.command("list")
@click.option("--schedule", "schedule_id", metavar="ID", help="Only of this schedule.")
@click.option("--task", help="Only of this task.")
@engine
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only in this state.")
@click.option("--since", type=back, metavar="TIME", help="Only begun since then: ISO 8601, or how long ago (2h).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="At most this many.")
@click.option("--follow", "-f", is_flag=True, help="Go on and print each run when it has ended.")
@as_json
@click.pass_obj
def list_(session: Session, *, follow: bool, as_json: bool, **where: Any) -> None:
    """List the latest runs, newest first. With --follow, oldest first, and JSON is one object per line."""

    async def read(app: MahavishnuApp) -> list[Run]:
        return await app.scheduler.list_runs(**where)

    async def read_on(app: MahavishnuApp) -> None:
        await _follow(app, where, as_json=as_json)

    if follow:
        session.run(read_on)
        return
    found = session.run(read)
    if as_json:
        print_json([to_json.run(run) for run in found])
    else:
        _print(found)


def _print(runs: Sequence[Run]) -> None:
    now = SYSTEM_CLOCK.now()
    rows: list[list[Cell]] = [
        [
            run.id,
            (run.schedule_id or run.task, "bold"),
            run.engine.value,
            state_style(run.state.value),
            relative(run.started_at, now) if run.started_at else "-",
            span(run.duration),
            run.error or run.reason or "",
        ]
        for run in runs
    ]
    print_table(["run", "task", "engine", "state", "started", "took", "error"], rows, empty="no runs")


async def _follow(app: MahavishnuApp, where: dict[str, Any], *, as_json: bool) -> None:
    from mahavishnu.cli.following import Tail, run_line

    history = await app.runtime.open_history()
    engine, state = where.pop("engine"), where.pop("state")
    tail = Tail(
        history,
        RunFilter(
            **where,
            engine=None if engine is None else EngineName(engine),
            state=None if state is None else RunState(state),
        ),
    )
    await tail.begin()
    latest = await app.scheduler.list_runs(**where, engine=engine, state=state)
    runs = [run for run in reversed(latest) if run.is_final]
    while True:
        for run in runs:
            if as_json:
                print_json(to_json.run(run), line=True)
            else:
                print_lines(run_line(run))
        runs = await tail.next()


@command.command("show")
@click.argument("id")
@as_json
@click.pass_obj
def show(session: Session, id: str, *, as_json: bool) -> None:  # the argument's name in the help
    """Show one run by its id, or a job's latest run by the job's id."""

    async def read(app: MahavishnuApp) -> Run:
        return await app.scheduler.get_run(id)

    found = session.run(read)
    if as_json:
        print_json(to_json.run(found))
    else:
        print_run(found)


def print_run(run: Run) -> None:
    """Print everything that is known of a run."""
    now = SYSTEM_CLOCK.now()
    print_pairs(
        [
            ("run", (run.id, "bold")),
            ("job", run.job_id),
            ("task", run.task),
            ("engine", run.engine.value),
            ("state", state_style(run.state.value)),
            ("attempt", str(run.attempt)),
            ("schedule", run.schedule_id or ""),
            ("due", when(run.scheduled_for, now, never="")),
            ("queue", f"{run.provider}/{run.queue or 'default'}" if run.provider else ""),
            ("started", when(run.started_at, now, never="")),
            ("took", span(run.duration) if run.duration is not None else ""),
            ("worker", run.worker or ""),
            ("repository", run.repo or ""),
            ("commit", run.commit_sha or ""),
            ("part of", run.parent_id or ""),
            ("labels", " ".join(f"{name}={value}" for name, value in (run.labels or {}).items())),
            ("next attempt", when(run.next_attempt_at, now, never="")),
            ("reason", run.reason or ""),
            ("error", (run.error or "", "red")),
            ("result", run.result or ""),
        ]
    )
    if run.traceback:
        click.echo(f"\n{run.traceback.rstrip()}")


@command.command("cancel")
@click.argument("id")
@click.pass_obj
def cancel(session: Session, id: str) -> None:
    """Cancel a job by its id or a run's id: taken out of its queue, or stopped while it runs."""

    async def act(app: MahavishnuApp) -> bool:
        return await app.scheduler.cancel_run(id)

    if not session.run(act):
        click.echo(f"{id} has ended already; there is nothing to cancel")
        raise click.exceptions.Exit(1)
    click.echo(f"asked to cancel {id}")
