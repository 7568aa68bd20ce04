"""The interval trigger."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers import IntervalTrigger, build, fire_times

ANCHOR = datetime(2026, 2, 7, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_times_are_counted_from_the_anchor() -> None:
    """The first time after the anchor is one interval later; any instant leads to a multiple."""
    trigger = IntervalTrigger.every(timedelta(seconds=30), anchor=ANCHOR)
    assert trigger.next_after(ANCHOR) == ANCHOR + timedelta(seconds=30)
    assert trigger.next_after(ANCHOR + timedelta(seconds=30)) == ANCHOR + timedelta(seconds=60)
    late = ANCHOR + timedelta(days=400, seconds=31)
    assert trigger.next_after(late) == ANCHOR + timedelta(days=400, seconds=60)


def test_a_start_ahead_is_the_first_time() -> None:
    """Before its start, a trigger fires at the start."""
    trigger = IntervalTrigger(start=ANCHOR, hours=1)
    assert trigger.next_after(ANCHOR - timedelta(days=3)) == ANCHOR


def test_the_end_is_inclusive() -> None:
    """A time equal to the end fires; later ones do not."""
    trigger = IntervalTrigger(start=ANCHOR, minutes=1, end=ANCHOR + 2 * MINUTE)
    assert list(fire_times(trigger, ANCHOR - MINUTE)) == [ANCHOR, ANCHOR + MINUTE, ANCHOR + 2 * MINUTE]
    assert trigger.next_after(ANCHOR + 2 * MINUTE) is None
    assert trigger.end == ANCHOR + 2 * MINUTE


@given(
    interval_ms=st.integers(1, 10**9),
    start=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    asked=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
)
def test_the_next_time_is_the_least_multiple_that_is_later(interval_ms: int, start: datetime, asked: datetime) -> None:
    """The answer is later than the question, on the grid, and no more than one interval away."""
    trigger = IntervalTrigger(start=start, milliseconds=interval_ms)
    interval, found = timedelta(milliseconds=interval_ms), trigger.next_after(asked)
    assert found is not None
    assert found > asked
    assert (found - trigger.start) % interval == timedelta(0)
    assert found == trigger.start or found - interval <= asked


@given(st.integers(-(10**16), 10**16))
def test_microseconds_and_datetimes_agree(instant_us: int) -> None:
    """The integer path gives the same instants as the datetime path."""
    trigger = IntervalTrigger(start=ANCHOR, milliseconds=1500)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    found = trigger.next_after(epoch + timedelta(microseconds=instant_us))
    assert found == epoch + timedelta(microseconds=trigger.next_after_us(instant_us) or 0)


def test_many_times_are_a_sequence_that_takes_no_memory() -> None:
    """Thirty years of seconds can be counted, indexed, sliced and iterated without being made."""
    trigger = IntervalTrigger(start=ANCHOR, seconds=1)
    times = trigger.between(ANCHOR, ANCHOR + timedelta(days=10_000))
    assert len(times) == 864_000_000
    assert times[0] == ANCHOR + timedelta(seconds=1)
    assert times[-1] == ANCHOR + timedelta(days=10_000)
    assert list(times[-2:]) == [times[-2], times[-1]]
    assert list(times[:0]) == []
    assert list(times[:3]) == [ANCHOR + timedelta(seconds=n) for n in (1, 2, 3)]


def test_durations_add_up_exactly() -> None:
    """All units together, fractions included, are added without rounding."""
    trigger = IntervalTrigger(start=ANCHOR, weeks=1, days=1, hours=1, minutes=1, seconds=1.5, milliseconds=1)
    assert trigger.interval == timedelta(days=8, hours=1, minutes=1, seconds=1, milliseconds=501)
    assert IntervalTrigger(start=ANCHOR, seconds=0.1).interval == timedelta(milliseconds=100)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "1 millisecond at least"),
        ({"seconds": 0}, "1 millisecond at least"),
        ({"seconds": -5}, "1 millisecond at least"),
        ({"milliseconds": 0.1}, "1 millisecond at least"),
        ({"seconds": 1 / 3}, "milliseconds=333"),
        ({"seconds": float("nan")}, "finite"),
        ({"seconds": float("inf")}, "finite"),
        ({"days": 10**12}, "finite"),
        ({"seconds": "5"}, "of type str"),
        ({"seconds": True}, "of type bool"),
        ({"second": 5}, "did you mean 'seconds'"),
        ({"seconds": 5, "start": datetime(2026, 1, 1)}, "no time zone"),
        ({"seconds": 5, "start": 5}, "of type int"),
        ({"seconds": 5, "end": "2020-01-01T00:00Z"}, "before its start"),
    ],
)
def test_wrong_fields_are_refused(fields: dict, words: str) -> None:
    """Each wrong value or name is one clear error."""
    with pytest.raises(InvalidTriggerError, match=words):
        IntervalTrigger.from_fields(fields, anchor=ANCHOR)


def test_every_wants_a_timedelta() -> None:
    """A bare number has no unit and is refused."""
    with pytest.raises(InvalidTriggerError, match="timedelta"):
        IntervalTrigger.every(30, anchor=ANCHOR)


def test_instants_are_kept_to_the_millisecond() -> None:
    """Anchors with microseconds are cut, so that stored fire times are the same instants."""
    trigger = IntervalTrigger.every(MINUTE, anchor=ANCHOR.replace(microsecond=123_456))
    assert trigger.start == ANCHOR.replace(microsecond=123_000)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(seconds=30), "every 30 seconds"),
        (timedelta(seconds=1), "every second"),
        (timedelta(minutes=90), "every 1 hour 30 minutes"),
        (timedelta(days=14), "every 2 weeks"),
        (timedelta(milliseconds=1500), "every 1 second 500 milliseconds"),
    ],
)
def test_describe(interval: timedelta, words: str) -> None:
    """The interval in its largest units."""
    assert IntervalTrigger.every(interval, anchor=ANCHOR).describe() == words


def test_describe_names_the_end() -> None:
    """An end is part of the words."""
    trigger = IntervalTrigger(start=ANCHOR, seconds=5, end="2026-03-01T00:00:00Z")
    assert trigger.describe() == "every 5 seconds until 2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize("end", [None, ANCHOR + timedelta(days=1)])
@pytest.mark.parametrize("interval", [MINUTE, timedelta(milliseconds=1), timedelta(days=900_000, milliseconds=7)])
def test_a_spec_rebuilds_an_equal_trigger(interval: timedelta, end: datetime | None) -> None:
    """The anchor is part of the spec, so a restart does not move the times; huge intervals stay exact."""
    trigger = IntervalTrigger.every(interval, anchor=ANCHOR.astimezone(timezone(timedelta(hours=5))), end=end)
    rebuilt = build(trigger.spec())
    assert rebuilt == trigger
    assert hash(rebuilt) == hash(trigger)
    assert rebuilt.next_after(ANCHOR + MINUTE) == trigger.next_after(ANCHOR + MINUTE)
    assert trigger != IntervalTrigger.every(interval, anchor=ANCHOR + MINUTE)


def test_the_end_of_time_is_an_answer_not_a_crash() -> None:
    """Where the next time would lie beyond the year 9999 there is none."""
    trigger = IntervalTrigger(start=ANCHOR, weeks=52_000)
    times = list(fire_times(trigger, ANCHOR))
    assert len(times) == 8
    assert trigger.next_after(times[-1]) is None
