"""Which occurrence that is started late still runs: decided alike by each of several processes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.engines.prefect.lateness import judge
from mahavishnu.model.engine import EngineName
from mahavishnu.model.policies import MisfirePolicy
from mahavishnu.model.schedule import Schedule, ScheduleState
from mahavishnu.triggers import CronTrigger

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOURLY = Schedule(
    id="hourly", task="t", engine=EngineName.PREFECT, trigger=CronTrigger("0 * * * *", timezone="UTC").spec()
)
SOON_AFTER = NOON + timedelta(minutes=10)


def _runs(policy: str, now: datetime, hours: range, grace: timedelta = timedelta(minutes=1)) -> list[int]:
    """Return the hours before noon whose occurrences run, each judged by itself."""
    schedule = replace(HOURLY, misfire=MisfirePolicy.parse(policy, grace=grace))
    return [hour for hour in hours if judge(schedule, NOON - timedelta(hours=hour), now).skip is None]


@pytest.mark.parametrize(
    ("policy", "now", "expected"),
    [
        ("latest", SOON_AFTER, [0]),
        ("skip", SOON_AFTER, []),
        ("all", SOON_AFTER, [0, 1, 2, 3]),
        ("cap=2", SOON_AFTER, [0, 1]),
        ("latest", NOON + timedelta(seconds=5), [0]),
        ("skip", NOON + timedelta(seconds=5), [0]),
        ("cap=2", NOON + timedelta(seconds=5), [0, 1, 2]),
    ],
)
def test_the_policy_holds_over_processes_that_know_nothing_of_each_other(
    policy: str, now: datetime, expected: list[int]
) -> None:
    """Four occurrences, started together when the worker came back, come to what one process would decide."""
    assert _runs(policy, now, range(4)) == expected


def test_an_occurrence_off_the_trigger_or_ahead_of_its_time_runs() -> None:
    """A clock that differs a little, or a time that the trigger no longer names, is no reason to leave work out."""
    assert judge(HOURLY, NOON, NOON - timedelta(seconds=3)).skip is None
    assert judge(HOURLY, NOON + timedelta(seconds=7), NOON + timedelta(seconds=20)).skip is None


def test_reasons_are_told() -> None:
    """A paused schedule and a missed time each say so."""
    assert judge(replace(HOURLY, state=ScheduleState.PAUSED), NOON, NOON).skip == "the schedule is paused"
    assert judge(HOURLY, NOON - timedelta(hours=2), SOON_AFTER).skip == "coalesced into 2026-05-04T12:00:00+00:00"


def test_missed_times_that_are_made_up_take_turns() -> None:
    """Those on time do not."""
    schedule = replace(HOURLY, misfire=MisfirePolicy.parse("all"))
    assert judge(schedule, NOON - timedelta(hours=1), SOON_AFTER).in_turn
    assert not judge(schedule, NOON, NOON + timedelta(seconds=5)).in_turn
    assert not judge(HOURLY, NOON, SOON_AFTER).in_turn
