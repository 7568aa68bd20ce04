"""From stored definitions and users' arguments to triggers."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.triggers import (
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    Trigger,
    build,
    trigger_from_arguments,
    trigger_when,
)

ANCHOR = datetime(2026, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger("*/5 * * * mon", "Europe/London"),
        CronTrigger("@daily"),
        IntervalTrigger(start=ANCHOR, seconds=0.25, end="2027-01-01T00:00Z"),
        DateTrigger(ANCHOR),
    ],
    ids=str,
)
def test_specs_survive_json(trigger: Trigger) -> None:
    """A spec encoded as JSON and decoded again builds an equal trigger."""
    encoded = msgspec.json.encode(trigger.spec())
    assert build(msgspec.json.decode(encoded, type=TriggerSpec)) == trigger


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (TriggerKind.CRON, {}, "'expression' is missing"),
        (TriggerKind.CRON, {"expression": "@daily", "timezon": "UTC"}, "did you mean 'timezone'"),
        (TriggerKind.CRON, {"expression": "60 * * * *"}, "between 0 and 59"),
        (TriggerKind.DATE, {"run_date": "2026-01-01"}, "no time zone"),
        (TriggerKind.DATE, {}, "'run_date' is missing"),
        (TriggerKind.INTERVAL, {"interval_us": 5}, "'start' is missing"),
        (TriggerKind.INTERVAL, {"interval_us": "x", "start": "2026-01-01T00:00Z"}, "no number"),
        (TriggerKind.INTERVAL, {"interval_us": 10**30, "start": "2026-01-01T00:00Z"}, "no number"),
    ],
)
def test_broken_specs_are_refused(kind: TriggerKind, fields: dict, words: str) -> None:
    """Missing, unknown and unusable fields are named."""
    with pytest.raises(InvalidTriggerError, match=words):
        build(TriggerSpec(kind=kind, fields=fields))


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("interval", {"seconds": 30}, IntervalTrigger(start=ANCHOR, seconds=30)),
        (
            "interval",
            {"minutes": 1, "start": "2026-01-01T00:00Z"},
            IntervalTrigger(start="2026-01-01T00:00Z", minutes=1),
        ),
        ("cron", {"hour": "*"}, CronTrigger("0 * * * *")),
        ("cron", {"expression": "0 * * * *", "timezone": "UTC"}, CronTrigger("0 * * * *", "UTC")),
        ("cron", {"hour": 3, "timezone": "UTC"}, CronTrigger("0 3 * * *", "UTC")),
        ("date", {"run_date": ANCHOR}, DateTrigger(ANCHOR)),
    ],
)
def test_trigger_type_and_arguments(kind: str, arguments: dict, expected: Trigger) -> None:
    """The keyword forms of `trigger_type=` make the triggers they say."""
    assert trigger_from_arguments(kind, arguments, anchor=ANCHOR) == expected


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("intervall", {}, "did you mean 'interval'"),
        ("interval", {"second": 5}, "did you mean 'seconds'"),
        ("cron", {}, "at least one of"),
        ("cron", {"expression": "@daily", "hour": 3}, "hour="),
        ("cron", {"expression": 5}, "text, not int"),
        ("date", {}, "run_date= is missing"),
        ("date", {"run_dat": ANCHOR}, "did you mean 'run_date'"),
    ],
)
def test_wrong_arguments_are_refused(kind: str, arguments: dict, words: str) -> None:
    """An unknown type or argument names the nearest valid one."""
    with pytest.raises(InvalidTriggerError, match=words):
        trigger_from_arguments(kind, arguments, anchor=ANCHOR)


def test_cron_every_and_at() -> None:
    """The three short forms; an interval is counted from the anchor."""
    assert trigger_when(cron="@daily", timezone="UTC", anchor=ANCHOR) == CronTrigger("@daily", "UTC")
    assert trigger_when(every=timedelta(minutes=5), anchor=ANCHOR) == IntervalTrigger(start=ANCHOR, minutes=5)
    assert trigger_when(at="2026-03-01T00:00Z", anchor=ANCHOR) == DateTrigger("2026-03-01T00:00Z")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "no trigger is given"),
        ({"cron": "@daily", "at": ANCHOR}, "several"),
        ({"every": timedelta(hours=1), "timezone": "UTC"}, "goes with cron"),
        ({"every": 5}, "timedelta"),
        ({"at": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_not_exactly_one_usable_form_is_refused(arguments: dict, words: str) -> None:
    """None, several, or one that cannot be used: each is one clear error."""
    with pytest.raises(InvalidTriggerError, match=words):
        trigger_when(anchor=ANCHOR, **arguments)
