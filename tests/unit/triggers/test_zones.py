"""Stretches of constant offset, and what cron does where they meet."""

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mahavishnu.triggers import CronExpression
from mahavishnu.triggers.calendar import CronCalendar
from mahavishnu.triggers.zones import LocalClock, Stretch

CHANGE = datetime(2026, 6, 15, 12, tzinfo=UTC)
NOON = int(CHANGE.timestamp())


class Jump(tzinfo):
    """A zone that is UTC until a change, and ahead of it by a fixed span from then on."""

    def __init__(self, by: timedelta, until: datetime | None = None) -> None:
        self.by = by
        self.until = until

    def fromutc(self, dt: datetime) -> datetime:
        """Return local time, remembering nothing."""
        return (dt + self._at(dt.replace(tzinfo=UTC))).replace(tzinfo=_Fixed(self._at(dt.replace(tzinfo=UTC))))

    def _at(self, instant: datetime) -> timedelta:
        jumped = instant >= CHANGE and (self.until is None or instant < self.until)
        return self.by if jumped else timedelta(0)


class _Fixed(tzinfo):
    def __init__(self, offset: timedelta) -> None:
        self.offset = offset

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return self.offset


def after_change(by: timedelta) -> Stretch:
    """Return the stretch that begins with a jump."""
    stretch = LocalClock(Jump(by)).at(NOON)
    assert stretch is not None
    assert stretch.start == NOON
    return stretch


@pytest.mark.parametrize(
    ("minutes", "skipped", "wildcards"),
    [(1, 1, True), (4, 4, True), (5, 5, False), (30, 30, False), (179, 179, False), (180, 0, False), (1439, 0, False)],
)
def test_a_jump_forward(minutes: int, skipped: int, wildcards: bool) -> None:
    """Below three hours the skipped minutes are made up; below five minutes for wildcard jobs too."""
    stretch = after_change(timedelta(minutes=minutes))
    count = 0 if stretch.skipped is None else stretch.skipped[1] - stretch.skipped[0] + 1
    assert (count, stretch.wildcards_caught_up) == (skipped, wildcards)
    assert stretch.fixed_from == stretch.first


@pytest.mark.parametrize(("minutes", "held"), [(1, 1), (30, 30), (60, 60), (180, 180), (181, 0), (1439, 0)])
def test_a_jump_back(minutes: int, held: int) -> None:
    """Up to three hours fixed jobs wait until the clock has caught up; beyond that nothing is held back."""
    stretch = after_change(-timedelta(minutes=minutes))
    assert stretch.fixed_from - stretch.first == held
    assert stretch.skipped is None


def test_offsets_with_seconds_begin_at_the_next_whole_local_minute() -> None:
    """After a jump by 44 min 30 s the first local minute begins 30 seconds later."""
    stretch = after_change(timedelta(minutes=44, seconds=30))
    assert stretch.first * 60 - stretch.offset == NOON + 30
    assert stretch.skipped is not None
    assert stretch.skipped[1] - stretch.skipped[0] + 1 == 45


class TwoJumps(Jump):
    """Back by an hour, and 20 minutes later to an hour ahead."""

    def _at(self, instant: datetime) -> timedelta:
        if instant < CHANGE:
            return timedelta(0)
        return timedelta(hours=-1 if instant < CHANGE + timedelta(minutes=20) else 1)


def test_a_second_change_while_fixed_jobs_are_held_back() -> None:
    """Fixed jobs held back over a whole stretch go on where they had stopped, and catch up from there."""
    clock = LocalClock(TwoJumps(timedelta(0)))
    held = clock.at(NOON)
    assert held is not None
    assert held.fixed_from > held.last
    following = clock.after(held)
    assert following is not None
    assert following.skipped == (held.fixed_from, following.first - 1)
    fixed = CronCalendar(CronExpression.parse("5 12 * * *"))
    assert fixed.next_in(held, held.first) is None
    assert fixed.next_in(following, following.first) == following.first


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Africa/Casablanca", "Pacific/Apia", "Africa/Monrovia"])
def test_stretches_cover_the_years_without_gaps(zone: str) -> None:
    """Neighbouring stretches touch, within a year and from year to year, and have the zone's own offset."""
    clock = LocalClock(ZoneInfo(zone))
    stretches = [s for year in range(1970, 2030) for s in clock.stretches(year)]
    assert all(a.end == b.start for a, b in pairwise(stretches))
    for stretch in stretches:
        for second in (stretch.start, (stretch.start + stretch.end) // 2, stretch.end - 1):
            offset = datetime.fromtimestamp(second, ZoneInfo(zone)).utcoffset()
            assert offset == timedelta(seconds=stretch.offset)


def test_a_hold_reaches_over_the_turn_of_the_year() -> None:
    """A change back in the last hour of a UTC year still holds fixed jobs back in the new one."""

    class NewYear(Jump):
        def _at(self, instant: datetime) -> timedelta:
            return timedelta(hours=-2) if instant >= datetime(2026, 12, 31, 23, 30, tzinfo=UTC) else timedelta(0)

    clock = LocalClock(NewYear(timedelta(0)))
    new_year = clock.stretches(2027)[0]
    assert new_year.fixed_from - new_year.first == 90


def test_outside_the_calendar_there_are_no_stretches() -> None:
    """The first and last years have none, because local times there may not exist."""
    clock = LocalClock(ZoneInfo("UTC"))
    assert clock.stretches(1) == ()
    assert clock.stretches(9999) == ()
