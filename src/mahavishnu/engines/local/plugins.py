"""APScheduler's plug-in points, filled by ours: trigger, job store and executor.

APScheduler charges a fixed price for every job it is handed: a lookup, a list of times, an event, several log
calls; its memory store keeps a sorted list, and its asyncio executor makes a task per run. At ten thousand jobs a
second that is most of the cost. So our store files jobs by fire time and hands over all that are due at once, as
one job that stands for them, and our executor passes them on one by one. Its own triggers are not used at all,
for there is one calendar on every engine.
"""

# APScheduler 3 has no annotations; its types are pinned down where its values leave this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.triggers import IntervalTrigger, Trigger, due_times

if TYPE_CHECKING:
    from mahavishnu.clock import Clock

__all__ = ["CalendarTrigger", "Submit", "Timetable"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)

_logger = logging.getLogger("mahavishnu.engines.local")
_apscheduler_logger = logging.getLogger("mahavishnu.engines.local.apscheduler")
_apscheduler_logger.setLevel(logging.WARNING)  # it says of every job that it was added, and of every round that it came

Submit = Callable[[Any, int, Sequence[datetime] | None], None]
"""Called with what is due, its first due time (Unix milliseconds), and all due times where there are several."""


def stand_in(target: object) -> None:
    """Stand in for a job's function: APScheduler wants one, and our executor never calls it."""
    del target


class CalendarTrigger(BaseTrigger):
    """One of our triggers in APScheduler's form: after the previous fire time, else at or after now."""

    __slots__ = ("trigger",)

    def __init__(self, trigger: Trigger) -> None:
        self.trigger: Trigger = trigger

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next fire time."""
        return self.trigger.next_after(now - _TICK if previous_fire_time is None else previous_fire_time)

    def next_after_us(self, instant_us: int) -> int | None:
        """Return the next fire time after an instant, both as Unix microseconds."""
        trigger = self.trigger
        if isinstance(trigger, IntervalTrigger):
            return trigger.next_after_us(instant_us)
        found = trigger.next_after(_from_us(instant_us))
        return None if found is None else _to_us(found)


class _TimedJob(Job):
    """A job that keeps its next fire time as a number, and the time under which it is filed."""

    __slots__ = ("due_us", "filed_us")

    due_us: int | None
    filed_us: int | None

    @classmethod
    def of(cls, job: Job) -> _TimedJob:
        """Return a copy of a job that the scheduler made."""
        timed = cls.__new__(cls)
        for name in Job.__slots__:
            if name != "__weakref__":
                setattr(timed, name, getattr(job, name))
        timed.filed_us = None
        return timed

    @property
    def next_run_time(self) -> datetime | None:
        """When it fires next; `None`: it is paused."""
        return None if self.due_us is None else _from_us(self.due_us)

    @next_run_time.setter
    def next_run_time(self, instant: datetime | None) -> None:
        self.due_us = None if instant is None else _to_us(instant)


class _EverythingDue(Job):
    """The one job that stands for all that are due; as a job it is due now, and has always more to come."""

    __slots__ = ("jobs", "now_us")

    def __init__(self) -> None:  # not the parent's: there is nothing to check
        self.id = "everything-due"
        self.executor = "default"
        self.coalesce = False
        self.trigger = self
        self.jobs: list[tuple[_TimedJob, int]] = []
        self.now_us = 0

    def _get_run_times(self, now: datetime) -> list[datetime]:
        return [now]

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        return now

    def _modify(self, **changes: Any) -> None:
        del changes


class _TimetableStore(BaseJobStore):
    """Jobs in memory, filed by fire time: those that are due together cost one step of the heap."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._jobs: dict[str, _TimedJob] = {}
        self._times: list[int] = []
        self._at: dict[int, dict[str, _TimedJob]] = {}
        self._due = _EverythingDue()

    def lookup_job(self, job_id: str) -> _TimedJob | None:
        return self._jobs.get(job_id)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Return what is due by our clock, which is also the only one that a test can move."""
        del now
        due, times = self._due, self._times
        due.jobs, due.now_us = [], _to_us(self._clock.now())
        while times and times[0] <= due.now_us:
            time_us = heapq.heappop(times)
            for job in self._at.pop(time_us).values():
                job.filed_us = None
                due.jobs.append((job, time_us))
        return [due] if due.jobs else []

    def get_next_run_time(self) -> datetime | None:
        """Return the next fire time as the system clock will show it."""
        while self._times and not self._at[self._times[0]]:  # all that was filed here moved or went
            del self._at[heapq.heappop(self._times)]
        if not self._times:
            return None
        return SYSTEM_CLOCK.now() + (_from_us(self._times[0]) - self._clock.now())

    def get_all_jobs(self) -> list[_TimedJob]:
        return sorted(self._jobs.values(), key=lambda job: (job.due_us is None, job.due_us))

    def add_job(self, job: Job) -> None:
        if job.id in self._jobs:
            raise ConflictingIdError(job.id)
        timed = self._jobs[job.id] = _TimedJob.of(job)
        self.file(timed, timed.due_us)

    def update_job(self, job: Job) -> None:
        if job is self._due:
            return
        if job.id not in self._jobs:
            raise JobLookupError(job.id)
        assert isinstance(job, _TimedJob), "the scheduler changes jobs that it got from here"
        self.file(job, job.due_us)

    def file(self, job: _TimedJob, due_us: int | None) -> None:
        """Have a job fire at that time, or not at all."""
        if job.filed_us is not None:
            del self._at[job.filed_us][job.id]
        job.due_us = job.filed_us = due_us
        if due_us is None:
            return
        filed = self._at.get(due_us)
        if filed is None:
            self._at[due_us] = {job.id: job}
            heapq.heappush(self._times, due_us)
        else:
            filed[job.id] = job

    def remove_job(self, job_id: str) -> None:
        job = self._jobs.pop(job_id, None)
        if job is None:
            raise JobLookupError(job_id)
        self.file(job, None)

    def remove_all_jobs(self) -> None:
        self._times.clear()
        self._at.clear()
        self._jobs.clear()

    def shutdown(self) -> None:
        self.remove_all_jobs()


class _HandOver(BaseExecutor):
    """Hands due jobs to the engine, which decides on misfires and overlap; their next time is set before that."""

    def __init__(self, store: _TimetableStore, submit: Submit, after_round: Callable[[], None]) -> None:
        super().__init__()
        self._store = store
        self._submit = submit
        self._after_round = after_round

    def submit_job(self, job: _EverythingDue, run_times: list[datetime]) -> None:
        del run_times
        now_us, file = job.now_us, self._store.file
        for timed, due_us in job.jobs:
            try:
                following = timed.trigger.next_after_us(due_us)
                if following is not None and following <= now_us:
                    self._several(timed, due_us, now_us)
                    continue
                if following is None:
                    self._store.remove_job(timed.id)
                else:
                    file(timed, following)
                self._submit(timed.args[0], due_us // 1000, None)
            except Exception:  # one schedule's trouble is not another's
                _logger.exception("schedule_not_fired: %s", timed.id)
        job.jobs = []
        self._after_round()

    def _several(self, timed: _TimedJob, due_us: int, now_us: int) -> None:
        trigger = timed.trigger.trigger
        due = due_times(trigger, _from_us(due_us) - _TICK, _from_us(now_us))
        following = timed.trigger.next_after_us(_to_us(due[-1]))
        if following is None:
            self._store.remove_job(timed.id)
        else:
            self._store.file(timed, following)
        self._submit(timed.args[0], due_us // 1000, due)

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        raise NotImplementedError("submit_job does it all")


class _LoopScheduler(AsyncIOScheduler):
    """Goes from its timer straight to work, where the parent goes by way of the loop's thread-safe door."""

    def _start_timer(self, wait_seconds: float | None) -> None:
        self._stop_timer()
        if wait_seconds is not None:
            self._timeout = asyncio.get_running_loop().call_later(wait_seconds, self._work)

    def _work(self) -> None:
        self._start_timer(self._process_jobs())


class Timetable:
    """An APScheduler that tells of due times and leaves nothing out: no grace, no coalescing, no limit.

    Args:
        submit: Told of what is due; must not wait, and is not to add or remove anything here.
        clock: Source of time.
        after_round: Called when all that was due has been told of.
    """

    def __init__(self, submit: Submit, *, clock: Clock, after_round: Callable[[], None]) -> None:
        store = _TimetableStore(clock)
        self._scheduler = _LoopScheduler(
            jobstores={"default": store},
            executors={"default": _HandOver(store, submit, after_round)},
            timezone=UTC,
            logger=_apscheduler_logger,
        )

    def start(self) -> None:
        """Begin to tell, in this event loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Tell of nothing more. APScheduler lets go of its timer in the loop's next turn."""
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=False)

    def put(self, schedule_id: str, target: object, trigger: Trigger, first: datetime) -> None:
        """Tell of `target` at `first` and at the trigger's times after it, in place of what the id stood for."""
        self.drop(schedule_id)
        self._scheduler.add_job(
            stand_in, CalendarTrigger(trigger), args=(target,), id=schedule_id, name=schedule_id, next_run_time=first
        )

    def drop(self, schedule_id: str) -> None:
        """Tell no more of this id. Idempotent."""
        if self._scheduler.get_job(schedule_id) is not None:
            self._scheduler.remove_job(schedule_id)

    def wake(self) -> None:
        """Look at the clock again: it was set, or the machine slept."""
        self._scheduler.wakeup()


def _to_us(instant: datetime) -> int:
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _from_us(instant_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant_us)
