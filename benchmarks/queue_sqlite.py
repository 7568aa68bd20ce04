"""The SQLite queue against its own raw statements, in one run: throughput in batches of 200, and idle latency.

Run with `python benchmarks/queue_sqlite.py [folder]`; the folder decides which disk is measured.
Raw means: the product's schema and statements through `sqlite3`, one thread, one transaction per batch, every
commit flushed except that of a claim, nothing built from the rows. The repetitions of both are interleaved.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.ids import new_ids
from mahavishnu.observability.events import Events
from mahavishnu.queues.envelope import Envelope, encode_envelope
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.queues.registry import create_provider
from mahavishnu.storage.statements import load_statements

JOBS, BATCH, REPETITIONS, LATENCIES = 10_000, 200, 5, 1000
CONTEXT = b"\xc4\x96" + bytes(150)
SQL = load_statements("mahavishnu.queues.providers")
FAR_MS = 60_000


def jobs(count: int) -> list[PreparedJob]:
    now_ms = SYSTEM_CLOCK.now_ms()
    return [
        PreparedJob(envelope=Envelope(id=job_id, workflow="bench", context=CONTEXT, enqueued_ms=now_ms))
        for job_id in new_ids(now_ms, count)
    ]


def batches(items):
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]


class Raw:
    """The statements by themselves."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA wal_autocheckpoint=4000")
        for statement in SQL["schema_1"].split(";\n"):
            self.connection.execute(statement)

    def transaction(self, durable: bool, function) -> None:
        """Run a function between begin and commit."""
        self.connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self.connection.execute("BEGIN IMMEDIATE")
        function()
        self.connection.execute("COMMIT")

    def enqueue(self, rows) -> float:
        """Return the seconds it takes to store the rows."""
        began = perf_counter()
        for batch in batches(rows):
            self.transaction(True, lambda batch=batch: self.connection.executemany(SQL["insert_message"], batch))
        return perf_counter() - began

    def drain(self) -> float:
        """Return the seconds it takes to claim and delete everything."""
        began, rows = perf_counter(), [None]

        def claim() -> None:
            nonlocal rows
            now_ms = SYSTEM_CLOCK.now_ms()
            token = int.from_bytes(os.urandom(7), "big")
            found = self.connection.execute(SQL["claim"], ("bench", now_ms, BATCH, token, now_ms + FAR_MS))
            rows = [(row[2], token, now_ms) for row in found]

        while rows:
            self.transaction(False, claim)
            if rows:
                self.transaction(True, lambda: self.connection.executemany(SQL["ack"], rows))
        return perf_counter() - began


async def enqueue(queue: Queue, items) -> float:
    began = perf_counter()
    for batch in batches(items):
        await queue.enqueue(batch)
    return perf_counter() - began


async def drain(queue: Queue) -> float:
    began = perf_counter()
    while deliveries := await queue.receive("default", limit=BATCH, lease_ms=FAR_MS, wait_ms=0):
        await queue.ack("default", [delivery.receipt for delivery in deliveries])
    return perf_counter() - began


def commit_times(raw: Raw, body: bytes) -> list[float]:
    """Return milliseconds that the disk takes for one flushed commit of one row: the floor of any latency."""
    measured = []
    for job_id in new_ids(SYSTEM_CLOCK.now_ms(), LATENCIES // 2):
        sleep(0.003)
        began = perf_counter()
        row = (job_id, "idle", 5, 0, body)
        raw.transaction(True, lambda row=row: raw.connection.execute(SQL["insert_message"], row))
        measured.append((perf_counter() - began) * 1000)
    return sorted(measured)


async def latencies(queue: Queue) -> list[float]:
    """Return milliseconds from the call of `enqueue` until a waiting receiver has the job."""
    sent, measured = {}, []
    received = asyncio.Event()

    async def receive() -> None:
        while True:
            deliveries = await queue.receive("idle", limit=10, lease_ms=FAR_MS, wait_ms=10_000)
            now = perf_counter()
            measured.extend((now - sent[delivery.id]) * 1000 for delivery in deliveries)
            await queue.ack("idle", [delivery.receipt for delivery in deliveries])
            received.set()

    receiver = asyncio.create_task(receive())
    for job in jobs(LATENCIES):
        received.clear()
        await asyncio.sleep(0.003)
        sent[job.envelope.id] = perf_counter()
        await queue.enqueue([PreparedJob(envelope=job.envelope, queue="idle")])
        await received.wait()
    receiver.cancel()
    await asyncio.gather(receiver, return_exceptions=True)
    return sorted(measured)


async def measure(folder: Path) -> None:
    queue = Queue(create_provider("sqlite", state_dir=folder, clock=SYSTEM_CLOCK), clock=SYSTEM_CLOCK, events=Events())
    raw = Raw(folder / "raw.db")
    body = encode_envelope(jobs(1)[0].envelope)
    figures: dict[str, list[float]] = {"raw enqueue": [], "enqueue": [], "raw drain": [], "drain": []}
    async with queue:
        for _ in range(REPETITIONS):
            now_ms = SYSTEM_CLOCK.now_ms()
            rows = [(job_id, "bench", 5, now_ms, body) for job_id in new_ids(now_ms, JOBS)]
            figures["raw enqueue"].append(JOBS / raw.enqueue(rows))
            figures["enqueue"].append(JOBS / await enqueue(queue, jobs(JOBS)))
            figures["raw drain"].append(JOBS / raw.drain())
            figures["drain"].append(JOBS / await drain(queue))
        measured = await latencies(queue)
    report(figures, measured, commit_times(raw, body))


def report(figures: dict[str, list[float]], measured: list[float], commits: list[float]) -> None:
    median = {name: statistics.median(values) for name, values in figures.items()}
    print(f"jobs/s, batches of {BATCH}, synchronous=FULL, median of {REPETITIONS} (lowest to highest)")
    for name, goal in (("enqueue", 0.5), ("drain", 0.6)):
        ratio = statistics.median(o / r for o, r in zip(figures[name], figures[f"raw {name}"], strict=True))
        for row in (f"raw {name}", name):
            print(f"  {row:12} {median[row]:10,.0f}   ({min(figures[row]):,.0f} to {max(figures[row]):,.0f})")
        print(f"  ratio        {ratio:10.2f}   at least {goal}")
    print("milliseconds on an idle queue, one job at a time")
    for name, values in (("raw commit", commits), ("enqueue to receive", measured)):
        p50, p99 = values[len(values) // 2], values[int(len(values) * 0.99)]
        print(f"  {name:18} p50 {p50:5.2f}   p99 {p99:5.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
