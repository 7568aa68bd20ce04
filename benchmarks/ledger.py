"""How fast the ledger takes, finds and forgets runs: `python benchmarks/ledger.py [--runs 1000000]`.

The file is in a temporary folder of the disk that holds the working directory; every commit is flushed to it
(`synchronous=FULL`). The first table's ratio compares with the plain statement in the same batches, same disk.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.retention import RetentionPolicy, prune_all
from mahavishnu.history.rows import run_row
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.history.statements import migrations, sql
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_ids
from mahavishnu.model.run import Run, RunFilter, run_id
from mahavishnu.model.states import RunState

BATCH = 200
SCHEDULES = 1000
DAY_MS = 86_400_000
RARE = RunState.FAILED


def make_runs(count: int, at_ms: int, *, scheduled: bool = False) -> list[Run]:
    return [
        Run(
            id=run_id(job_id, 1),
            job_id=job_id,
            task=f"task-{n % 20}",
            engine=EngineName.ONEIRIC,
            state=RARE if n % 1000 == 999 else RunState.SUCCEEDED,
            schedule_id=f"schedule-{n % SCHEDULES}" if scheduled else None,
            provider="sqlite",
            queue="default",
            scheduled_for_ms=at_ms + n,
            started_at_ms=at_ms + n,
            finished_at_ms=at_ms + n + 3,
            worker="host.example:12345:abcdef",
            result="null",
        )
        for n, job_id in enumerate(job_ids(at_ms, count))
    ]


def job_ids(at_ms: int, count: int) -> list[str]:
    """Return ids as jobs have them that were enqueued in batches, one a millisecond."""
    parts = [new_ids(at_ms + start // BATCH, min(BATCH, count - start)) for start in range(0, count, BATCH)]
    return [job_id for part in parts for job_id in part]


def show(what: str, value: str) -> None:
    print(f"{what:<62} {value:>20}")


def plain_statements(folder: Path, runs: list[Run]) -> float:
    """Return the rows per second of the ledger's own statement without the ledger, rows made beforehand."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.executescript("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
    connection.executescript(migrations()[0])
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    rows = [run_row(run, 0) for run in runs]
    began = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql("upsert_run"), rows[start : start + BATCH])
        connection.execute("COMMIT")
    taken = time.perf_counter() - began
    connection.close()
    return len(rows) / taken


async def recording(folder: Path, runs: list[Run]) -> tuple[float, float]:
    """Return rows per second of `record_runs`, and microseconds of processor time per row of the whole process."""
    store = SqliteHistory(folder / "ledger.db", clock=SYSTEM_CLOCK)
    await store.open()
    began, worked = time.perf_counter(), time.process_time()
    for start in range(0, len(runs), BATCH):
        await store.record_runs(runs[start : start + BATCH])
    taken, worked = time.perf_counter() - began, time.process_time() - worked
    await store.close()
    return len(runs) / taken, worked / len(runs) * 1e6


async def noting(folder: Path, count: int) -> tuple[float, float]:
    """Return microseconds per run for the caller of `note_runs`, one run a call, and of processor time in all."""
    store = SqliteHistory(folder / "notes.db", clock=SYSTEM_CLOCK)
    await store.open()
    runs = make_runs(count, SYSTEM_CLOCK.now_ms(), scheduled=True)
    worked, calling = time.process_time(), 0.0
    for start in range(0, count, 100):
        part = [[run] for run in runs[start : start + 100]]
        began = time.perf_counter()
        for one in part:
            store.note_runs(one)
        calling += time.perf_counter() - began
        await asyncio.sleep(0)
    await store.flush()
    worked = time.process_time() - worked
    await store.close()
    return calling / count * 1e6, worked / count * 1e6


async def listing(store: SqliteHistory) -> None:
    filters = {
        "newest 100": RunFilter(),
        "100 of one schedule": RunFilter(schedule_id="schedule-7"),
        "100 of one task": RunFilter(task="task-7"),
        "100 failed": RunFilter(state=RARE),
        "none: a schedule without runs (reads the whole index)": RunFilter(schedule_id="none"),
    }
    for name, where in filters.items():
        taken: list[float] = []
        for _ in range(5):
            began = time.perf_counter()
            await store.list_runs(where)
            taken.append(time.perf_counter() - began)
        show(f"list_runs, {name}", f"{sorted(taken)[2] * 1e3:.2f} ms")


async def forgetting(store: SqliteHistory, count: int) -> None:
    async def beat() -> None:
        while True:
            began = time.perf_counter()
            await store.record_runs(make_runs(1, SYSTEM_CLOCK.now_ms()))
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)

    waits: list[float] = []
    writer = asyncio.create_task(beat())
    before = store.path.stat().st_size
    began = time.perf_counter()
    deleted = await prune_all(store, RetentionPolicy(keep=timedelta(days=15)), SYSTEM_CLOCK)
    taken = time.perf_counter() - began
    writer.cancel()
    await asyncio.wait([writer])
    show(f"prune_all, {deleted} of {count} runs, in batches of 500", f"{deleted / taken:,.0f} rows/s")
    waits.sort()
    show(
        "  another writer's record_runs meanwhile, p50 / p99",
        f"{waits[len(waits) // 2] * 1e3:.1f} / {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms",
    )
    await store.close()
    show("  file before / after", f"{before / 1e6:.0f} / {store.path.stat().st_size / 1e6:.0f} MB")


async def measure(folder: Path, count: int) -> None:
    sample = make_runs(100_000, SYSTEM_CLOCK.now_ms())
    plain = plain_statements(folder, sample)
    rate, cost = await recording(folder, sample)
    show("plain statements, batches of 200", f"{plain:,.0f} rows/s")
    show("record_runs, batches of 200, one caller", f"{rate:,.0f} rows/s")
    show("  ratio", f"{rate / plain:.2f}")
    show("  processor time", f"{cost:.2f} µs/run")
    called, worked = await noting(folder, 100_000)
    show("note_runs, one run a call: for the caller", f"{called:.2f} µs/run")
    show("  processor time including the background write", f"{worked:.2f} µs/run")
    store = SqliteHistory(folder / "large.db", clock=SYSTEM_CLOCK)
    await store.open()
    first_ms = SYSTEM_CLOCK.now_ms() - 30 * DAY_MS
    parts = max(1, count // 5000)
    for part in range(parts):
        await store.record_runs(make_runs(5000, first_ms + part * 30 * DAY_MS // parts, scheduled=True))
    await listing(store)
    await forgetting(store, parts * 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many runs the large ledger has")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        asyncio.run(measure(Path(folder), arguments.runs))


if __name__ == "__main__":
    main()
