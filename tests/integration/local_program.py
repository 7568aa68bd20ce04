"""A program for tests: runs one in-process job without end, until it is killed or somebody cancels it.

Run as `python local_program.py STATE_DIR`; prints `ready` once the ledger has the run as running.
"""

import asyncio
import sys

from mahavishnu import MahavishnuApp


async def endless() -> None:
    """Never end."""
    await asyncio.Event().wait()


async def main(state_dir: str) -> None:
    """Fire until killed."""
    app = MahavishnuApp(state_dir=state_dir)
    async with app.scheduler.lifecycle():
        await app.scheduler.schedule_internal_task(endless, id="endless", milliseconds=50)
        while not await app.scheduler.list_runs(schedule_id="endless", state="running"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
