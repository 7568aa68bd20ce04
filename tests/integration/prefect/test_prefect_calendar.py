"""Whatever Prefect is given for a cron expression, its dates are those of our calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule
from prefect.server.schemas.schedules import CronSchedule as ServerCron
from prefect.server.schemas.schedules import RRuleSchedule as ServerRRule

from mahavishnu.engines.prefect.calendar import HORIZON, plan_cron
from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers.cron import CronTrigger

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/London",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Santiago",
]
SPRING = datetime(2027, 3, 1, tzinfo=UTC)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    pairs = st.tuples(value, value).filter(lambda pair: pair[0] < pair[1])
    return st.one_of(
        st.just("*"),
        st.integers(2, high).map(lambda step: f"*/{step}"),
        pairs.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(pairs, st.integers(2, 5)).map(lambda it: f"{it[0][0]}-{it[0][1]}/{it[1]}"),
        st.lists(value, min_size=1, max_size=3).map(lambda values: ",".join(map(str, values))),
    )


EXPRESSIONS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7)).map(" ".join)
STARTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31)).map(lambda it: it.replace(tzinfo=UTC))


@settings(max_examples=80)
@given(expression=EXPRESSIONS, zone=st.sampled_from(ZONES), now=STARTS, later=st.floats(0, 1))
@example(expression="30 2 * * *", zone="America/New_York", now=SPRING, later=0.03)
@example(expression="0 * * * *", zone="America/New_York", now=SPRING + timedelta(days=240), later=0.02)
@example(expression="0 0 */6 * *", zone="UTC", now=datetime(2027, 2, 1, tzinfo=UTC), later=0.06)
@example(expression="* * * * *", zone="Australia/Lord_Howe", now=SPRING, later=0.0)
@example(expression="0 12 1-31 * 5", zone="UTC", now=SPRING, later=0.0)
def test_prefects_dates_equal_ours(expression: str, zone: str, now: datetime, later: float) -> None:
    """The server's own code, asked at any time before the plan's end, names exactly our next dates."""
    try:
        plan = plan_cron(expression, zone, now)
    except InvalidTriggerError:
        assume(False)
        raise
    assert plan.exact_until is not None
    # A plan begins after `now`, as every search for a fire time does.
    start = max(now + timedelta(microseconds=1), now + later * (plan.exact_until - now))
    expected = list(islice(CronTrigger(expression, zone).between(start - timedelta(microseconds=1), None), 30))
    theirs = ServerCron if isinstance(plan.schedule, CronSchedule) else ServerRRule
    found = sorted(theirs(**plan.schedule.model_dump())._get_dates_generator(n=30, start=start))
    assert [it for it in found if it <= plan.exact_until] == [it for it in expected if it <= plan.exact_until]


@pytest.mark.parametrize(
    ("expression", "zone", "cron", "timezone", "day_or"),
    [
        ("0 2 * * 1-5", "Asia/Tokyo", "0 2 * * 1,2,3,4,5", "Asia/Tokyo", True),
        ("*/15 9-17 * * *", "America/New_York", "*/15 9,10,11,12,13,14,15,16,17 * * *", "America/New_York", True),
        ("0 0 */2 * 1", "Asia/Tokyo", None, None, None),
        ("0 0 */20 * mon", "Asia/Tokyo", "0 0 */20 * 1", "Asia/Tokyo", False),
        ("0 0 1,15 * 5", "Asia/Tokyo", "0 0 1,15 * 5", "Asia/Tokyo", True),
        ("0 * * * *", "America/New_York", "0 * * * *", "UTC", True),
        ("10 * * * *", "Asia/Kathmandu", "10 * * * *", "Asia/Kathmandu", True),
        ("0 2 * * *", "America/New_York", None, None, None),
        ("@daily", "Europe/London", "0 0 * * *", "Europe/London", True),
    ],
)
def test_cron_is_kept_where_it_means_the_same(
    expression: str, zone: str, cron: str | None, timezone: str | None, day_or: bool | None
) -> None:
    """Readable cron goes to Prefect where it may; dates only where it must."""
    schedule = plan_cron(expression, zone, SPRING).schedule
    if cron is None:
        assert isinstance(schedule, RRuleSchedule)
    else:
        assert schedule == CronSchedule(cron=cron, timezone=timezone, day_or=day_or)


def test_a_plan_of_dates_says_until_when_it_holds_and_why() -> None:
    """Few dates reach to the horizon, many only as far as Prefect takes them; the reason is told."""
    rare = plan_cron("30 2 * * 0", "America/New_York", SPRING)
    assert rare.exact_until == SPRING + HORIZON
    assert "clock change" in rare.note
    leap = plan_cron("0 0 1,29 2 */7", "America/New_York", datetime(2028, 3, 1, tzinfo=UTC))
    assert isinstance(leap.schedule, RRuleSchedule)
    assert leap.schedule.rrule.startswith("RDATE:2032")
    often = plan_cron("* * * * *", "Australia/Lord_Howe", SPRING)
    assert often.exact_until == SPRING + timedelta(minutes=370)
