"""How long the calendar takes: a year of many schedules, one fire time, and one schedule's memory.

Run with `python -m benchmarks.trigger_calendar`, or `python benchmarks/trigger_calendar.py [SCHEDULES]`.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mahavishnu.triggers import CronTrigger, IntervalTrigger, fire_times

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.triggers import Trigger

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
ZONES = ("UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Sao_Paulo")
TARGET_SECONDS = 10.0
KINDS = ("every few minutes", "hourly", "few times a day", "daily", "weekly", "monthly", "interval")


def mixed(count: int, *, seed: int = 1) -> list[Trigger]:
    """Return schedules as they are met: mostly daily and hourly, some every few minutes, some rare."""
    rng = random.Random(seed)
    weights = (10, 30, 15, 25, 8, 5, 7)
    return [one(rng, kind) for kind in rng.choices(KINDS, weights, k=count)]


def one(rng: random.Random, kind: str) -> Trigger:
    if kind == "interval":
        return IntervalTrigger.every(timedelta(minutes=rng.choice((1, 5, 10, 60))), anchor=START)
    minute, hour = rng.randrange(60), rng.randrange(24)
    text = {
        "every few minutes": f"*/{rng.choice((5, 10, 15, 20, 30))} * * * *",
        "hourly": f"{minute} * * * *",
        "few times a day": f"{minute} {hour % 6}-23/6 * * mon-fri",
        "daily": f"{minute} {hour} * * *",
        "weekly": f"{minute} {hour} * * {rng.randrange(7)}",
        "monthly": f"{minute} {hour} {rng.randrange(1, 29)} * *",
    }[kind]
    return CronTrigger(text, rng.choice(ZONES))


def seconds_of(work: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    count = work()
    return time.perf_counter() - began, count


def in_bulk(triggers: list[Trigger]) -> int:
    total = 0
    for trigger in triggers:
        counted = enumerate(fire_times(trigger, START, START + YEAR), 1)
        last = deque(counted, maxlen=1)
        total += last[0][0] if last else 0
    return total


def one_by_one(triggers: list[Trigger]) -> int:
    total = 0
    for trigger in triggers:
        instant = trigger.next_after(START)
        while instant is not None and instant <= START + YEAR:
            total += 1
            instant = trigger.next_after(instant)
    return total


def bytes_per_schedule(count: int) -> float:
    mixed(count)  # the caches that all schedules share are not counted
    tracemalloc.start()
    kept = mixed(count)
    for trigger in kept:
        trigger.next_after(START)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / len(kept)


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 1000
    triggers = mixed(count)
    print(f"{'what':<44}{'fire times':>12}{'seconds':>10}{'µs each':>10}")
    slowest = 0.0
    for name, work in (
        ("year in bulk, zones cold", in_bulk),
        ("year in bulk", in_bulk),
        ("year, next_after", one_by_one),
    ):
        seconds, total = seconds_of(lambda work=work: work(triggers))
        slowest = max(slowest, seconds) if work is in_bulk else slowest
        print(f"{f'{count} schedules, {name}':<44}{total:>12,}{seconds:>10.2f}{seconds / total * 1e6:>10.2f}")
    print(f"memory per schedule: {bytes_per_schedule(count):.0f} bytes")
    print(f"target: a year in under {TARGET_SECONDS:.0f} s: {'met' if slowest < TARGET_SECONDS else 'MISSED'}")
    return 0 if slowest < TARGET_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
