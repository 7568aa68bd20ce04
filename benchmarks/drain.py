"""How fast one worker process drains no-op jobs from SQLite, against the bare statements in the same run.

Both are durable against power loss (`synchronous=FULL`). The bare run claims 200 messages and deletes the 200 before
them in each transaction, and does nothing else. The worker decodes, runs, records in the ledger and acknowledges.
Then: how long it takes from enqueueing a job on an idle worker to its start, and a steady 100 jobs a second.

Usage: python benchmarks/drain.py [--jobs 20000] [--rounds 3] [--dir DIR] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.ids import new_id, new_ids
from mahavishnu.observability.events import Events
from mahavishnu.queues.envelope import Envelope
from mahavishnu.queues.providers.sqlite import SqliteQueueProvider
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.storage.statements import load_statements
from mahavishnu.worker.worker import Worker
from mahavishnu.workflows.registry import WorkflowRegistry

BATCH = 200
CHUNK = 1_000
LEASE_MS = 30_000


class Bench:
    """A folder with a queue and a ledger in it, and the clock of when jobs started."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.queue = self.make_queue()
        self.history = SqliteHistory(folder / "ledger.db", clock=SYSTEM_CLOCK)
        self.registry = WorkflowRegistry()
        self.registry.register("noop", self.noop)
        self.registry.register("mark", self.mark)
        self.left = 0
        self.done = asyncio.Event()
        self.marked = 0.0

    def make_queue(self) -> Queue:
        """Return the queue, not opened."""
        return Queue(SqliteQueueProvider(self.path, clock=SYSTEM_CLOCK), clock=SYSTEM_CLOCK, events=Events())

    async def noop(self) -> None:
        """Do nothing but count."""
        self.left -= 1
        if not self.left:
            self.done.set()

    async def mark(self) -> None:
        """Note the time."""
        self.marked = time.perf_counter()
        self.done.set()

    def worker(self) -> Worker:
        """Return a worker with its ordinary settings."""
        return Worker(self.queue, self.registry, self.history, events=Events(), make_queue=self.make_queue)

    async def fill(self, count: int) -> None:
        """Open the queue and put so many no-op jobs in it."""
        await self.queue.open()
        for start in range(0, count, CHUNK):
            ids = new_ids(SYSTEM_CLOCK.now_ms(), min(CHUNK, count - start))
            await self.queue.enqueue([prepared(job_id, "noop") for job_id in ids])

    async def close(self) -> None:
        """Close both files."""
        await self.queue.close()
        await self.history.close()


def prepared(job_id: str, workflow: str) -> PreparedJob:
    return PreparedJob(envelope=Envelope(id=job_id, workflow=workflow, enqueued_ms=SYSTEM_CLOCK.now_ms()))


async def raw(folder: Path, jobs: int) -> float:
    """Return jobs per second of the bare statements."""
    bench = Bench(folder)
    await bench.fill(jobs)
    await bench.close()
    statements = load_statements("mahavishnu.queues.providers")
    connection = sqlite3.connect(bench.path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    claimed: list[tuple[int, int, int]] = []
    drained = 0
    began = time.perf_counter()
    while True:
        now_ms = SYSTEM_CLOCK.now_ms()
        connection.execute("BEGIN IMMEDIATE")
        if claimed:
            connection.executemany(statements["ack"], claimed)
        found = connection.execute(statements["claim"], ("default", now_ms, BATCH, 7, now_ms + LEASE_MS)).fetchall()
        connection.execute("COMMIT")
        drained += len(claimed)
        if not found:
            break
        claimed = [(row[2], 7, now_ms) for row in found]
    seconds = time.perf_counter() - began
    connection.close()
    assert drained == jobs
    return jobs / seconds


async def drain(folder: Path, jobs: int) -> float:
    """Return jobs per second of a worker, from its start until everything is recorded and acknowledged."""
    bench = Bench(folder)
    await bench.fill(jobs)
    bench.left = jobs
    worker = bench.worker()
    began = time.perf_counter()
    run = asyncio.create_task(worker.run())
    await bench.done.wait()
    worker.stop()
    await run
    seconds = time.perf_counter() - began
    assert all(stats.ready + stats.in_flight + stats.delayed + stats.dead == 0 for stats in await bench.queue.stats())
    await bench.close()
    return jobs / seconds


async def start_latencies(folder: Path, jobs: int, interval_seconds: float) -> tuple[list[float], list[float]]:
    """Return, for single jobs, the seconds to the start: from the call of `enqueue`, and from its confirmation."""
    bench = Bench(folder)
    await bench.queue.open()
    worker = bench.worker()
    run = asyncio.create_task(worker.run())
    await asyncio.sleep(0.2)
    from_call: list[float] = []
    from_confirmed: list[float] = []
    for _ in range(jobs):
        await asyncio.sleep(interval_seconds)
        bench.done.clear()
        called = time.perf_counter()
        await bench.queue.enqueue([prepared(new_id(SYSTEM_CLOCK.now_ms()), "mark")])
        confirmed = time.perf_counter()
        await bench.done.wait()
        from_call.append(bench.marked - called)
        from_confirmed.append(max(0.0, bench.marked - confirmed))  # it may start before its producer hears of it
    worker.stop()
    await run
    await bench.close()
    return from_call, from_confirmed


def show_latencies(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{what:<34} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {ordered[-1] * 1000:6.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="where the files go; default: the system's folder")
    parser.add_argument("--profile", action="store_true", help="show where the worker's event loop spends its time")
    options = parser.parse_args()
    ratios: list[float] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.dir) as one, tempfile.TemporaryDirectory(dir=options.dir) as two:
            bare = asyncio.run(raw(Path(one), options.jobs))
            ours = asyncio.run(drain(Path(two), options.jobs))
        ratios.append(ours / bare)
        print(f"drain {number + 1}: bare {bare:9,.0f}/s   worker {ours:9,.0f}/s   ratio {ours / bare:.2f}")
    print(f"{'drain ratio, median (target 0.30)':<34} {statistics.median(ratios):.2f}")
    for what, jobs, interval in (("start, idle", 300, 0.02), ("start, 100 jobs/s", 500, 0.0085)):
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            from_call, from_confirmed = asyncio.run(start_latencies(Path(folder), jobs, interval))
        show_latencies(f"{what}, from the call", from_call)
        show_latencies(f"{what}, from confirmed", from_confirmed)
    if options.profile:
        with tempfile.TemporaryDirectory(dir=options.dir) as folder, cProfile.Profile() as profile:
            asyncio.run(drain(Path(folder), options.jobs))
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
