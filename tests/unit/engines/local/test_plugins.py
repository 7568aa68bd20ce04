"""APScheduler with our trigger, job store and executor: it tells of every due time, once, and of nothing else."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.engines.local.plugins import CalendarTrigger, Timetable, _TimetableStore, stand_in
from mahavishnu.model.instants import to_ms
from mahavishnu.testing.clock import FakeClock
from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVERY_SECOND = IntervalTrigger.every(SECOND, anchor=START)


class Listener:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []
        self.rounds = 0
        self.fails_for = None

    def submit(self, target, due_ms, due):
        """Remember, or fail."""
        if target == self.fails_for:
            raise RuntimeError("no")
        self.told.append((target, (due_ms - to_ms(START)) // 1000, None if due is None else len(due)))

    def after_round(self):
        """Count."""
        self.rounds += 1


@pytest.fixture
def clock():
    """A clock that stands at the beginning of 2026."""
    return FakeClock(START)


@pytest.fixture
def listener():
    """Somebody to be told."""
    return Listener()


@pytest.fixture
async def timetable(clock, listener):
    """A started timetable."""
    made = Timetable(listener.submit, clock=clock, after_round=listener.after_round)
    made.start()
    await asyncio.sleep(0)
    yield made
    made.stop()
    await asyncio.sleep(0)


async def _pass(timetable, clock, seconds):
    clock.advance(timedelta(seconds=seconds))
    timetable.wake()
    for _ in range(3):
        await asyncio.sleep(0)


def test_calendar_trigger_answers_as_apscheduler_asks():
    """A time that is now counts at first; after a fire time the next one counts."""
    trigger = CalendarTrigger(CronTrigger("* * * * *", timezone="UTC"))
    assert trigger.get_next_fire_time(None, START) == START
    assert trigger.get_next_fire_time(START, START + timedelta(hours=1)) == START + timedelta(minutes=1)
    once = CalendarTrigger(DateTrigger(START))
    assert once.get_next_fire_time(START, START) is None


async def test_each_due_time_is_told_once(timetable, clock, listener):
    """Several at one instant in one round; several of one schedule together, with their number."""
    timetable.put("a", "A", EVERY_SECOND, START)
    timetable.put("b", "B", EVERY_SECOND, START)
    timetable.put("c", "C", DateTrigger(START + 2 * SECOND), START + 2 * SECOND)
    await _pass(timetable, clock, 0)
    assert (listener.told, listener.rounds) == ([("A", 0, None), ("B", 0, None)], 1)
    await _pass(timetable, clock, 0)
    await _pass(timetable, clock, 1)
    assert listener.told[2:] == [("A", 1, None), ("B", 1, None)]
    await _pass(timetable, clock, 3)
    assert sorted(listener.told[4:]) == [("A", 2, 3), ("B", 2, 3), ("C", 2, None)]
    await _pass(timetable, clock, 1)
    assert len(listener.told) == 9


async def test_dropped_and_moved_jobs_are_not_told_of_at_their_old_times(timetable, clock, listener):
    """Also where one comes back to the time it was filed under before."""
    timetable.put("a", "A", EVERY_SECOND, START + SECOND)
    timetable.put("a", "A2", EVERY_SECOND, START + 2 * SECOND)
    timetable.put("a", "A3", EVERY_SECOND, START + SECOND)
    timetable.put("b", "B", EVERY_SECOND, START + SECOND)
    timetable.drop("b")
    timetable.drop("b")
    await _pass(timetable, clock, 1)
    await _pass(timetable, clock, 1)
    assert listener.told == [("A3", 1, None), ("A3", 2, None)]


async def test_one_failing_target_is_not_the_others_trouble(timetable, clock, listener, caplog):
    """It is logged, and told of again the next time."""
    listener.fails_for = "A"
    timetable.put("a", "A", EVERY_SECOND, START)
    timetable.put("b", "B", EVERY_SECOND, START)
    await _pass(timetable, clock, 0)
    assert listener.told == [("B", 0, None)]
    assert "schedule_not_fired: a" in caplog.text
    listener.fails_for = None
    await _pass(timetable, clock, 1)
    assert listener.told[1:] == [("A", 1, None), ("B", 1, None)]


async def test_time_comes_by_itself(listener):
    """By APScheduler's timer, on the machine's clock, and not before it is due."""
    told = asyncio.Event()
    late = []

    def submit(_target, due_ms, _due):
        late.append(SYSTEM_CLOCK.now_ms() - due_ms)
        if len(late) == 3:
            told.set()

    timetable = Timetable(submit, clock=SYSTEM_CLOCK, after_round=listener.after_round)
    timetable.start()
    now = SYSTEM_CLOCK.now()
    timetable.put("a", "A", IntervalTrigger.every(timedelta(milliseconds=20), anchor=now), now)
    await asyncio.wait_for(told.wait(), 10)
    timetable.stop()
    await asyncio.sleep(0)
    assert min(late) >= 0


async def test_apscheduler_is_quiet(clock, listener, caplog):
    """Nothing below a warning, whatever level is asked for."""
    caplog.set_level(logging.DEBUG)
    timetable = Timetable(listener.submit, clock=clock, after_round=listener.after_round)
    timetable.start()
    timetable.put("a", "A", EVERY_SECOND, START)
    await _pass(timetable, clock, 2)
    timetable.stop()
    await asyncio.sleep(0)
    assert listener.told
    assert not [record for record in caplog.records if "apscheduler" in record.name]


async def test_store_is_a_job_store_like_any_other(clock):
    """Jobs can be looked up, listed by time, paused, resumed and removed through APScheduler itself."""
    scheduler = AsyncIOScheduler(jobstores={"default": _TimetableStore(clock)}, timezone=UTC)
    scheduler.start(paused=True)
    try:
        for name, seconds in (("late", 9), ("early", 3)):
            trigger = CalendarTrigger(EVERY_SECOND)
            scheduler.add_job(stand_in, trigger, args=(name,), id=name, next_run_time=START + seconds * SECOND)
        assert [job.id for job in scheduler.get_jobs()] == ["early", "late"]
        assert scheduler.get_job("late").next_run_time == START + 9 * SECOND
        with pytest.raises(ConflictingIdError):
            scheduler.add_job(stand_in, CalendarTrigger(EVERY_SECOND), args=(1,), id="late")
        scheduler.pause_job("early")
        assert [(job.id, job.next_run_time is None) for job in scheduler.get_jobs()] == [
            ("late", False),
            ("early", True),
        ]
        scheduler.remove_job("early")
        assert scheduler.get_job("early") is None
        with pytest.raises(JobLookupError):
            scheduler.remove_job("early")
    finally:
        scheduler.shutdown(wait=False)
        await asyncio.sleep(0)
