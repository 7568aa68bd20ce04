"""A schedule: a task, a trigger and the policies that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from mahavishnu.model.job import JobOptions
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.states import OccurrenceState
    from mahavishnu.model.trigger import TriggerSpec

__all__ = ["Occurrence", "OnConflict", "Schedule", "ScheduleState"]

_NO_OPTIONS = JobOptions()
_DEFAULT_MISFIRE = MisfirePolicy()


class ScheduleState(StrEnum):
    """Whether a schedule fires."""

    ACTIVE = "active"
    """It fires at its trigger's times."""
    PAUSED = "paused"
    """It keeps its place and fires nothing; times passed meanwhile are not made up."""
    ENDED = "ended"
    """Its trigger has no further time."""


class OnConflict(StrEnum):
    """What to do when a schedule's id is taken."""

    REPLACE = "replace"
    """The new schedule takes its place; an unchanged trigger keeps its progress and its pause."""
    KEEP = "keep"
    """The existing one stays as it is."""
    ERROR = "error"
    """`ScheduleExistsError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What runs when, on which engine, and how lateness and overlap are treated.

    Attributes:
        id: Unique across all engines.
        task: The workflow's key or the function's name.
        engine: Which engine fires it.
        trigger: When it fires, in its stored form.
        context: Keyword arguments of every occurrence.
        options: How each occurrence's job is treated.
        misfire: What becomes of fire times reached late.
        overlap: What becomes of a fire time while the previous occurrence is unfinished.
        max_running: With overlap `allow`, at most this many at once; `None`: no limit.
        jitter: Each occurrence starts up to this much later, at random; in-process engine only.
        state: Whether it fires.
        provider: The queue provider, on the durable engine; the work pool, on Prefect.
        next_fire_at: The next fire time (UTC); `None` when paused or ended, or when its engine keeps it.
        last_fire_at: The last fire time that was decided upon.
        created_at: When it was first stored.
        updated_at: When it was last changed by a person or program.
        revision: Grows by one with every such change; a stale writer is refused by it.
        reasons: Why this engine, in words.
        external_id: The engine's own name for it (a Prefect deployment id).
    """

    id: str
    task: str
    engine: EngineName
    trigger: TriggerSpec
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    options: JobOptions = _NO_OPTIONS
    misfire: MisfirePolicy = _DEFAULT_MISFIRE
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    max_running: int | None = None
    jitter: timedelta = timedelta(0)
    state: ScheduleState = ScheduleState.ACTIVE
    provider: str | None = None
    next_fire_at: datetime | None = None
    last_fire_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 0
    reasons: tuple[str, ...] = ()
    external_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """What became of one fire time, or of a run of skipped ones, of a schedule.

    Attributes:
        schedule_id: The schedule.
        fire_at: The fire time; the first one of a span.
        state: What became of it.
        until: The last fire time of a skipped span; equal to `fire_at` for a single one.
        count: How many fire times the span covers, 1 or more.
        reason: Why it was skipped or held.
        job_id: The job it became.
        decided_at: When that was decided.
        owner: The scheduler process that claimed it.
        revision: The schedule's revision it was claimed under.
    """

    schedule_id: str
    fire_at: datetime
    state: OccurrenceState
    until: datetime
    count: int = 1
    reason: str = ""
    job_id: str | None = None
    decided_at: datetime | None = None
    owner: str | None = None
    revision: int = 0
