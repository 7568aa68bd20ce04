"""Options of schedules and jobs are honoured or refused, never ignored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mahavishnu.errors import CapabilityError, ConfigurationError, InvalidTriggerError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.policies import MisfireKind, MisfirePolicy, OverlapPolicy
from mahavishnu.scheduler.options import HONOURED, OPTION_NAMES, Defaults, job_options, read_options

DEFAULTS = Defaults(misfire=MisfirePolicy(grace=timedelta(seconds=7)), overlap=OverlapPolicy.SKIP)


def read(engine: EngineName = EngineName.APSCHEDULER, **given: Any) -> Any:
    """Read options with the test's defaults."""
    return read_options(engine, given, DEFAULTS)  # type: ignore[arg-type]


def test_nothing_given_takes_the_defaults_of_the_settings() -> None:
    """Without options, misfire, grace and overlap are those of the settings."""
    values = read()
    assert values.misfire == DEFAULTS.misfire
    assert values.overlap is OverlapPolicy.SKIP
    assert values.jitter == timedelta(0)
    assert values.max_running is None


@pytest.mark.parametrize(
    ("given", "kind", "overlap", "most"),
    [
        ({"coalesce": True}, MisfireKind.LATEST, OverlapPolicy.SKIP, None),
        ({"coalesce": False}, MisfireKind.ALL, OverlapPolicy.SKIP, None),
        ({"max_instances": 1}, MisfireKind.LATEST, OverlapPolicy.SKIP, None),
        ({"max_instances": 3}, MisfireKind.LATEST, OverlapPolicy.ALLOW, 3),
        ({"misfire": "cap=2", "overlap": "queue_one"}, MisfireKind.CAP, OverlapPolicy.QUEUE_ONE, None),
        ({"overlap": "allow", "max_instances": 2}, MisfireKind.LATEST, OverlapPolicy.ALLOW, 2),
    ],
)
def test_policies_in_our_words_and_in_apschedulers(
    given: dict[str, Any], kind: MisfireKind, overlap: OverlapPolicy, most: int | None
) -> None:
    """APScheduler's coalesce and max_instances mean one of our policies each."""
    values = read(**given)
    assert (values.misfire.kind, values.overlap, values.max_running) == (kind, overlap, most)


def test_a_policy_by_name_keeps_the_grace_of_the_settings_and_a_value_its_own() -> None:
    """`misfire="skip"` takes the settings' grace; a `MisfirePolicy` brings its own."""
    assert read(misfire="skip").misfire.grace == timedelta(seconds=7)
    own = MisfirePolicy(kind=MisfireKind.SKIP, grace=timedelta(seconds=1))
    assert read(misfire=own).misfire.grace == timedelta(seconds=1)
    assert read(misfire="skip", misfire_grace=0).misfire.grace == timedelta(0)


@pytest.mark.parametrize(
    "given",
    [
        {"coalesce": True, "misfire": "all"},
        {"max_instances": 0},
        {"max_instances": True},
        {"max_instances": 2, "overlap": "skip"},
        {"jitter": -1},
        {"jitter": "3"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"misfire": "sometimes"},
        {"overlap": "maybe"},
        {"misfire_grace": float("inf")},
    ],
)
def test_values_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    """A wrong or contradictory value is an error that names the option."""
    with pytest.raises(ConfigurationError) as caught:
        read(**given)
    assert any(name in str(caught.value) for name in given)


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    """A typo is not swallowed."""
    with pytest.raises(ConfigurationError, match="did you mean 'misfire'"):
        read(misfir="skip")


@pytest.mark.parametrize("engine", list(EngineName))
def test_every_option_is_honoured_or_refused_naming_who_can(engine: EngineName) -> None:
    """For each engine, each option is either in its list or a CapabilityError naming an engine that has it."""
    for name in sorted(OPTION_NAMES - HONOURED[engine]):
        with pytest.raises(CapabilityError, match=name) as caught:
            read(engine, **{name: "x"})
        able = [other.value for other in EngineName if name in HONOURED[other]]
        assert able, f"nobody honours {name}"
        assert all(other in str(caught.value) for other in able)


def test_metadata_is_read_completely() -> None:
    """Every documented key arrives in the job's options."""
    options = job_options(
        {
            "schedule_time": "2026-02-07T02:00:00Z",
            "idempotency_key": "k",
            "priority": 9,
            "max_attempts": 2,
            "timeout_seconds": 1.5,
            "queue": "slow",
            "labels": {"team": "a"},
        }
    )
    assert options.schedule_time == datetime(2026, 2, 7, 2, tzinfo=UTC)
    assert (options.idempotency_key, options.priority, options.max_attempts) == ("k", 9, 2)
    assert (options.timeout, options.queue, options.labels) == (timedelta(seconds=1.5), "slow", {"team": "a"})


@pytest.mark.parametrize(
    "metadata",
    [
        {"scheduled_time": "2026-02-07T02:00:00Z"},
        {"priority": 10},
        {"priority": True},
        {"max_attempts": 0},
        {"timeout_seconds": -1},
        {"queue": " "},
        {"labels": {"a": 1}},
        {"labels": "a"},
        {"idempotency_key": ""},
    ],
)
def test_bad_metadata_names_the_key(metadata: dict[str, Any]) -> None:
    """Unknown keys and wrong values are refused, with the key in the message."""
    with pytest.raises(ConfigurationError, match=next(iter(metadata))):
        job_options(metadata)


@pytest.mark.parametrize("time", ["2026-02-07T02:00:00", datetime(2026, 2, 7), "tomorrow"])
def test_a_schedule_time_without_a_zone_is_refused(time: object) -> None:
    """A naive time names no instant."""
    with pytest.raises((ConfigurationError, InvalidTriggerError), match="schedule_time"):
        job_options({"schedule_time": time})


def test_a_schedules_metadata_leaves_the_time_to_the_trigger() -> None:
    """`schedule_time` and `idempotency_key` contradict a recurring schedule."""
    with pytest.raises(ConfigurationError, match="schedule_time"):
        read(EngineName.ONEIRIC, metadata={"schedule_time": "2026-02-07T02:00:00Z"})
