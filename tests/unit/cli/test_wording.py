"""Tests of times, durations and sizes in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.cli import wording

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (0.9, "now"),
        (-0.9, "now"),
        (3, "in 3 s"),
        (-59, "59 s ago"),
        (200, "in 3 min"),
        (-7_300, "2 h ago"),
        (90_000, "in 1 d"),
    ],
)
def test_distance_is_told_in_its_largest_unit(seconds, words):
    """A reader sees at a glance how far away an instant is, and on which side."""
    assert wording.relative(NOW + timedelta(seconds=seconds), NOW) == words


def test_instants_are_shown_in_the_zone_of_the_machine(monkeypatch):
    """The same instant reads differently on machines in different zones."""
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert wording.when(NOW, NOW - timedelta(hours=2)) == "2026-03-08 17:30:00 (in 2 h)"
        assert wording.clock_time(NOW) == "17:30:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_no_instant_is_told_in_the_callers_word():
    """What never happens has no time."""
    assert wording.when(None, NOW) == "-"
    assert wording.when(None, NOW, never="never") == "never"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "0 ms"), (0.34, "340 ms"), (1, "1 s"), (1.25, "1.2 s"), (185, "3 min 5 s"), (90_061, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds, words):
    """Precision follows the size."""
    assert wording.span(timedelta(seconds=seconds)) == words


def test_no_duration_is_a_dash():
    """What has not ended took no time yet."""
    assert wording.span(None) == "-"


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 B"), (4_000, "4.0 KB"), (85_300_000_000, "85.3 GB"), (2 * 10**15, "2000.0 TB")]
)
def test_sizes_are_short(count, words):
    """Bytes are told in the unit that keeps the number short."""
    assert wording.size(count) == words


def test_nouns_follow_their_number():
    """One job, two jobs."""
    assert [wording.counted(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
