"""`mahavishnu deployments`: what Prefect holds for this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json
from mahavishnu.cli.output import Cell, print_json, print_table
from mahavishnu.cli.wording import when
from mahavishnu.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from mahavishnu.cli.session import Session
    from mahavishnu.engines.prefect.listing import DeploymentInfo
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command"]


@click.group("deployments", cls=ListingGroup)
def command() -> None:
    """Prefect deployments of this project; without a command, list them."""


@command.command("list")
@as_json
@click.pass_obj
def list_(session: Session, *, as_json: bool) -> None:
    """List what the Prefect server holds: deployments, their schedules, and whether a worker polls their pool."""

    async def read(app: MahavishnuApp) -> list[DeploymentInfo]:
        await app.runtime.open_history()
        return await app.runtime.prefect.deployments()

    found = session.run(read)
    if as_json:
        print_json([to_json.deployment(info) for info in found])
        return
    now = SYSTEM_CLOCK.now()
    rows: list[list[Cell]] = [
        [
            (f"{info.flow}/{info.name}", "bold"),
            "paused" if info.paused else info.status.lower().replace("_", " "),
            info.schedule or "-",
            when(info.next_run, now),
            info.work_pool or "-",
            info.schedule_id or "-",
        ]
        for info in found
    ]
    print_table(["deployment", "state", "when", "next", "pool", "schedule"], rows, empty="no deployments")
