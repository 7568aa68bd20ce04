"""Schedulers are killed and every occurrence is still enqueued exactly once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mahavishnu.model.instants import to_ms
from mahavishnu.model.states import OccurrenceState
from mahavishnu.queues.envelope import decode_envelope

if TYPE_CHECKING:
    from datetime import datetime

    from mahavishnu import MahavishnuApp

PROGRAM = Path(__file__).with_name("scheduler_program.py")
sys.path.insert(0, str(PROGRAM.parent))
from scheduler_program import SCHEDULES, make_app, schedule_all  # noqa: E402  # a program beside this file

KILLS = 8


class Schedulers:
    """Scheduler processes on one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Start one more; it may still be importing when this returns."""
        self.processes.append(
            subprocess.Popen([sys.executable, str(PROGRAM), str(self._state_dir)], stdout=subprocess.PIPE, text=True)
        )

    def wait_ready(self) -> None:
        """Wait until all of them fire."""
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def kill_oldest(self) -> None:
        """Kill the one that has been running longest."""
        process = self.processes.pop(0)
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()

    def stop(self) -> None:
        """Kill all of them."""
        while self.processes:
            self.kill_oldest()


@pytest.mark.timeout(120)
async def test_each_occurrence_is_enqueued_exactly_once_while_schedulers_are_killed(tmp_path: Path) -> None:
    """Four schedulers, one killed every second: jobs enqueued = occurrences, none twice, none missing."""
    app = make_app(str(tmp_path))
    history = await app.runtime.open_history()
    await schedule_all(app)
    schedulers = Schedulers(tmp_path)
    try:
        for _ in range(4):
            schedulers.start()
        await asyncio.to_thread(schedulers.wait_ready)
        for _ in range(KILLS):
            await asyncio.sleep(1)  # the kills are what is tested: one every second
            schedulers.kill_oldest()
            schedulers.start()
        killing_ended = app.runtime.clock.now()
        await _until_dispatched(app, killing_ended)
    finally:
        schedulers.stop()

    enqueued = await _enqueued_occurrences(app)
    for number in range(SCHEDULES):
        occurrences = await history.list_occurrences(f"note-{number}", limit=1000)
        times = sorted(o.fire_at for o in occurrences if o.fire_at <= killing_ended)
        gaps = {later - earlier for earlier, later in pairwise(times)}
        assert gaps == {timedelta(seconds=1)}, "a fire time is missing from the ledger"
        assert len(times) >= KILLS
        for at in times:
            assert enqueued[f"note-{number}", to_ms(at)] == 1, f"note-{number} at {at} was not enqueued exactly once"
    assert set(enqueued.values()) == {1}
    await app.runtime.close()


async def _enqueued_occurrences(app: MahavishnuApp) -> Counter[tuple[str | None, int | None]]:
    """Take every job out of the queue and count them by schedule and fire time."""
    queue = await app.runtime.open_queue()
    found: Counter[tuple[str | None, int | None]] = Counter()
    while deliveries := await queue.receive("default", limit=200, lease_ms=60_000, wait_ms=0):
        for delivery in deliveries:
            envelope = decode_envelope(delivery.body)
            found[envelope.schedule_id, envelope.fire_ms] += 1
        await queue.ack("default", [delivery.receipt for delivery in deliveries])
    return found


async def _until_dispatched(app: MahavishnuApp, until: datetime) -> None:
    """Wait until nothing claimed by the dead is left and every schedule has passed `until`."""
    history = app.runtime.history
    async with asyncio.timeout(30):
        while True:
            schedules = await history.list_schedules()
            states = {
                occurrence.state
                for schedule in schedules
                for occurrence in await history.list_occurrences(schedule.id, limit=1000)
                if occurrence.fire_at <= until
            }
            passed = all(s.next_fire_at is not None and s.next_fire_at > until for s in schedules)
            if passed and states == {OccurrenceState.DISPATCHED}:
                return
            await asyncio.sleep(0.2)
