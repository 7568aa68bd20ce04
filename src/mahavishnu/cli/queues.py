"""`mahavishnu queues`: count what waits, runs and is parked, and empty a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json, provider, yes
from mahavishnu.cli.output import Cell, confirm_destruction, print_json, print_table
from mahavishnu.cli.wording import counted, relative
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.instants import from_ms

if TYPE_CHECKING:
    from mahavishnu.cli.session import Session
    from mahavishnu.queues.base import QueueStats
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command"]


@click.group("queues", cls=ListingGroup)
def command() -> None:
    """Count what the queues hold; without a command, list them."""


@command.command("list")
@provider
@as_json
@click.pass_obj
def list_(session: Session, *, provider: str | None, as_json: bool) -> None:
    """List the queues of a provider with the number of their jobs."""

    async def read(app: MahavishnuApp) -> tuple[str, list[QueueStats]]:
        stats = await app.scheduler.queue_stats(provider)
        return app.runtime.queue_of(provider).provider_name, stats

    name, found = session.run(read)
    if as_json:
        print_json([to_json.queue_stats(name, stats) for stats in found])
        return
    titles = ["queue", "provider", "ready", "delayed", "running", "dead", "oldest ready"]
    print_table(titles, [_row(name, stats) for stats in found], empty="no queue has held a job yet")


def _row(provider_name: str, stats: QueueStats) -> list[Cell]:
    oldest_ms = stats.oldest_ready_ms
    about = "" if stats.exact else "about "
    return [
        (stats.queue, "bold"),
        provider_name,
        f"{about}{stats.ready}",
        str(stats.delayed),
        str(stats.in_flight),
        (str(stats.dead), "red" if stats.dead else ""),
        "-" if oldest_ms is None else relative(from_ms(oldest_ms), SYSTEM_CLOCK.now()),
    ]


@command.command("purge")
@click.argument("queue")
@provider
@yes
@click.pass_obj
def purge(session: Session, queue: str, *, provider: str | None, yes: bool) -> None:
    """Delete every waiting job of QUEUE; running ones and dead letters stay."""
    confirm_destruction(f"Delete every waiting job of the queue {queue!r}?", yes=yes)

    async def act(app: MahavishnuApp) -> int:
        return await app.scheduler.purge_queue(queue, provider)

    click.echo(f"deleted {counted(session.run(act), 'waiting job')} of {queue}")
