"""What the processes do that the ledger's kill test starts: `python ledger_children.py COMMAND PATH …`."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.history.store import Advance
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_ids
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from mahavishnu.model.schedule import Schedule

SECOND = timedelta(seconds=1)


def say(*words: str) -> None:
    """Tell the parent, whole lines at once and without a buffer that dies with us."""
    os.write(1, "".join(f"{word}\n" for word in words).encode())


async def record(path: Path) -> None:
    """Record runs for ever; say each one's id once it is acknowledged."""
    store = SqliteHistory(path, clock=SYSTEM_CLOCK)
    await store.open()
    say("ready")
    await asyncio.gather(*(_record_batches(store, size) for size in (1, 20, 200)))


async def _record_batches(store: SqliteHistory, size: int) -> None:
    for _ in itertools.count():
        now_ms = SYSTEM_CLOCK.now_ms()
        runs = [
            Run(
                id=run_id(job_id, 1),
                job_id=job_id,
                task="noop",
                engine=EngineName.ONEIRIC,
                state=RunState.SUCCEEDED,
                started_at_ms=now_ms,
                finished_at_ms=now_ms,
            )
            for job_id in new_ids(now_ms, size)
        ]
        await store.record_runs(runs)
        say(*(run.id for run in runs))


async def advance(path: Path, owner: str) -> None:
    """Step every due schedule until all have ended, racing others; say each occurrence won."""
    store = SqliteHistory(path, clock=SYSTEM_CLOCK)
    await store.open()
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    while await store.next_due(EngineName.ONEIRIC) is not None:
        due = await store.due_schedules(EngineName.ONEIRIC, SYSTEM_CLOCK.now(), limit=20)
        won = await store.advance([_step(it) for it in due], owner=owner, lease=timedelta(minutes=5))
        if won:
            say(*(f"{it.schedule_id} {it.fire_at.isoformat()}" for it in won))
    await store.close()


def _step(schedule: Schedule) -> Advance:
    fire_at = schedule.next_fire_at
    following = fire_at + SECOND if fire_at.second < schedule.context["last_second"] else None
    return Advance(schedule=schedule, dispatch=[fire_at], next_fire_at=following)


if __name__ == "__main__":
    command, path, *rest = sys.argv[1:]
    asyncio.run({"record": record, "advance": advance}[command](Path(path), *rest))
