"""The date trigger."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers import DateTrigger, build, fire_times

WHEN = datetime(2026, 3, 8, 7, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def test_it_fires_once_and_strictly_later() -> None:
    """Before the date it is the answer; at the date and after it there is none."""
    trigger = DateTrigger(WHEN)
    assert trigger.next_after(WHEN - TICK) == WHEN
    assert trigger.next_after(WHEN) is None
    assert list(fire_times(trigger, WHEN - timedelta(days=9))) == [WHEN]
    assert list(fire_times(trigger, WHEN - timedelta(days=9), until=WHEN - TICK)) == []


@pytest.mark.parametrize(
    "given",
    [
        "2026-03-08T07:00:00Z",
        " 2026-03-08T08:00+01:00 ",
        datetime(2026, 3, 8, 3, tzinfo=ZoneInfo("America/New_York")),
        datetime(2026, 3, 8, 7, 0, 0, 999, tzinfo=UTC),
    ],
    ids=str,
)
def test_any_zone_means_the_same_instant(given: datetime | str) -> None:
    """Text and datetimes in any zone become one UTC instant, on the whole millisecond."""
    trigger = DateTrigger(given)
    assert trigger == DateTrigger(WHEN)
    assert trigger.run_date.tzinfo is UTC
    assert trigger.describe() == "once at 2026-03-08T07:00:00+00:00"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (datetime(2026, 1, 1, 5), "2026-01-01T05:00:00\\+00:00"),
        ("2026-01-01", "no time zone"),
        ("2026-01-01T05:00", "no time zone"),
        ("tomorrow", "ISO 8601"),
        (5, "of type int"),
        ("0001-01-01T00:00+05:00", "years 1 to 9999"),
    ],
)
def test_what_is_no_definite_instant_is_refused(given: object, words: str) -> None:
    """Naive datetimes and unreadable text name the argument and how to write it."""
    with pytest.raises(InvalidTriggerError, match=words) as caught:
        DateTrigger(given)
    assert "run_date" in str(caught.value)


def test_a_spec_rebuilds_an_equal_trigger() -> None:
    """The instant survives the way through the spec to the millisecond."""
    trigger = DateTrigger(WHEN + timedelta(milliseconds=5))
    assert build(trigger.spec()) == trigger
    assert hash(build(trigger.spec())) == hash(trigger)
    assert trigger != DateTrigger(WHEN)
