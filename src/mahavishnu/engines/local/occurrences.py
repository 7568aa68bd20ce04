"""What becomes of each fire time in this process: run, held or skipped, with the reason in the ledger."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from itertools import groupby
from random import uniform
from typing import TYPE_CHECKING

from mahavishnu.engines.overlap import decide
from mahavishnu.execution.attempt import Attempt
from mahavishnu.history.store import HistoryStore, Skip
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import IdSource
from mahavishnu.model.instants import from_ms, to_ms
from mahavishnu.observability.events import Events, OccurrenceSkipped
from mahavishnu.triggers import plan_due

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mahavishnu.clock import Clock
    from mahavishnu.engines.local.runner import Runner
    from mahavishnu.engines.overlap import Reasoned
    from mahavishnu.model.schedule import Schedule
    from mahavishnu.workflows.registry import Workflow

__all__ = ["Entry", "Occurrences"]

_ENGINE = EngineName.APSCHEDULER
_MILLISECOND = timedelta(milliseconds=1)


class Entry:
    """A schedule that this process fires.

    Attributes:
        schedule: As it was applied last.
        workflow: What it runs.
        applied_at: When it was applied first; a time between that and the engine's start is late, not lost.
        unfinished: How many of its occurrences have not ended.
        held: Fire times that wait for the occurrence before them.
        is_open: Whether held fire times may still start.
    """

    __slots__ = (
        "applied_at",
        "context",
        "grace_ms",
        "held",
        "is_open",
        "jitter_seconds",
        "labels",
        "schedule",
        "timeout_ms",
        "unfinished",
        "workflow",
    )

    def __init__(self, schedule: Schedule, workflow: Workflow, applied_at: datetime) -> None:
        self.applied_at: datetime = applied_at
        self.unfinished: int = 0
        self.held: deque[datetime] | None = None
        self.is_open: bool = True
        self.take(schedule, workflow)

    def take(self, schedule: Schedule, workflow: Workflow) -> None:
        """Stand for this schedule from now on. What a run needs of it is computed here once."""
        options = schedule.options
        self.schedule: Schedule = schedule
        self.workflow: Workflow = workflow
        self.context = schedule.context or _EMPTY
        self.labels: dict[str, str] | None = dict(options.labels) if options.labels else None
        self.timeout_ms: int | None = None if options.timeout is None else max(1, options.timeout // _MILLISECOND)
        self.grace_ms: int = schedule.misfire.grace // _MILLISECOND
        self.jitter_seconds: float = schedule.jitter.total_seconds()


_EMPTY = b"\x80"


class Occurrences:
    """Decides on due fire times, and counts what is unfinished.

    Args:
        history: Where skipped fire times are noted.
        events: Told of them.
        runner: Runs what is to run.
        clock: Source of time.
    """

    def __init__(self, *, history: HistoryStore, events: Events, runner: Runner, clock: Clock) -> None:
        self._history = history
        self._events = events
        self._runner = runner
        self._clock = clock
        self._ids = IdSource()

    def fire(self, entry: Entry, due_ms: int, due: Sequence[datetime] | None) -> None:
        """Decide on due fire times.

        Args:
            entry: The schedule.
            due_ms: The first of them, Unix milliseconds.
            due: All of them, oldest first; `None`: there is just that one.
        """
        if due is None and not entry.unfinished and not entry.held:
            now_ms = self._clock.now_ms()
            if now_ms - due_ms <= entry.grace_ms:  # the usual case
                self._start(entry, self._ids.next(now_ms), due_ms)
                return
        self._fire_by_policy(entry, [from_ms(due_ms)] if due is None else due)

    def _fire_by_policy(self, entry: Entry, due: Sequence[datetime]) -> None:
        schedule = entry.schedule
        plan = plan_due(due, self._clock.now(), schedule.misfire)
        decision = decide(schedule, plan.run, entry.unfinished, has_held=bool(entry.held))
        for fire_at in decision.run:
            self._start(entry, self._new_id(), to_ms(fire_at))
        if decision.hold:
            entry.held = entry.held or deque()
            entry.held.extend(at for at, _ in decision.hold)
        for span in plan.skipped:
            self._skip(schedule, span.first, span.last, span.count, span.reason)
        self._skip_each(schedule, decision.skip)

    def run_once(self, entry: Entry, job_id: str | None) -> None:
        """Start an occurrence beside the fire times, now."""
        self._start(entry, job_id or self._new_id(), None)

    def ended(self, entry: Entry) -> None:
        """Count an occurrence as ended; one that was held for it starts."""
        entry.unfinished -= 1
        if entry.held and not entry.unfinished and entry.is_open:
            self._start(entry, self._new_id(), to_ms(entry.held.popleft()))

    def skip_held(self, entry: Entry, reason: str) -> None:
        """Let what is held never start."""
        held, entry.held = entry.held, None
        if held:
            self._skip_each(entry.schedule, [(at, reason) for at in held])

    def _new_id(self) -> str:
        return self._ids.next(self._clock.now_ms())

    def _start(self, entry: Entry, job_id: str, due_ms: int | None) -> None:
        schedule = entry.schedule
        entry.unfinished += 1
        attempt = Attempt(
            job_id=job_id,
            task=schedule.task,
            engine=_ENGINE,
            context=entry.context,
            workflow=entry.workflow,
            max_attempts=schedule.options.max_attempts,
            timeout_ms=entry.timeout_ms,
            schedule_id=schedule.id,
            scheduled_for_ms=due_ms,
            labels=entry.labels,
        )
        if entry.jitter_seconds and due_ms is not None:
            self._runner.run_later(attempt, uniform(0, entry.jitter_seconds), entry)  # noqa: S311  # no secret
        else:
            self._runner.run(attempt, entry)

    def _skip_each(self, schedule: Schedule, skipped: Iterable[Reasoned]) -> None:
        """Record fire times; neighbours with one reason are one entry."""
        for reason, group in groupby(skipped, key=lambda one: one[1]):
            times = [at for at, _ in group]
            self._skip(schedule, times[0], times[-1], len(times), reason)

    def _skip(self, schedule: Schedule, first: datetime, last: datetime, count: int, reason: str) -> None:
        skip = Skip(schedule_id=schedule.id, first_ms=to_ms(first), last_ms=to_ms(last), count=count, reason=reason)
        self._history.note_skips([skip])
        self._events.emit(
            OccurrenceSkipped(
                schedule_id=skip.schedule_id,
                task=schedule.task,
                first_ms=skip.first_ms,
                last_ms=skip.last_ms,
                count=count,
                reason=reason,
            )
        )
