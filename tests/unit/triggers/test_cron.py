"""The cron trigger: recorded cases, clock changes, fields, and its spec."""

import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import tzlocal

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers import CronExpression, CronTrigger, build, fire_times, zones

DATA = Path(__file__).parents[2] / "data" / "crontabs"
EXPRESSIONS = json.loads((DATA / "expressions.json").read_text())["cases"]
CLOCK_CHANGES = json.loads((DATA / "clock_changes.json").read_text())["cases"]
START = datetime(2026, 2, 7, tzinfo=UTC)


def instants(texts: list[str]) -> list[datetime]:
    """Return the instants of ISO texts."""
    return [datetime.fromisoformat(text) for text in texts]


def steps(trigger: CronTrigger, after: datetime, until: datetime) -> list[datetime]:
    """Return the fire times found by one `next_after` each."""
    found = []
    instant = trigger.next_after(after)
    while instant is not None and instant <= until:
        found.append(instant)
        instant = trigger.next_after(instant)
    return found


def test_the_recorded_cases_are_all_there() -> None:
    """The files hold the numbers of cases they are known to hold, so none is lost unnoticed."""
    assert (len(EXPRESSIONS), len(CLOCK_CHANGES)) == (125, 74)


@pytest.mark.parametrize("case", EXPRESSIONS, ids=lambda c: f"{c['expression']} {c['tz']}")
def test_recorded_expressions(case: dict) -> None:
    """Each expression gives the next five times, both ways, or the recorded error."""
    if "error" in case:
        with pytest.raises(InvalidTriggerError) as caught:
            CronExpression.parse(case["expression"])
        assert caught.value.code == case["error"]
        return
    trigger = CronTrigger(CronExpression.parse(case["expression"]), case["tz"])
    after, expected = datetime.fromisoformat(case["after"]), instants(case["next"])
    assert list(fire_times(trigger, after, limit=5)) == expected
    last = expected[-1] if expected else after
    assert steps(trigger, after, last) == expected
    assert ("never-fires" in case["lint"]) is (not expected)


@pytest.mark.parametrize("case", CLOCK_CHANGES, ids=lambda c: f"{c['expression']} {c['tz']} {c['change']}")
def test_recorded_clock_changes(case: dict) -> None:
    """Every fire time in the recorded span around a clock change, no more and no fewer, both ways."""
    trigger = CronTrigger(case["expression"], case["tz"])
    after, until = instants([case["after"], case["until"]])
    expected = instants(case["next"])
    assert list(fire_times(trigger, after, until)) == expected
    assert steps(trigger, after, until) == expected


def test_inside_a_repeated_hour_the_next_time_is_later() -> None:
    """Asked at the second 01:45 of an autumn night, a fixed 01:30 job answers with the next night."""
    trigger = CronTrigger("30 1 * * *", "America/New_York")
    second_time = datetime(2026, 11, 1, 1, 10, fold=1, tzinfo=ZoneInfo("America/New_York"))
    assert trigger.next_after(second_time) == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)
    hourly = CronTrigger("30 * * * *", "America/New_York")
    assert hourly.next_after(second_time) == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)


def test_fire_times_are_strictly_later_and_aware_utc() -> None:
    """A fire time itself leads to the following one; a microsecond before it leads to it."""
    trigger = CronTrigger("0 5 * * *", "UTC")
    five = datetime(2026, 2, 7, 5, tzinfo=UTC)
    assert trigger.next_after(five) == five + timedelta(days=1)
    before = trigger.next_after(five - timedelta(microseconds=1))
    assert before == five
    assert before.tzinfo is UTC


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [("0 0 29 2 */7", "2088-02-29", "2128-02-29"), ("0 0 29 2 *", "2096-02-29", "2104-02-29")],
)
def test_the_rarest_times_are_found(expression: str, after: str, expected: str) -> None:
    """29 February on a Sunday is 40 years off at most, around 2100; both ways find it."""
    trigger = CronTrigger(expression, "UTC")
    instant = datetime.fromisoformat(after).replace(tzinfo=UTC)
    wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert trigger.next_after(instant) == wanted
    assert list(fire_times(trigger, instant, limit=1)) == [wanted]


def test_the_end_of_time_is_an_answer_not_a_crash() -> None:
    """Close to the last representable year there is no next time; the same holds in bulk."""
    trigger = CronTrigger("0 0 * * *", "America/New_York")
    assert trigger.next_after(datetime(9998, 12, 31, 23, tzinfo=UTC)) is None
    assert trigger.next_after(datetime(9999, 12, 31, 23, tzinfo=UTC)) is None
    assert list(trigger.between(datetime(9998, 12, 30, 12, tzinfo=UTC), None)) == [
        datetime(9998, 12, 31, 5, tzinfo=UTC)
    ]
    assert trigger.next_after(datetime(1, 1, 1, 12, tzinfo=UTC)) is None


def test_a_tolerated_expression_that_never_fires_gives_nothing() -> None:
    """Read leniently, `22-2` is a trigger without times."""
    trigger = CronTrigger(CronExpression.parse("0 22-2 * * *"), "UTC")
    assert trigger.next_after(START) is None
    assert list(fire_times(trigger, START)) == []
    assert trigger.describe() == "never (UTC)"


def test_reboot_is_refused_even_when_read() -> None:
    """`@reboot` cannot become a trigger."""
    with pytest.raises(InvalidTriggerError) as caught:
        CronTrigger(CronExpression.parse("@reboot"))
    assert caught.value.code == "reboot"


@pytest.mark.parametrize(
    ("fields", "expression"),
    [
        ({"hour": "*"}, "0 * * * *"),
        ({"hour": 3}, "0 3 * * *"),
        ({"minute": "*/5"}, "*/5 * * * *"),
        ({"day": 1}, "0 0 1 * *"),
        ({"month": 3}, "0 0 1 3 *"),
        ({"day_of_week": "mon"}, "0 0 * * mon"),
        ({"day": 1, "minute": 20}, "20 * 1 * *"),
        ({"month": "jan", "day_of_week": "fri", "hour": 6}, "0 6 * jan fri"),
    ],
)
def test_fields_default_as_in_apscheduler(fields: dict, expression: str) -> None:
    """Fields more significant than the last given one are free, less significant ones at their minimum."""
    assert CronTrigger.from_fields(**fields) == CronTrigger(expression)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "at least one of minute"),
        ({"second": 5}, "interval"),
        ({"week": 1}, "no week"),
        ({"year": 2026}, "date trigger"),
        ({"hours": 1}, "did you mean 'hour'"),
        ({"hour": None}, "NoneType"),
        ({"hour": True}, "bool"),
        ({"hour": "1 2"}, "one word"),
        ({"hour": 24}, "between 0 and 23"),
    ],
)
def test_wrong_fields_are_refused(fields: dict, words: str) -> None:
    """What cron has not, or cannot read, is named with the remedy."""
    with pytest.raises(InvalidTriggerError, match=words):
        CronTrigger.from_fields(**fields)


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Londn", "did you mean 'Europe/London'"),
        ("", "no time zone"),
        ("../etc", "no time zone"),
        (timezone(timedelta(hours=2)), "Etc/GMT-2"),
        (5, "IANA name"),
    ],
)
def test_wrong_zones_are_refused(zone: object, words: str) -> None:
    """An unknown zone, or one without a name, is refused when the trigger is made."""
    with pytest.raises(InvalidTriggerError, match=words):
        CronTrigger("@daily", zone)


def test_zone_objects_are_kept_by_name() -> None:
    """A `ZoneInfo`, its name and UTC all end up as names, and compare as such."""
    assert CronTrigger("@daily", ZoneInfo("Europe/London")) == CronTrigger("@daily", "Europe/London")
    assert CronTrigger("@daily", UTC).timezone == "UTC"
    assert CronTrigger("@daily", "UTC") != CronTrigger("@daily")


def test_the_machines_zone_is_asked_for_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone, the machine's is looked up at the first fire time, not when the trigger is made."""
    asked = []
    monkeypatch.setattr(tzlocal, "get_localzone", lambda: asked.append(1) or ZoneInfo("Asia/Tokyo"))
    zones.machine_clock.cache_clear()
    try:
        trigger = CronTrigger("0 9 * * *")
        assert asked == []
        assert trigger.next_after(START) == datetime(2026, 2, 8, 0, tzinfo=UTC)
        assert trigger.timezone is None
    finally:
        zones.machine_clock.cache_clear()


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger("0  5 * * mon"),
        CronTrigger("@hourly", "Europe/London"),
        CronTrigger(CronExpression.parse("*5 22-2 * * *"), "UTC"),
    ],
    ids=str,
)
def test_a_spec_rebuilds_an_equal_trigger(trigger: CronTrigger) -> None:
    """What was tolerated when read is still tolerated when rebuilt."""
    rebuilt = build(trigger.spec())
    assert rebuilt == trigger
    assert hash(rebuilt) == hash(trigger)
    assert json.loads(json.dumps(dict(trigger.spec().fields)))["expression"] == trigger.expression.text


def test_describe_names_the_zone_that_was_given() -> None:
    """Words and, where one was chosen, the zone."""
    assert CronTrigger("*/30 * * * *").describe() == "every 30 minutes, at :00 and :30"
    assert CronTrigger("30 2 * * *", "Europe/London").describe() == "every day at 02:30 (Europe/London)"


def test_one_trigger_serves_several_threads() -> None:
    """Threads asking one trigger about different years get what a trigger of their own gives."""
    shared = CronTrigger("30 2 * * *", "Europe/Paris")
    wrong: list[datetime] = []

    def ask(year: int) -> None:
        own = CronTrigger("30 2 * * *", "Europe/Paris")
        instant = datetime(year, 1, 1, tzinfo=UTC)
        for expected in islice(fire_times(own, instant), 400):
            if shared.next_after(instant) != expected:
                wrong.append(expected)
            instant = expected

    threads = [threading.Thread(target=ask, args=(year,)) for year in range(2010, 2018)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
