"""What in-process scheduling costs beside bare APScheduler: CPU per run, lateness, memory, time to schedule.

Run with `python -m benchmarks.in_process [--rounds 3]`; it takes under three minutes. Both sides run the same async
function at whole seconds, each in a process of its own, in turns; the figures are medians. Our side writes every run
to its SQLite ledger. The first table has the in-process engine alone, which is what bare APScheduler is; what the
whole of `lifecycle()` takes beside it, with its durable engine looking for work, is the line below.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from mahavishnu import MahavishnuApp
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.settings import Settings

SECONDS_OF_COUNTS = {1: 9, 1_000: 3, 10_000: 3}
IN_MEMORY, ONE_BY_ONE, TOGETHER = 2_000, 1_000, 10_000
ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
CPU_TARGET, MEMORY_TARGET = 1.3, 4096
LATE_TOLERANCE_MS = 2.0
WARM_UP_SECONDS = 2
BETWEEN_TICKS = 0.93
Figures = dict[str, Any]

starts: list[float] = []


async def job() -> None:
    """Be due, run, and leave the time behind."""
    starts.append(time.time())


class Window:
    """Measures whole seconds, from shortly before a tick to shortly before another."""

    async def begin(self) -> None:
        """Wait until the side has warmed up."""
        await _sleep_until(int(time.time()) + WARM_UP_SECONDS + BETWEEN_TICKS)

    async def measure(self, seconds: int) -> tuple[float, float]:
        """Return where the window begins, and the processor time of `seconds` seconds."""
        began, cpu = time.time(), time.process_time()
        await _sleep_until(int(began) + seconds + BETWEEN_TICKS)
        return began, time.process_time() - cpu


async def _sleep_until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - time.time()))


# --- the two sides ---


async def bare(count: int, seconds: int) -> Figures:
    scheduler = AsyncIOScheduler(
        jobstores={"default": MemoryJobStore()},
        executors={"default": AsyncIOExecutor()},
        job_defaults={"misfire_grace_time": None},
        timezone=UTC,
    )
    for number in range(count):
        scheduler.add_job(job, IntervalTrigger(seconds=1, start_date=ORIGIN), id=f"tick-{number}")
    scheduler.start()
    window = Window()
    await window.begin()
    began, cpu = await window.measure(seconds)
    scheduler.shutdown(wait=False)
    return _figures(began, seconds, cpu, count)


async def ours(count: int, seconds: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        app = MahavishnuApp(Settings(state_dir=Path(folder)))
        schedule = app.scheduler.schedule_internal_task
        await asyncio.gather(*(schedule(job, seconds=1, start=ORIGIN, id=f"tick-{n}") for n in range(count)))
        await app.runtime.local.start()
        figures = await _measured_with_ledger(app, count, seconds)
        await app.runtime.local.stop(timedelta(seconds=5))
        await app.runtime.close()
        return figures


async def ours_whole(count: int, seconds: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        app = MahavishnuApp(Settings(state_dir=Path(folder)))
        async with app.scheduler.lifecycle():
            for number in range(count):
                await app.scheduler.schedule_internal_task(job, seconds=1, start=ORIGIN, id=f"tick-{number}")
            return await _measured_with_ledger(app, count, seconds)


async def _measured_with_ledger(app: MahavishnuApp, count: int, seconds: int) -> Figures:
    """Measure while the ledger is written as it always is: in steady state, as many runs as the window has."""
    window = Window()
    await window.begin()
    began, cpu = await window.measure(seconds)
    await app.runtime.history.flush()
    figures = _figures(began, seconds, cpu, count)
    figures["recorded"] = await _recorded(app, began, seconds, count)
    return figures


async def _recorded(app: MahavishnuApp, began: float, seconds: int, count: int) -> int:
    """Count the successful runs of each second in the ledger; each is to be there exactly `count` times."""
    since = datetime.fromtimestamp(began, UTC)
    runs = await app.runtime.history.list_runs(
        RunFilter(engine=EngineName.APSCHEDULER, state=RunState.SUCCEEDED, since=since, limit=count * (seconds + 5))
    )
    per_tick = Counter(run.scheduled_for_ms for run in runs)
    first = (int(began) + 1) * 1000
    return sum(min(per_tick[first + 1000 * n], count) for n in range(seconds))


def _figures(began: float, seconds: int, cpu: float, count: int) -> Figures:
    within = [at for at in starts if began <= at < began + seconds]
    late = sorted(at % 1.0 for at in within)
    return {
        "cpu_us": cpu * 1e6 / max(1, len(within)),
        "runs": len(within),
        "expected": seconds * count,
        "late_p50_ms": late[len(late) // 2] * 1000,
        "late_p99_ms": late[min(len(late) - 1, len(late) * 99 // 100)] * 1000,
    }


# --- memory and scheduling ---


async def bare_memory(count: int, _: int) -> Figures:
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None})
    scheduler.start(paused=True)
    tracemalloc.start()
    for number in range(count):
        scheduler.add_job(job, IntervalTrigger(seconds=3600, start_date=ORIGIN), id=f"tick-{number}")
    held = tracemalloc.get_traced_memory()[0]
    scheduler.shutdown(wait=False)
    return {"bytes": held / count}


async def ours_memory(count: int, _: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        app = MahavishnuApp(Settings(state_dir=Path(folder)))
        async with app.scheduler.lifecycle():
            tracemalloc.start()
            await _schedule(app, count)
            held = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    return {"bytes": held / count}


async def ours_schedule(count: int, _: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        app = MahavishnuApp(Settings(state_dir=Path(folder)))
        async with app.scheduler.lifecycle():
            began = time.perf_counter()
            await asyncio.gather(*(_put(app, f"together-{number}") for number in range(count)))
            together = time.perf_counter() - began
            began = time.perf_counter()
            await _schedule(app, ONE_BY_ONE)
            one_by_one = time.perf_counter() - began
    return {"one_by_one": one_by_one, "together": together}


async def _schedule(app: MahavishnuApp, count: int) -> None:
    for number in range(count):
        await _put(app, f"tick-{number}")


async def _put(app: MahavishnuApp, schedule_id: str) -> None:
    await app.scheduler.schedule_internal_task(job, hours=1, start=ORIGIN + timedelta(minutes=7), id=schedule_id)


SIDES = {
    "bare": bare,
    "ours": ours,
    "bare-memory": bare_memory,
    "ours-whole": ours_whole,
    "ours-memory": ours_memory,
    "ours-schedule": ours_schedule,
}


# --- the table ---


def _measured(side: str, count: int, seconds: int = 0) -> Figures:
    command = [sys.executable, __file__, "--side", side, "--count", str(count), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def _compared(count: int, seconds: int, rounds: int) -> bool:
    both: dict[str, list[Figures]] = {"bare": [], "ours": []}
    for _ in range(rounds):
        for side, measured in both.items():
            measured.append(_measured(side, count, seconds))
    cpu = {side: median(figures["cpu_us"] for figures in measured) for side, measured in both.items()}
    late = {side: median(figures["late_p99_ms"] for figures in measured) for side, measured in both.items()}
    lost = sum(figures["expected"] - figures["recorded"] for figures in both["ours"])
    ratio = cpu["ours"] / cpu["bare"]
    print(
        f"{count:>7,} {cpu['bare']:>10.1f} {cpu['ours']:>10.1f} {ratio:>7.2f}"
        f" {late['bare']:>11.1f} {late['ours']:>11.1f} {lost:>6}",
        flush=True,
    )
    return ratio <= CPU_TARGET and lost == 0 and late["ours"] <= late["bare"] + LATE_TOLERANCE_MS


def main() -> int:
    """Print the table; returns 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured, 3 by default")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(asyncio.run(SIDES[given.side](given.count, given.seconds))))
        return 0
    print("one-second jobs: processor time per run, and how late runs start")
    print(
        f"{'jobs':>7} {'bare µs':>10} {'ours µs':>10} {'ratio':>7} {'bare p99 ms':>11} {'ours p99 ms':>11} {'lost':>6}"
    )
    good = [_compared(count, seconds, given.rounds) for count, seconds in SECONDS_OF_COUNTS.items()]
    whole = _measured("ours-whole", 1, SECONDS_OF_COUNTS[1])["cpu_us"]
    print(f"everything that lifecycle() starts, with one such job: {whole:,.0f} µs per second")
    memory = {side: _measured(f"{side}-memory", IN_MEMORY)["bytes"] for side in ("bare", "ours")}
    above = memory["ours"] - memory["bare"]
    print(f"memory per schedule: {memory['bare']:,.0f} bytes bare, {memory['ours']:,.0f} ours, {above:,.0f} above")
    took = _measured("ours-schedule", TOGETHER)
    print(
        f"scheduling, each task safe on disk: {TOGETHER:,} together in {took['together']:.1f} s,"
        f" {ONE_BY_ONE:,} one by one in {took['one_by_one']:.1f} s"
    )
    return 0 if all(good) and above < MEMORY_TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
