"""A worker in a process of its own, for tests that kill it: `worker_process.py FOLDER OPTIONS-AS-JSON`.

Every start and end of a job is a line in FOLDER/journal: event, job id, process id. The line `ready` on stdout says
that the worker runs. With `"parent": true` it stops when its supervisor does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.job import BackoffPolicy
from mahavishnu.observability.events import Events
from mahavishnu.queues.providers.sqlite import SqliteQueueProvider
from mahavishnu.queues.queue import Queue
from mahavishnu.worker.signals import end_with_parent, leave, stop_on_signals
from mahavishnu.worker.worker import Worker
from mahavishnu.workflows.context import JobContext  # noqa: TC001  # read from annotations at run time
from mahavishnu.workflows.registry import WorkflowRegistry

FOLDER = Path(sys.argv[1])
REGISTRY = WorkflowRegistry()
SOON = BackoffPolicy(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))


def note(event: str, job: JobContext) -> None:
    """Append one line; atomic, since it is short."""
    with (FOLDER / "journal").open("a") as journal:
        journal.write(f"{event} {job.job_id} {os.getpid()}\n")


async def brief(job: JobContext) -> None:
    """Take a few milliseconds."""
    note("start", job)
    await asyncio.sleep(0.005)
    note("end", job)


async def long(job: JobContext, seconds: float) -> None:
    """Wait without blocking."""
    note("start", job)
    await asyncio.sleep(seconds)
    note("end", job)


async def blocking(job: JobContext, seconds: float) -> None:
    """Block the event loop."""
    note("start", job)
    time.sleep(seconds)  # noqa: ASYNC251  # the point
    note("end", job)


def sync(job: JobContext, seconds: float) -> None:
    """Sit in a thread, in small steps."""
    note("start", job)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    note("end", job)


def stuck(job: JobContext, seconds: float) -> None:
    """Sit in a thread, inside C."""
    note("start", job)
    time.sleep(seconds)
    note("end", job)


def poison(job: JobContext) -> None:
    """End the process."""
    note("start", job)
    os._exit(9)


async def immortal(job: JobContext) -> None:
    """Never stop, whatever it is told."""
    note("start", job)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


for function in (brief, long, blocking, sync, stuck, poison, immortal):
    REGISTRY.register(function.__name__, function, max_attempts=2, backoff=SOON)


def make_queue() -> Queue:
    """Return a queue on the folder's file."""
    return Queue(SqliteQueueProvider(FOLDER / "queue.db", clock=SYSTEM_CLOCK), clock=SYSTEM_CLOCK, events=Events())


async def main(options: dict[str, Any]) -> None:
    """Work until a signal."""
    for key in ("lease", "grace", "kill_grace"):
        if key in options:
            options[key] = timedelta(seconds=options[key])
    queue = make_queue()
    history = SqliteHistory(FOLDER / "ledger.db", clock=SYSTEM_CLOCK)
    if options.pop("parent", False):
        end_with_parent(timedelta(seconds=5))
    worker = Worker(queue, REGISTRY, history, events=Events(), make_queue=make_queue, **options)
    with stop_on_signals(worker):
        run = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await run
    await queue.close()
    await history.close()
    if worker.leftovers:
        leave()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[2])))
