"""Enumerating fire times."""

from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger, Trigger, fire_times

START = datetime(2026, 2, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "trigger", [CronTrigger("@hourly", "UTC"), IntervalTrigger(start=START, hours=1)], ids=["cron", "interval"]
)
def test_bounds_and_limit(trigger: Trigger) -> None:
    """After is exclusive, until inclusive, and the limit cuts an endless enumeration."""
    assert list(fire_times(trigger, START, START + 2 * HOUR)) == [START + HOUR, START + 2 * HOUR]
    assert list(fire_times(trigger, START, limit=3)) == [START + n * HOUR for n in (1, 2, 3)]
    assert list(fire_times(trigger, START, START + 9 * HOUR, limit=1)) == [START + HOUR]
    assert list(fire_times(trigger, START, START)) == []
    assert list(fire_times(trigger, START, START - 5 * HOUR)) == []


def test_a_trigger_without_a_bulk_path_is_stepped() -> None:
    """The date trigger has no bulk path and is enumerated by `next_after`."""
    assert list(fire_times(DateTrigger(START), START - HOUR, limit=5)) == [START]
