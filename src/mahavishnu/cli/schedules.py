"""`mahavishnu schedules`: list schedules, look at one, and steer them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json, engine, yes
from mahavishnu.cli.output import (
    Cell,
    confirm_destruction,
    is_terminal,
    print_json,
    print_pairs,
    print_table,
    state_style,
)
from mahavishnu.cli.wording import local_time, relative, span, when
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.secret import MASK, is_secret_key
from mahavishnu.model.states import OccurrenceState
from mahavishnu.triggers import build, fire_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mahavishnu.cli.session import Session
    from mahavishnu.model.run import Run
    from mahavishnu.model.schedule import Occurrence, Schedule
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command", "print_schedules"]

_SHOWN_TIMES = 5
_SHOWN_ROWS = 5


@click.group("schedules", cls=ListingGroup)
def command() -> None:
    """List schedules and steer them; without a command, list them."""


@command.command("list")
@engine
@click.option("--task", help="Only of this task.")
@as_json
@click.pass_obj
def list_(session: Session, *, engine: str | None, task: str | None, as_json: bool) -> None:
    """List the schedules of all engines."""

    async def read(app: MahavishnuApp) -> list[Schedule]:
        return await app.scheduler.list_schedules(engine=engine, task=task)

    found = session.run(read)
    if as_json:
        print_json([to_json.schedule(schedule) for schedule in found])
    else:
        print_schedules(found)


def print_schedules(schedules: Sequence[Schedule], *, with_reasons: bool = False) -> None:
    """Print schedules as a table.

    Args:
        schedules: Which.
        with_reasons: Say of each why it is on its engine.
    """
    now = SYSTEM_CLOCK.now()
    titles = ["schedule", "engine", "state", "when", "next", *(["why"] if with_reasons else [])]
    rows: list[list[Cell]] = []
    for schedule in schedules:
        row: list[Cell] = [
            (schedule.id, "bold"),
            schedule.engine.value,
            state_style(schedule.state.value),
            build(schedule.trigger).describe(),
            when(schedule.next_fire_at, now),
        ]
        rows.append([*row, "; ".join(schedule.reasons)] if with_reasons else row)
    print_table(titles, rows, empty="no schedules")


@command.command("show")
@click.argument("id")
@as_json
@click.pass_obj
def show(session: Session, id: str, *, as_json: bool) -> None:  # the argument's name in the help
    """Show one schedule: its policies, its next fire times, and what became of the latest ones."""

    async def read(app: MahavishnuApp) -> tuple[Schedule, list[Occurrence], list[Run]]:
        schedule = await app.scheduler.get_schedule(id)
        occurrences = await app.scheduler.list_occurrences(id, limit=50)
        return schedule, occurrences, await app.scheduler.list_runs(schedule_id=id, limit=_SHOWN_ROWS)

    schedule, occurrences, runs = session.run(read)
    upcoming = _upcoming(schedule, _SHOWN_TIMES)
    if as_json:
        print_json(
            {
                **to_json.schedule(schedule),
                "next_fire_times": [instant.isoformat() for instant in upcoming],
                "occurrences": [to_json.occurrence(occurrence) for occurrence in occurrences],
                "runs": [to_json.run(run) for run in runs],
            }
        )
        return
    _print_definition(schedule)
    _print_upcoming(upcoming)
    _print_past(occurrences, runs)


def _upcoming(schedule: Schedule, count: int) -> list[datetime]:
    first = schedule.next_fire_at
    if first is None:
        return []
    later = fire_times(build(schedule.trigger), first, limit=count - 1)
    return [first, *later]


def _print_definition(schedule: Schedule) -> None:
    now = SYSTEM_CLOCK.now()
    trigger = build(schedule.trigger)
    options = schedule.options
    grace = span(schedule.misfire.grace)
    limit = "" if schedule.max_running is None else f", at most {schedule.max_running} at once"
    print_pairs(
        [
            ("schedule", (schedule.id, "bold")),
            ("task", schedule.task),
            ("engine", schedule.engine.value),
            ("why", "; ".join(schedule.reasons)),
            ("state", state_style(schedule.state.value)),
            ("when", trigger.describe()),
            ("trigger", " ".join(f"{name}={value}" for name, value in schedule.trigger.fields.items())),
            ("context", _context(schedule.context)),
            ("missed times", f"{schedule.misfire} (later than {grace})"),
            ("overlap", f"{schedule.overlap.value}{limit}"),
            ("jitter", span(schedule.jitter) if schedule.jitter else ""),
            ("timeout", span(options.timeout) if options.timeout else ""),
            ("queue", f"{schedule.provider or 'default provider'}/{options.queue}" if _is_durable(schedule) else ""),
            ("last", when(schedule.last_fire_at, now, never="")),
            ("created", when(schedule.created_at, now, never="")),
            ("known there as", schedule.external_id or ""),
        ]
    )


def _is_durable(schedule: Schedule) -> bool:
    return schedule.engine.value == "oneiric"


def _context(context: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={MASK if is_secret_key(name) else repr(value)}" for name, value in context.items())


def _print_upcoming(upcoming: Sequence[datetime]) -> None:
    now = SYSTEM_CLOCK.now()
    rows = [[local_time(instant), relative(instant, now)] for instant in upcoming]
    click.echo()
    print_table(["next fire times", ""], rows, empty="it does not fire any more, or not until it is resumed")


def _print_past(occurrences: Sequence[Occurrence], runs: Sequence[Run]) -> None:
    now = SYSTEM_CLOCK.now()
    rows: list[list[Cell]] = [
        [
            when(run.started_at, now),
            state_style(run.state.value),
            span(run.duration),
            run.error or run.reason or "",
            run.id,
        ]
        for run in runs
    ]
    click.echo()
    print_table(["latest runs", "state", "took", "error", "run"], rows, empty="no runs yet")
    skips = (it for it in occurrences if it.state in {OccurrenceState.SKIPPED, OccurrenceState.HELD})
    missed: list[list[Cell]] = [
        [when(it.fire_at, now), state_style(it.state.value), str(it.count), it.reason]
        for it in islice(skips, _SHOWN_ROWS)
    ]
    if missed:
        click.echo()
        print_table(["not run at", "state", "times", "reason"], missed, empty="")


@command.command("next")
@click.argument("id")
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@as_json
@click.pass_obj
def next_(session: Session, id: str, *, count: int, as_json: bool) -> None:
    """Print the next fire times of a schedule."""

    async def read(app: MahavishnuApp) -> Schedule:
        return await app.scheduler.get_schedule(id)

    upcoming = _upcoming(session.run(read), count)
    if as_json:
        print_json([instant.isoformat() for instant in upcoming])
    else:
        _print_upcoming(upcoming)


@command.command("pause")
@click.argument("id")
@click.pass_obj
def pause(session: Session, id: str) -> None:
    """Let a schedule fire no more until it is resumed."""

    async def act(app: MahavishnuApp) -> Schedule:
        return await app.scheduler.pause_schedule(id)

    click.echo(f"{id} is {session.run(act).state.value}")


@command.command("resume")
@click.argument("id")
@click.pass_obj
def resume(session: Session, id: str) -> None:
    """Let a paused schedule fire again, from its next time on."""

    async def act(app: MahavishnuApp) -> Schedule:
        return await app.scheduler.resume_schedule(id)

    schedule = session.run(act)
    click.echo(f"{id} is {schedule.state.value}, next {when(schedule.next_fire_at, SYSTEM_CLOCK.now(), never='never')}")


@command.command("run-now")
@click.argument("id")
@as_json
@click.pass_obj
def run_now(session: Session, id: str, *, as_json: bool) -> None:
    """Run a schedule's task once, now, beside its regular times."""

    async def act(app: MahavishnuApp) -> Any:
        return await app.scheduler.run_now(id)

    job = session.run(act)
    if as_json:
        print_json(to_json.enqueued_job(job))
    else:
        hint = f" (see it with `mahavishnu runs show {job.job_id}`)" if is_terminal() else ""
        click.echo(f"asked for a run of {id}: job {job.job_id}{hint}")


@command.command("remove")
@click.argument("id")
@yes
@click.pass_obj
def remove(session: Session, id: str, *, yes: bool) -> None:
    """Delete a schedule; its runs stay in the ledger."""
    confirm_destruction(f"Delete the schedule {id!r}?", yes=yes)

    async def act(app: MahavishnuApp) -> None:
        await app.scheduler.remove_schedule(id)

    session.run(act)
    click.echo(f"{id} is removed")
