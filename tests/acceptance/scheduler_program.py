"""A scheduler process for tests: fires the durable schedules of one state folder until it is killed.

Run as `python scheduler_program.py STATE_DIR`; prints `ready` once it fires.
"""

import asyncio
import sys
from datetime import timedelta

from mahavishnu import MahavishnuApp

SCHEDULES = 5


async def note() -> None:
    """Stand in for a job; no worker runs in these tests."""


def make_app(state_dir: str) -> MahavishnuApp:
    """Return an app with one workflow."""
    app = MahavishnuApp(state_dir=state_dir)
    app.workflow("note")(note)
    return app


async def schedule_all(app: MahavishnuApp) -> None:
    """Make the schedules: each fires every second, whether or not earlier jobs have run."""
    for number in range(SCHEDULES):
        await app.scheduler.schedule_workflow(
            "note", every=timedelta(seconds=1), id=f"note-{number}", overlap="allow", misfire="all"
        )


async def main(state_dir: str) -> None:
    """Fire until killed."""
    app = make_app(state_dir)
    async with app.scheduler.lifecycle():
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
