"""The ledger against the real thing: processes that are killed, and processes that race."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.run import RunFilter
from mahavishnu.model.schedule import OnConflict
from mahavishnu.testing.history_samples import a_run, a_schedule

CHILDREN = Path(__file__).with_name("ledger_children.py")
PROCESSES = 4
SCHEDULES = 25
TIMES = 40
PAST = datetime(2020, 1, 1, tzinfo=UTC)


def _start(*words):
    command = [sys.executable, str(CHILDREN), *map(str, words)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def _killed_after(child, lines):
    """Kill the child once it has said so many lines; returns every whole line it said."""
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    rest = child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    return [line.strip() for line in said + rest if line.endswith("\n")]


async def test_acknowledged_runs_survive_a_killed_process(tmp_path):
    """Twice: every run acknowledged before SIGKILL is there, and the file opens and takes more."""
    path = tmp_path / "ledger.db"
    acknowledged = set()
    for lines in (500, 3000):
        acknowledged |= set(_killed_after(_start("record", path), lines))
        store = SqliteHistory(path, clock=SYSTEM_CLOCK)
        await store.open()
        found = {run.id for run in await store.list_runs(RunFilter(limit=1_000_000))}
        assert not acknowledged - found
        await store.record_runs([a_run(f"after{lines}")])
        await store.close()
    assert len(acknowledged) >= 3400


async def test_each_occurrence_is_won_once_by_racing_processes(tmp_path):
    """Four processes step the same schedules: every fire time is won by exactly one of them."""
    path = tmp_path / "ledger.db"
    store = SqliteHistory(path, clock=SYSTEM_CLOCK)
    await store.open()
    for n in range(SCHEDULES):
        schedule = a_schedule(f"s{n}", next_fire_at=PAST, context={"last_second": TIMES - 1})
        await store.put_schedule(schedule, on_conflict=OnConflict.ERROR)
    racers = [_start("advance", path, f"racer{n}") for n in range(PROCESSES)]
    for racer in racers:  # all are open and waiting
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=40)[0].splitlines() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES
    won = Counter(line for lines in said for line in lines)
    times = [(PAST + timedelta(seconds=n)).isoformat() for n in range(TIMES)]
    assert won == Counter(f"s{n} {time}" for n in range(SCHEDULES) for time in times)
    for n in range(SCHEDULES):
        assert len(await store.list_occurrences(f"s{n}")) == TIMES
    await store.close()
    assert sum(bool(lines) for lines in said) > 1, "one process won everything: there was no race"
