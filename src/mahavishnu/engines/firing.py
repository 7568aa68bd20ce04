"""Fire recurring durable jobs: each occurrence becomes one job, however many schedulers run.

The ledger decides who fires what. A scheduler that finds a schedule due steps it past its due times in one
compare-and-set (`HistoryStore.advance`): whoever wins holds the claim and enqueues. Should it die in between,
the claim's lease runs out and another scheduler enqueues instead, with the same job id and idempotency key, so
that a queue which had taken the first copy recognises the second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mahavishnu.engines.overlap import Decision, decide
from mahavishnu.errors import MahavishnuError, ScheduleNotFoundError
from mahavishnu.history.store import Advance, HistoryStore, Skip
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import derived_id
from mahavishnu.model.instants import to_ms
from mahavishnu.model.schedule import Occurrence, Schedule
from mahavishnu.observability.events import Events, OccurrenceSkipped
from mahavishnu.observability.logs import get_logger
from mahavishnu.triggers import build, due_times, plan_due

if TYPE_CHECKING:
    from mahavishnu.clock import Clock

__all__ = ["Dispatch", "Firing", "occurrence_job_id"]

Dispatch = Callable[[Schedule, Sequence[Occurrence]], Awaitable[None]]
"""Turns claimed occurrences of one schedule into jobs; raises where the queue cannot take them now."""

CLAIM_LEASE = timedelta(seconds=5)
POLL = timedelta(seconds=1)
BATCH = 500

_log = get_logger(__name__)


def occurrence_job_id(schedule_id: str, fire_at: datetime) -> str:
    """Return the id of the one job that this fire time of this schedule becomes."""
    return derived_id("occurrence", schedule_id, str(to_ms(fire_at)))


class Firing:
    """The loop of one scheduler process over the schedules of the durable engine.

    Args:
        history: The ledger that all scheduler processes share.
        dispatch: Enqueues claimed occurrences.
        events: Told of skipped occurrences.
        clock: Source of time.
        owner: This process's id.
    """

    def __init__(self, *, history: HistoryStore, dispatch: Dispatch, events: Events, clock: Clock, owner: str) -> None:
        self._history = history
        self._dispatch = dispatch
        self._events = events
        self._clock = clock
        self._owner = owner
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._steering = -1
        self._next_due: datetime | None = None

    async def start(self) -> None:
        """Begin to fire. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._fire_until_stopped(), name="mahavishnu-firing")

    async def stop(self) -> None:
        """Fire no more; what was claimed and not dispatched is taken over by whoever runs next. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """Look again now: a schedule was added or changed in this process."""
        self._woken.set()

    async def _fire_until_stopped(self) -> None:
        while True:
            pause = POLL.total_seconds()
            self._woken.clear()  # before the look: what changes during it is looked at next
            try:
                await self._look()
                if self._next_due is not None:
                    pause = min(max((self._next_due - self._clock.now()).total_seconds(), 0.0), pause)
            except MahavishnuError as exc:
                _log.error("firing_failed", error=str(exc), retry_in_seconds=pause)
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _look(self) -> None:
        """Do what there is to do, asking the ledger only what can have changed: most looks find nothing."""
        steering = await self._history.steering_version()
        if steering != self._steering:
            self._next_due = await self._history.next_due(EngineName.ONEIRIC)
            self._steering = steering
        if self._next_due is not None and self._next_due <= self._clock.now():
            await self._fire_schedules()
            self._next_due = await self._history.next_due(EngineName.ONEIRIC)
        if await self._history.has_open_occurrences():
            await self._release()
            await self._recover()

    async def fire_due(self) -> int:
        """Fire everything that is due now, once; returns how many occurrences were enqueued.

        Includes occurrences held for their predecessor that has ended, and those another scheduler claimed
        and did not live to enqueue.
        """
        return await self._fire_schedules() + await self._release() + await self._recover()

    async def _fire_schedules(self) -> int:
        fired = 0
        while schedules := await self._history.due_schedules(EngineName.ONEIRIC, self._clock.now(), limit=BATCH):
            fired += await self._fire(schedules)
            if len(schedules) < BATCH:
                break
        return fired

    async def _release(self) -> int:
        """Enqueue held occurrences whose predecessors have ended, of this scheduler and of others."""
        return await self._dispatch_all(await self._released())

    async def _recover(self) -> int:
        """Enqueue what another scheduler claimed and did not live to enqueue."""
        return await self._dispatch_all(
            await self._history.claim_abandoned(owner=self._owner, lease=CLAIM_LEASE, limit=BATCH)
        )

    async def _fire(self, schedules: Sequence[Schedule]) -> int:
        unfinished = await self._history.unfinished_counts([schedule.id for schedule in schedules])
        held = {occurrence.schedule_id for occurrence in await self._history.held_occurrences()}
        advances = [self._advance(s, unfinished[s.id], has_held=s.id in held) for s in schedules]
        claimed = await self._history.advance(advances, owner=self._owner, lease=CLAIM_LEASE)
        self._announce_skips(advances)
        by_id = {schedule.id: schedule for schedule in schedules}
        return await self._dispatch_all(claimed, by_id)

    def _advance(self, schedule: Schedule, unfinished: int, *, has_held: bool) -> Advance:
        """Decide what becomes of one schedule's due times."""
        trigger = build(schedule.trigger)
        now = self._clock.now()
        first = schedule.next_fire_at
        assert first is not None, "a due schedule has a next fire time"
        due = due_times(trigger, first - timedelta(microseconds=1), now)
        plan = plan_due(due, now, schedule.misfire)
        decision = decide(schedule, plan.run, unfinished, has_held=has_held)
        skips = [
            Skip(
                schedule_id=schedule.id, first_ms=to_ms(s.first), last_ms=to_ms(s.last), count=s.count, reason=s.reason
            )
            for s in plan.skipped
        ]
        return Advance(
            schedule=schedule,
            dispatch=decision.run,
            hold=decision.hold,
            skips=[*skips, *_overlap_skips(schedule.id, decision)],
            next_fire_at=trigger.next_after(now),
        )

    async def _released(self) -> list[Occurrence]:
        """Claim, per schedule, the oldest held occurrence whose predecessors have ended."""
        held = await self._history.held_occurrences()
        if not held:
            return []
        unfinished = await self._history.unfinished_counts({occurrence.schedule_id for occurrence in held})
        oldest: dict[str, Occurrence] = {}
        for occurrence in held:
            if not unfinished[occurrence.schedule_id]:
                oldest.setdefault(occurrence.schedule_id, occurrence)
        return await self._history.release_held(list(oldest.values()), owner=self._owner, lease=CLAIM_LEASE)

    async def _dispatch_all(self, occurrences: Sequence[Occurrence], known: dict[str, Schedule] | None = None) -> int:
        by_schedule: dict[str, list[Occurrence]] = defaultdict(list)
        for occurrence in occurrences:
            by_schedule[occurrence.schedule_id].append(occurrence)
        done = 0
        for schedule_id, claimed in by_schedule.items():
            done += await self._dispatch_one(schedule_id, claimed, (known or {}).get(schedule_id))
        return done

    async def _dispatch_one(self, schedule_id: str, claimed: list[Occurrence], schedule: Schedule | None) -> int:
        named = [replace(o, job_id=occurrence_job_id(schedule_id, o.fire_at)) for o in claimed]
        try:
            schedule = schedule or await self._history.get_schedule(schedule_id)
            await self._dispatch(schedule, named)
            await self._history.mark_dispatched(named)
        except ScheduleNotFoundError:
            await self._drop_orphans(named)
            return 0
        except MahavishnuError as exc:  # the claim stays: its lease runs out and it is tried again
            _log.error(
                "occurrence_not_enqueued",
                schedule=schedule_id,
                count=len(named),
                error=str(exc),
                retry_after_seconds=CLAIM_LEASE.total_seconds(),
            )
            return 0
        return len(named)

    async def _drop_orphans(self, claimed: Sequence[Occurrence]) -> None:
        """The schedule was removed between claim and dispatch: its occurrences end as skipped."""
        await self._history.skip_claimed(claimed, reason="the schedule was removed before this occurrence was enqueued")

    def _announce_skips(self, advances: Sequence[Advance]) -> None:
        for advance in advances:
            for skip in advance.skips:
                self._events.emit(
                    OccurrenceSkipped(
                        schedule_id=skip.schedule_id,
                        task=advance.schedule.task,
                        first_ms=skip.first_ms,
                        last_ms=skip.last_ms,
                        count=skip.count,
                        reason=skip.reason,
                    )
                )


def _overlap_skips(schedule_id: str, decision: Decision) -> list[Skip]:
    return [
        Skip(schedule_id=schedule_id, first_ms=to_ms(at), last_ms=to_ms(at), count=1, reason=reason)
        for at, reason in decision.skip
    ]
