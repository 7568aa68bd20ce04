"""Each fire time ends as a run or as skipped with a reason, whatever the loop and the clock do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.model.schedule import ScheduleState
from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def _fire_seconds(runs):
    return [(run.scheduled_for - START) // SECOND for run in runs]


async def _quick():
    return None


class Slow:
    """A job that goes on until it is told to end."""

    def __init__(self):
        self.started = 0
        self.gates = []

    async def __call__(self):
        """Wait."""
        self.started += 1
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()

    def end(self):
        """Let the oldest end."""
        self.gates.pop(0).set()


async def test_each_fire_time_becomes_one_run(bench):
    """In the ledger with its schedule, its fire time and its worker."""
    await bench.apply(_quick)
    async with bench.running():
        await bench.tick(3)
        runs = await bench.runs()
    assert _fire_seconds(runs) == [0, 1, 2, 3]
    assert {(run.state.value, run.schedule_id, run.worker, run.attempt) for run in runs} == {
        ("succeeded", "tick", "host:1:a", 1)
    }
    assert len({run.id for run in runs}) == 4
    assert await bench.skipped() == []


async def test_schedule_applied_while_running_fires_from_then_on(bench):
    """The interval is counted from its anchor, not from when it was applied."""
    anchor = START + timedelta(milliseconds=250)
    async with bench.running():
        await bench.tick(2)
        await bench.apply(_quick, trigger=IntervalTrigger.every(SECOND, anchor=anchor))
        await bench.tick(2)
        runs = await bench.runs()
    assert [run.scheduled_for for run in runs] == [anchor + 2 * SECOND, anchor + 3 * SECOND]


async def test_withdrawn_schedule_fires_no_more(bench):
    """Also one that the engine never had, and one that is withdrawn before the start."""
    never = bench.schedule(id="never")
    await bench.engine.withdraw(never)
    early = await bench.apply(_quick, id="early")
    await bench.engine.withdraw(early)
    schedule = await bench.apply(_quick)
    async with bench.running():
        await bench.tick()
        await bench.engine.withdraw(schedule)
        await bench.engine.withdraw(schedule)
        await bench.tick(3)
        assert _fire_seconds(await bench.runs()) == [0, 1]
    assert bench.engine.schedule_ids == []


async def test_paused_schedule_goes_on_at_its_next_time(bench):
    """What passed meanwhile is neither run nor recorded; also where it is paused before the start."""
    await bench.apply(_quick, state=ScheduleState.PAUSED)
    bench.clock.advance(0.5 * SECOND)
    async with bench.running():
        await bench.tick(2)
        await bench.engine.apply(bench.schedule())
        await bench.tick()
        await bench.engine.apply(bench.schedule(state=ScheduleState.PAUSED))
        await bench.tick(3)
        await bench.engine.apply(bench.schedule())
        await bench.tick()
        assert _fire_seconds(await bench.runs()) == [3, 7]
    assert await bench.skipped() == []


async def test_replacing_keeps_place_and_unfinished_occurrences(bench):
    """The new function runs at the old times, and still waits for the old one's run to end."""
    slow, ran = Slow(), []

    async def newer():
        ran.append(1)

    await bench.apply(slow)
    async with bench.running():
        await bench.settle()
        await bench.apply(newer)
        await bench.tick()
        assert (slow.started, ran) == (1, [])
        slow.end()
        await bench.tick()
        assert (slow.started, ran) == (1, [1])
    assert await bench.skipped() == [(1, 1, "overlap: the occurrence before it is unfinished")]


async def test_replacing_with_another_trigger_fires_by_that_one(bench):
    """From now on, at none of the old times."""
    await bench.apply(_quick)
    async with bench.running():
        await bench.tick(2)
        await bench.apply(_quick, trigger=IntervalTrigger.every(5 * SECOND, anchor=START))
        await bench.tick(9)
        assert _fire_seconds(await bench.runs()) == [0, 1, 2, 5, 10]


async def test_one_shot_fires_once_and_is_gone(bench):
    """A date has no second time."""
    await bench.apply(_quick, trigger=DateTrigger(START + SECOND))
    async with bench.running():
        await bench.tick(4)
        assert _fire_seconds(await bench.runs()) == [1]


async def test_one_shot_that_passed_before_the_start_is_late_and_not_lost(bench):
    """It was accepted, so it runs, or says why not."""
    await bench.apply(_quick, trigger=DateTrigger(START + SECOND))
    bench.clock.advance(timedelta(minutes=5))
    async with bench.running():
        await bench.settle()
        assert _fire_seconds(await bench.runs()) == [1]


async def test_cron_fires_by_our_calendar(bench):
    """Minutes, by the wall clock of its zone."""
    await bench.apply(_quick, trigger=CronTrigger("*/2 * * * *", timezone="UTC"))
    async with bench.running():
        for _ in range(6):
            await bench.pass_time(60)
        assert _fire_seconds(await bench.runs()) == [0, 120, 240, 360]


# --- overlap ---


async def test_overlap_skip_leaves_out_what_finds_one_unfinished(bench):
    """Each with its reason, once."""
    slow = Slow()
    await bench.apply(slow)
    async with bench.running():
        await bench.tick(3)
        slow.end()
        await bench.tick()
        assert slow.started == 2
        slow.end()
    reason = "overlap: the occurrence before it is unfinished"
    assert await bench.skipped() == [(1, 1, reason), (2, 1, reason), (3, 1, reason)]
    assert [(skip.schedule_id, skip.task, skip.count) for skip in bench.skips] == [("tick", "job", 1)] * 3


async def test_overlap_queue_one_keeps_one_waiting(bench):
    """It starts when the one before ends; its fire time is its own."""
    slow = Slow()
    await bench.apply(slow, overlap="queue_one")
    async with bench.running():
        await bench.tick(3)
        assert slow.started == 1
        slow.end()
        await bench.until(lambda: slow.started == 2)
        slow.end()
        await bench.settle()
        assert _fire_seconds(await bench.runs()) == [0, 1]
    assert [count for _, count, _ in await bench.skipped()] == [1, 1]


@pytest.mark.parametrize(("most", "started"), [(None, 4), (2, 2)])
async def test_overlap_allow_runs_side_by_side(bench, most, started):
    """Without limit, or up to the limit; the rest is left out with the number in the reason."""
    slow = Slow()
    await bench.apply(slow, overlap="allow", max_running=most)
    async with bench.running(grace=0):
        await bench.tick(3)
        assert slow.started == started
        slow.end()
        await bench.tick()
        assert slow.started == started + 1
    skipped = await bench.skipped()
    assert len(skipped) == 4 - started
    assert all("2 occurrences are unfinished" in reason for _, _, reason in skipped)


async def test_held_one_is_recorded_when_its_schedule_goes(bench):
    """Paused, removed, or the process stops: it will not run, and the ledger says why."""
    for leave, words in (
        (lambda: bench.engine.apply(bench.schedule(state=ScheduleState.PAUSED, overlap="queue_one")), "paused"),
        (lambda: bench.engine.withdraw(bench.schedule()), "removed"),
        (lambda: bench.engine.stop(timedelta(0)), "process stopped"),
    ):
        slow = Slow()
        await bench.engine.start()
        await bench.apply(slow, overlap="queue_one")
        await bench.tick(3)
        await leave()
        assert [words in reason for _, _, reason in await bench.skipped()].count(True) == 1
        for gate in slow.gates:
            gate.set()
        await bench.settle()
        assert slow.started == 1
        await bench.engine.withdraw(bench.schedule())


# --- lateness ---


@pytest.mark.parametrize(
    ("misfire", "ran", "skipped"),
    [
        ("latest", [0, 10], [(1, 9)]),
        ("skip", [0], [(1, 10)]),
        ("all", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], []),
        ("cap=3", [0, 8, 9, 10], [(1, 7)]),
    ],
)
async def test_misfire_policy_decides_what_of_a_backlog_runs(bench, misfire, ran, skipped):
    """Ten seconds in one leap, half a second after the last: what runs runs in turn, the rest has a reason."""
    await bench.apply(_quick, misfire=misfire, grace=0.2)
    async with bench.running():
        await bench.settle()
        await bench.pass_time(10.5)
        await bench.settle()
        assert _fire_seconds(await bench.runs()) == ran
    assert [(first, count) for first, count, _ in await bench.skipped()] == skipped
    assert all(reason for _, _, reason in await bench.skipped())


async def test_fire_times_within_the_grace_are_on_time(bench):
    """Where several are, the first runs and the others find it unfinished, as one entry."""
    await bench.apply(_quick, grace=60)
    async with bench.running():
        await bench.settle()
        await bench.pass_time(5)
        assert _fire_seconds(await bench.runs()) == [0, 1]
    assert await bench.skipped() == [(2, 4, "overlap: the occurrence before it is unfinished")]


async def test_lone_late_one_is_judged_by_the_policy(bench):
    """With `skip` it is left out; with `latest` it runs."""
    hourly = IntervalTrigger.every(timedelta(hours=1), anchor=START + timedelta(hours=1))
    await bench.apply(_quick, trigger=hourly, misfire="skip", grace=1)
    await bench.apply(_quick, trigger=hourly, misfire="latest", grace=1, id="other")
    async with bench.running():
        await bench.pass_time(3605)
        assert [run.schedule_id for run in await bench.runs()] == ["other"]
    (first, count, reason), *rest = await bench.skipped()
    assert (first, count, rest) == (3600, 1, [])
    assert "missed by 5s, more than the grace of 1 s" in reason


async def test_ten_days_of_seconds_are_decided_in_no_time(bench):
    """A machine that slept: one run, and the 864,000 others are one entry, computed without listing them."""
    await bench.apply(_quick, grace=0.5)
    async with bench.running():
        await bench.settle()
        began = time.perf_counter()
        await bench.pass_time(864_000)
        assert time.perf_counter() - began < 0.2
        assert _fire_seconds(await bench.runs()) == [0, 864_000]
    (first, count, reason) = (await bench.skipped())[0]
    assert (first, count) == (1, 863_999)
    assert "coalesced" in reason


async def test_jitter_delays_within_its_bounds(bench):
    """The fire time stays what it was; the occurrence counts as unfinished while it waits."""
    await bench.apply(_quick, jitter=timedelta(milliseconds=30))
    async with bench.running():
        await bench.tick()
        await bench.until(lambda: len(bench.finished) == 1)
        assert _fire_seconds(await bench.runs()) == [0]
    assert [first for first, _, _ in await bench.skipped()] == [1]


async def test_jitter_draws_from_zero_to_its_limit(bench, monkeypatch):
    """Uniformly, asked for once per occurrence."""
    drawn = []
    monkeypatch.setattr(
        "mahavishnu.engines.local.occurrences.uniform", lambda low, high: drawn.append((low, high)) or 0.0
    )
    await bench.apply(_quick, jitter=timedelta(milliseconds=1500))
    async with bench.running():
        await bench.settle()
        await bench.until(lambda: len(bench.finished) == 1)
    assert drawn == [(0, 1.5)]


# --- clocks ---


async def test_clock_put_back_silences_no_interval(bench):
    """An hour back: the next second fires, not the one an hour later."""
    await bench.apply(_quick, trigger=IntervalTrigger.every(SECOND, anchor=START - timedelta(days=1)))
    async with bench.running():
        await bench.tick(2)
        bench.clock.set_wall_clock(bench.clock.now() - timedelta(hours=1) + SECOND / 2)
        bench.engine.clock_was_set(-timedelta(hours=1) + SECOND / 2)
        await bench.tick(2)
        assert _fire_seconds(sorted(await bench.runs(), key=lambda run: run.job_id)) == [-3597, -3596, 0, 1, 2]
    assert await bench.skipped() == []


@pytest.mark.parametrize(("back", "again"), [(timedelta(minutes=2), False), (timedelta(hours=4), True)])
async def test_clock_put_back_repeats_no_cron_time(bench, back, again):
    """Unless by three hours or more, which is a new time altogether."""
    await bench.apply(_quick, trigger=CronTrigger("* * * * *", timezone="UTC"))
    async with bench.running():
        for _ in range(5):
            await bench.pass_time(60)
        before = len(await bench.runs())
        bench.clock.set_wall_clock(bench.clock.now() - back)
        bench.engine.clock_was_set(-back)
        await bench.pass_time(60)
        assert (len(await bench.runs()) > before) is again


async def test_engine_starts_again_after_a_stop(bench):
    """Schedules stay; what passed while it was stopped is not made up."""
    await bench.apply(_quick)
    await bench.engine.stop(SECOND)
    for _ in range(2):
        async with bench.running():
            await bench.engine.start()
            await bench.tick()
        bench.clock.advance(timedelta(seconds=10.5))
    await bench.settle()
    assert _fire_seconds(await bench.runs()) == [0, 1, 12]  # 11.5 is where it starts again
    assert await bench.skipped() == []
