"""`mahavishnu scheduler`: fire schedules, without a worker; any number may run on one ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mahavishnu.cli.up import seconds_or_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from mahavishnu.cli.session import Session

__all__ = ["command"]


@click.command("scheduler")
@click.option("--for", "limit", type=seconds_or_duration, metavar="SECONDS", help="Stop after this long.")
@click.pass_obj
def command(session: Session, *, limit: timedelta | None) -> None:
    """Run the enabled engines until Ctrl-C; jobs are left to `mahavishnu worker`."""
    import asyncio

    from mahavishnu.cli.running import SchedulerRun

    app = session.app(required=True)

    async def run() -> int:
        return await SchedulerRun(app, workers=0, limit=limit).run()

    raise click.exceptions.Exit(asyncio.run(run()))
