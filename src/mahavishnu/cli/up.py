"""`mahavishnu up`: everything one machine needs, in one process and its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mahavishnu.cli.durations import duration

if TYPE_CHECKING:
    from datetime import timedelta

    from mahavishnu.cli.session import Session

__all__ = ["command", "seconds_or_duration"]


def seconds_or_duration(text: str | timedelta) -> timedelta:
    """Return a duration; a bare number counts seconds."""
    return duration(f"{text}s" if isinstance(text, str) and text.replace(".", "", 1).isdigit() else text)


@click.command("up")
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes; 1 by default.")
@click.option("--no-worker", is_flag=True, help="Start no worker: others run the jobs.")
@click.option("--for", "limit", type=seconds_or_duration, metavar="SECONDS", help="Stop after this long.")
@click.pass_obj
def command(session: Session, *, workers: int | None, no_worker: bool, limit: timedelta | None) -> None:
    """Run the scheduler, workers and, where it is enabled, a managed local Prefect, until Ctrl-C."""
    import asyncio

    from mahavishnu.cli.locking import only_one
    from mahavishnu.cli.running import SchedulerRun

    if no_worker and workers is not None:
        raise click.UsageError("give --workers or --no-worker, not both")
    app = session.app(required=True)
    count = 0 if no_worker else workers or app.settings.worker.processes

    async def run() -> int:
        return await SchedulerRun(app, workers=count, limit=limit).run()

    with only_one(app.settings.state_dir):
        code = asyncio.run(run())
    raise click.exceptions.Exit(code)
