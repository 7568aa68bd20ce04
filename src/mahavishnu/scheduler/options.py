"""The options of schedules and jobs: what they are, what each engine honours, and how they are read.

Every refusal names the option, the value and the remedy. An option that the chosen engine cannot honour is
refused and never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict, cast

from mahavishnu.errors import CapabilityError, ConfigurationError, nearest
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import PRIORITY_RANGE, JobOptions
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy
from mahavishnu.triggers import aware_utc

__all__ = [
    "OPTION_NAMES",
    "Defaults",
    "ScheduleOptionValues",
    "ScheduleOptions",
    "job_options",
    "read_options",
    "refuse_dishonoured",
]


class ScheduleOptions(TypedDict, total=False):
    """Options that any call making a schedule takes; see `HONOURED` for which engine honours which."""

    timezone: str | None
    """Zone of a cron trigger; the settings' zone by default."""
    misfire: str | MisfirePolicy | None
    """`latest` (default), `skip`, `all` or `cap=n`: which missed fire times still run."""
    misfire_grace: timedelta | float | None
    """How late is still on time, a timedelta or seconds; default 60 s."""
    overlap: str | OverlapPolicy | None
    """`skip` (default), `queue_one` or `allow`: what to do while the previous occurrence is unfinished."""
    coalesce: bool | None
    """APScheduler's word: true is `misfire="latest"`, false is `misfire="all"`."""
    max_instances: int | None
    """APScheduler's word: 1 is `overlap="skip"`, more is `overlap="allow"` with that limit."""
    jitter: timedelta | float | None
    """Start up to this much later, at random, a timedelta or seconds; default 0."""
    timeout: timedelta | float | None
    """How long one attempt may take, a timedelta or seconds; the workflow's own by default."""
    queue_provider: str | None
    """Which queue provider; the settings' default if none is named."""
    metadata: Mapping[str, Any] | None
    """Options of every job: `priority max_attempts timeout_seconds queue labels`."""
    work_pool_name: str | None
    """The Prefect work pool; the settings' default if none is named."""
    tags: Collection[str] | None
    """Tags of the Prefect deployment."""
    on_conflict: str
    """`replace` (default), `keep` or `error`, where the id is taken."""


OPTION_NAMES = frozenset(ScheduleOptions.__annotations__)
_EVERYWHERE = frozenset({"timezone", "misfire", "misfire_grace", "overlap", "coalesce", "max_instances", "timeout"})
HONOURED: dict[EngineName, frozenset[str]] = {
    EngineName.APSCHEDULER: _EVERYWHERE | {"jitter", "on_conflict"},
    EngineName.ONEIRIC: _EVERYWHERE | {"queue_provider", "metadata", "on_conflict"},
    EngineName.PREFECT: _EVERYWHERE | {"work_pool_name", "tags", "on_conflict"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What applies where a schedule says nothing, from the settings.

    Attributes:
        misfire: Misfire policy with its grace.
        overlap: Overlap policy.
    """

    misfire: MisfirePolicy
    overlap: OverlapPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptionValues:
    """Options of a schedule, read and checked; the attributes are those of `Schedule`."""

    misfire: MisfirePolicy
    overlap: OverlapPolicy
    max_running: int | None
    jitter: timedelta
    options: JobOptions
    provider: str | None


def refuse_dishonoured(engine: EngineName, given: Collection[str]) -> None:
    """Refuse options that the engine cannot honour.

    Raises:
        ConfigurationError: An option does not exist; the nearest one is named.
        CapabilityError: An option exists, but not on this engine; those that honour it are named.
    """
    for name in given:
        if name not in OPTION_NAMES:
            raise ConfigurationError(f"option {name!r} is unknown{nearest(name, OPTION_NAMES)}")
        if name not in HONOURED[engine]:
            able = [other.value for other, names in HONOURED.items() if name in names]
            raise CapabilityError(f"engine {engine.value!r}", f"option {name!r}", "it has no such thing", able)


def read_options(engine: EngineName, given: ScheduleOptions, defaults: Defaults) -> ScheduleOptionValues:
    """Read the options of a schedule on an engine.

    Raises:
        ConfigurationError: An option is unknown or its value is wrong.
        CapabilityError: The engine cannot honour an option.
    """
    refuse_dishonoured(engine, given)
    misfire, overlap, most = _policies(given, defaults)
    job = _metadata_of_schedule(given.get("metadata"))
    timeout = _duration("timeout", given.get("timeout"))
    if timeout is not None and job.timeout is not None:
        raise ConfigurationError("timeout and metadata 'timeout_seconds' say the same thing; give one of them")
    tags = dict.fromkeys(_tags(given.get("tags")), "")
    return ScheduleOptionValues(
        misfire=misfire,
        overlap=overlap,
        max_running=most,
        jitter=_duration("jitter", given.get("jitter"), zero=True) or timedelta(0),
        options=replace(job, timeout=timeout or job.timeout, labels={**job.labels, **tags}),
        provider=given.get("queue_provider") or given.get("work_pool_name"),
    )


def _policies(given: ScheduleOptions, defaults: Defaults) -> tuple[MisfirePolicy, OverlapPolicy, int | None]:
    coalesce, most = given.get("coalesce"), given.get("max_instances")
    misfire, overlap = given.get("misfire"), given.get("overlap")
    if coalesce is not None and misfire is not None:
        raise ConfigurationError("coalesce and misfire say the same thing; give one of them")
    if coalesce is not None:
        misfire = "latest" if coalesce else "all"
    overlap = _overlap(overlap, most)
    grace = _duration("misfire_grace", given.get("misfire_grace"), zero=True)
    kept = MisfirePolicy.parse(
        defaults.misfire if misfire is None else misfire, grace=_own(misfire, defaults) if grace is None else grace
    )
    chosen = defaults.overlap if overlap is None else OverlapPolicy.parse(overlap)
    return kept, chosen, most if chosen is OverlapPolicy.ALLOW else None


def _tags(tags: Collection[str] | None) -> Collection[str]:
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags or ()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"tags: expected a list of texts, got {tags!r}")
    return tags or ()


def _own(misfire: str | MisfirePolicy | None, defaults: Defaults) -> timedelta | None:
    """Return the grace of the settings for a policy given by name; a policy value brings its own."""
    return None if isinstance(misfire, MisfirePolicy) else defaults.misfire.grace


def _overlap(overlap: str | OverlapPolicy | None, most: int | None) -> str | OverlapPolicy | None:
    if most is None:
        return overlap
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"max_instances: expected a whole number from 1, got {most!r}")
    if overlap is None:
        return OverlapPolicy.SKIP if most == 1 else OverlapPolicy.ALLOW
    if OverlapPolicy.parse(overlap) is not OverlapPolicy.ALLOW:
        raise ConfigurationError(
            f"max_instances goes with overlap='allow', not with {str(overlap)!r}; give one of them"
        )
    return overlap


def _duration(name: str, value: object, *, zero: bool = False) -> timedelta | None:
    """Read a timedelta, or a number of seconds."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11:  # also refuses nan
        value = timedelta(seconds=value)
    if not isinstance(value, timedelta) or value < timedelta(0) or (not zero and not value):
        least = "from 0" if zero else "above 0"
        raise ConfigurationError(f"{name}: expected a timedelta or seconds {least}, got {value!r}")
    return value


# --- the metadata of jobs ---


def _metadata_of_schedule(metadata: Mapping[str, Any] | None) -> JobOptions:
    for name in ("schedule_time", "idempotency_key"):
        if metadata and metadata.get(name) is not None:
            raise ConfigurationError(f"metadata {name!r} is decided by the schedule's trigger; leave it out")
    return job_options(metadata)


def job_options(metadata: Mapping[str, Any] | None) -> JobOptions:
    """Read the `metadata` of one job; a value of `None` counts as absent.

    Raises:
        ConfigurationError: An unknown key (with the nearest valid one), or a value of the wrong type or range.
    """
    options: dict[str, Any] = {}
    for key, value in (metadata or {}).items():
        if key not in _READERS:
            raise ConfigurationError(f"metadata key {key!r} is unknown{nearest(str(key), _READERS)}")
        if value is not None:
            options[_FIELD_OF.get(key, key)] = _READERS[key](f"metadata {key!r}", value)
    return JobOptions(**options)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}: expected text that is not empty, got {value!r}")
    return value


def _priority(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in PRIORITY_RANGE:
        raise ConfigurationError(f"{name}: expected 0 (least urgent) to 9 (most urgent), got {value!r}")
    return value


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name}: expected a whole number from 1, got {value!r}")
    return value


def _instant(name: str, value: object) -> datetime:
    return aware_utc(cast("datetime | str", value), name)


def _labels(name: str, value: object) -> dict[str, str]:
    pairs = dict(cast("Mapping[object, object]", value)) if isinstance(value, Mapping) else {None: None}
    if not all(isinstance(key, str) and isinstance(label, str) for key, label in pairs.items()):
        raise ConfigurationError(f"{name}: expected a mapping of text to text, got {value!r}")
    return cast("dict[str, str]", pairs)


_FIELD_OF = {"timeout_seconds": "timeout"}
_READERS: dict[str, Callable[[str, object], object]] = {
    "schedule_time": _instant,
    "idempotency_key": _text,
    "priority": _priority,
    "max_attempts": _count,
    "timeout_seconds": _duration,
    "queue": _text,
    "labels": _labels,
}
assert {_FIELD_OF.get(key, key) for key in _READERS} == {field.name for field in fields(JobOptions)}
