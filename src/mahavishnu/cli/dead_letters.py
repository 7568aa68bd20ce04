"""`mahavishnu dead-letters`: parked jobs, why they are parked, and trying them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json, provider, yes
from mahavishnu.cli.output import Cell, confirm_destruction, is_terminal, print_json, print_pairs, print_table
from mahavishnu.cli.wording import counted, relative, when
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import QueueError
from mahavishnu.model.instants import from_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.cli.session import Session
    from mahavishnu.queues.queue import DeadJob
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command"]

_PER_STEP = 500


@click.group("dead-letters", cls=ListingGroup)
def command() -> None:
    """List parked jobs and try them again; without a command, list them."""


def _which(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters."""
    for option in (
        click.option("--reason", metavar="CODE", help="Only with this reason, such as attempts-exhausted."),
        click.option("--workflow", metavar="KEY", help="Only of this workflow."),
        click.option("--queue", metavar="NAME", help="Only of this queue."),
        provider,
    ):
        function = option(function)
    return function


@command.command("list")
@_which
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most this many.")
@as_json
@click.pass_obj
def list_(session: Session, *, as_json: bool, **where: Any) -> None:
    """List parked jobs, oldest first, each with its reason and last error."""

    async def read(app: MahavishnuApp) -> list[DeadJob]:
        return await app.scheduler.list_dead_letters(**where)

    found = session.run(read)
    if as_json:
        print_json([to_json.dead_job(job) for job in found])
        return
    now = SYSTEM_CLOCK.now()
    rows: list[list[Cell]] = [
        [
            job.letter.id,
            (job.letter.workflow or "(unreadable)", "bold"),
            job.letter.queue,
            (job.letter.reason, "red"),
            relative(from_ms(job.letter.died_ms), now),
            job.letter.error,
        ]
        for job in found
    ]
    print_table(["job", "workflow", "queue", "reason", "parked", "error"], rows, empty="no dead letters")


@command.command("show")
@click.argument("id")
@provider
@as_json
@click.pass_obj
def show(session: Session, id: str, *, provider: str | None, as_json: bool) -> None:
    """Show one parked job with its attempts and its traceback."""

    async def read(app: MahavishnuApp) -> list[DeadJob]:
        return await app.scheduler.list_dead_letters(provider, ids=[id])

    found = session.run(read)
    if not found:
        raise QueueError(f"dead letter {id!r} does not exist; list them with `mahavishnu dead-letters`")
    if as_json:
        print_json(to_json.dead_job(found[0]))
    else:
        _print(found[0])


def _print(job: DeadJob) -> None:
    letter, now = job.letter, SYSTEM_CLOCK.now()
    print_pairs(
        [
            ("job", (letter.id, "bold")),
            ("workflow", letter.workflow or "(unreadable)"),
            ("queue", letter.queue),
            ("parked", when(from_ms(letter.died_ms), now)),
            ("reason", (letter.reason, "red")),
            ("error", (letter.error, "red")),
            ("schedule", (job.envelope and job.envelope.schedule_id) or ""),
        ]
    )
    rows = [
        [str(it.attempt), it.state.value, when(from_ms(it.at_ms), now), it.error, it.worker] for it in letter.attempts
    ]
    click.echo()
    print_table(["attempt", "state", "ended", "error", "worker"], rows, empty="no attempt is remembered")
    if letter.traceback:
        click.echo(f"\n{letter.traceback.rstrip()}")


@command.command("redrive")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Everything that the other options choose.")
@_which
@as_json
@click.pass_obj
def redrive(session: Session, *, ids: tuple[str, ...], everything: bool, as_json: bool, **where: Any) -> None:
    """Move parked jobs back to their queues, to be tried afresh: those with these IDs, or a choice of them."""
    _require_choice(ids, everything, where)

    async def act(app: MahavishnuApp) -> list[str]:
        chosen = list(ids) or [job.letter.id for job in await app.scheduler.list_dead_letters(**where, limit=None)]
        return await _redrive(app, chosen, where["provider"])

    moved = session.run(act)
    missing = [id for id in ids if id not in moved]
    if as_json:
        print_json({"redriven": moved, "not_found": missing})
    else:
        click.echo(f"moved {counted(len(moved), 'job')} back to the queues")
        for id in missing:  # the word for it everywhere else
            click.echo(f"no dead letter has the id {id!r}", err=True)
    if missing:
        raise click.exceptions.Exit(1)


async def _redrive(app: MahavishnuApp, ids: list[str], provider: str | None) -> list[str]:
    moved: list[str] = []
    steps = [ids[start : start + _PER_STEP] for start in range(0, len(ids), _PER_STEP)]
    if len(steps) < 2 or not is_terminal():
        for step in steps:
            moved += await app.scheduler.redrive(provider, ids=step)
        return moved
    with click.progressbar(length=len(ids), label="redriving") as bar:
        for step in steps:
            moved += await app.scheduler.redrive(provider, ids=step)
            bar.update(len(step))
    return moved


@command.command("discard")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Everything that the other options choose.")
@_which
@yes
@click.pass_obj
def discard(session: Session, *, ids: tuple[str, ...], everything: bool, yes: bool, **where: Any) -> None:
    """Delete parked jobs for good: those with these IDs, or a choice of them."""
    _require_choice(ids, everything, where)
    what = counted(len(ids), "dead letter") if ids else "every dead letter that these options choose"
    confirm_destruction(f"Delete {what} for good?", yes=yes)

    async def act(app: MahavishnuApp) -> int:
        return await app.scheduler.discard_dead_letters(**where, ids=list(ids) or None)

    click.echo(f"deleted {counted(session.run(act), 'dead letter')}")


def _require_choice(ids: tuple[str, ...], everything: bool, where: dict[str, Any]) -> None:
    """Refuse to act on everything because an option was forgotten, or on more than what was named."""
    chosen = [name for name in ("queue", "workflow", "reason") if where[name] is not None]
    if ids and (everything or chosen):
        raise click.UsageError("give ids, or options that choose, not both")
    if not (ids or everything or chosen):
        raise click.UsageError("say which: ids, --queue, --workflow, --reason, or --all")
