"""The calendar against a minute-by-minute simulation of cron's own main loop, in zones whose clocks change."""

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mahavishnu.triggers import CronExpression, CronTrigger, fire_times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPAN_DAYS = 4
# (zone, a UTC day near which its clock changes)
CHANGES = [
    ("UTC", "2026-02-27"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Europe/London", "2026-03-29"),
    ("Europe/London", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Kwajalein", "1993-08-21"),
    ("Africa/Monrovia", "1972-01-07"),
    ("America/St_Johns", "2026-11-01"),
    ("Africa/Casablanca", "2026-02-15"),
    ("America/Caracas", "2007-12-09"),
    ("Asia/Pyongyang", "2018-05-04"),
    ("Antarctica/Casey", "2020-10-03"),
]


# --- the oracle: cron's rules written down a second time, as slowly and as plainly as possible ---

NAMES = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
BOUNDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def plain_values(index: int, text: str) -> set[int]:
    """Return the values a field lists."""
    low, high = BOUNDS[index]
    for number, name in enumerate(NAMES.get(index, []), low):
        text = re.sub(name, str(number), text, flags=re.IGNORECASE)
    found: set[int] = set()
    for part in text.split(","):
        match = re.match(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        first = int(match[1]) if match[1] else low
        last = int(match[2]) if match[2] else (first if match[1] else high)
        found |= {n for n in range(first, last + 1) if (n - first) % int(match[3] or 1) == 0}
    return {n % 7 for n in found} if index == 4 else found


class PlainJob:
    """A job as cron's main loop sees it."""

    def __init__(self, expression: str) -> None:
        words = expression.split()
        self.sets = [plain_values(i, word) for i, word in enumerate(words)]
        self.any_day_field_starred = words[2].startswith("*") or words[4].startswith("*")
        self.wildcard = words[0].startswith("*") or words[1].startswith("*")

    def wanted_at(self, local: datetime) -> bool:
        """Return whether the fields match a wall-clock minute."""
        minute, hour, day, month, weekday = self.sets
        if local.minute not in minute or local.hour not in hour or local.month not in month:
            return False
        on_day, on_weekday = local.day in day, local.isoweekday() % 7 in weekday
        return (on_day and on_weekday) if self.any_day_field_starred else (on_day or on_weekday)


def simulate(expression: str, pulses: list[tuple[datetime, int]]) -> list[datetime]:
    """Run cron's main loop over its awakenings: (instant, local minute counted from 1970)."""
    job = PlainJob(expression)
    fired: list[datetime] = []
    virtual = pulses[0][1]

    def run(minute: int, *, wild: bool, fixed: bool) -> bool:
        local = datetime(1970, 1, 1) + timedelta(minutes=minute)
        return (wild if job.wildcard else fixed) and job.wanted_at(local)

    for instant, clock in pulses[1:]:
        difference = clock - virtual
        if difference == 1 or difference > 180 or difference <= -180:
            virtual = clock
            starts = run(clock, wild=True, fixed=True)
        elif difference <= 0:
            starts = run(clock, wild=True, fixed=False)
        else:
            missed = range(virtual + 1, clock + 1)
            late = difference <= 5
            starts = (not late and run(clock, wild=True, fixed=False)) or any(
                run(m, wild=late, fixed=True) for m in missed
            )
            virtual = clock
        if starts:
            fired.append(instant)
    return fired


@cache
def pulses(zone_name: str, day: str) -> list[tuple[datetime, int]]:
    """Return the instants at which the local minute changes, over some days around `day`, and that minute."""
    zone = ZoneInfo(zone_name)
    second = int((datetime.fromisoformat(day).replace(tzinfo=UTC) - EPOCH).total_seconds()) - 2 * 86_400
    end = second + SPAN_DAYS * 86_400
    found: list[tuple[datetime, int]] = []
    last = None
    while second < end:
        instant = EPOCH + timedelta(seconds=second)
        offset = int(instant.astimezone(zone).utcoffset().total_seconds())
        minute, past = divmod(second + offset, 60)
        if minute != last and past == 0:
            found.append((instant, minute))
            last = minute
        # Offsets with odd seconds exist: after a change, look again at every second until a minute begins.
        second += 60 - past if past else 60
    return found


# --- random expressions ---


def elements(index: int) -> st.SearchStrategy[str]:
    """Return a strategy for one part of a field, reversed ranges left out."""
    low, high = BOUNDS[index]
    number = st.integers(low, high)
    step = st.sampled_from(["", "", "/1", "/2", "/3", "/5", "/7", "/15", "/25", "/70"])
    span = st.tuples(number, number).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    parts = [number.map(str), st.builds(str.__add__, span, step), st.builds(lambda s: f"*{s}", step)]
    if index in NAMES:
        parts.append(st.sampled_from(NAMES[index]))
    return st.one_of(parts)


def field(index: int) -> st.SearchStrategy[str]:
    """Return a strategy for a field; day fields are mostly free, so that something fires in a few days."""
    listed = st.lists(elements(index), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.just("*"), listed) if index >= 2 else listed


def night_minutes() -> st.SearchStrategy[str]:
    """Return a strategy for fixed minutes and hours of the night, where clocks change."""
    hours = st.sampled_from(["0", "1", "2", "3", "23", "0-3", "1,2", "0,23", "*", "*/2", "2-3"])
    minutes = st.sampled_from(["0", "15", "30", "59", "15,45", "*", "*/20", "0,30", "1-5", "29-31"])
    return st.builds("{} {}".format, minutes, hours)


EXPRESSIONS = st.builds(
    "{} {} {} {}".format,
    st.one_of(night_minutes(), st.builds("{} {}".format, field(0), field(1))),
    field(2),
    field(3),
    field(4),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expression=EXPRESSIONS, change=st.sampled_from(CHANGES))
def test_the_calendar_equals_crons_main_loop(expression: str, change: tuple[str, str]) -> None:
    """Over four days around a clock change, bulk and single steps give exactly the times cron would run."""
    zone, day = change
    ticks = pulses(zone, day)
    expected = simulate(expression, ticks)
    trigger = CronTrigger(CronExpression.parse(expression), zone)
    first, last = ticks[0][0], ticks[-1][0]
    assert list(fire_times(trigger, first, last)) == expected
    stepped = []
    instant = trigger.next_after(first)
    while instant is not None and instant <= last:
        stepped.append(instant)
        instant = trigger.next_after(instant)
    assert stepped == expected


@settings(max_examples=150, deadline=None)
@given(expression=EXPRESSIONS, change=st.sampled_from(CHANGES), seconds=st.integers(1, (SPAN_DAYS - 1) * 86_400))
def test_any_instant_leads_to_the_next_time_of_the_one_sequence(
    expression: str, change: tuple[str, str], seconds: int
) -> None:
    """Asking from any instant, also inside a repeated hour, gives the first later time of the whole sequence."""
    ticks = pulses(*change)
    expected = simulate(expression, ticks)
    asked = ticks[0][0] + timedelta(seconds=seconds, microseconds=seconds % 999_999)
    trigger = CronTrigger(CronExpression.parse(expression), change[0])
    found = trigger.next_after(asked.astimezone(ZoneInfo(change[0])))
    position = bisect_right(expected, asked)
    if position < len(expected):
        assert found == expected[position]
    else:
        assert found is None or found > ticks[-1][0]


@settings(max_examples=200, deadline=None)
@given(expression=EXPRESSIONS, start=st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1)))
def test_without_clock_changes_cronsim_agrees(expression: str, start: datetime) -> None:
    """In a zone without changes the next five times are those of an independent implementation."""
    assume(not re.search(r"\b(\d+)-\1/", expression))  # cronsim reads 5-5/3 as 5/3
    trigger = CronTrigger(CronExpression.parse(expression), "UTC")
    ours = list(fire_times(trigger, start.replace(tzinfo=UTC), limit=5))
    if CronExpression.parse(expression).never_fires:
        assert ours == []
        return
    theirs = CronSim(expression, start.replace(tzinfo=UTC))
    assert ours == [next(theirs) for _ in range(5)]


@settings(max_examples=100, deadline=None)
@given(expression=EXPRESSIONS, change=st.sampled_from(CHANGES))
def test_times_ascend_and_single_steps_equal_the_bulk(expression: str, change: tuple[str, str]) -> None:
    """Over a year and more, times ascend strictly and `next_after` walks the same sequence as the bulk path."""
    trigger = CronTrigger(CronExpression.parse(expression), change[0])
    start = datetime.fromisoformat(change[1]).replace(tzinfo=UTC) - timedelta(days=200)
    times = list(fire_times(trigger, start, limit=60))
    assert all(a < b for a, b in pairwise(times))
    assert [trigger.next_after(a) for a in [start, *times[:-1]]] == times or times == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: f"{c[0]} {c[1]}")
def test_the_oracle_sees_a_clock_change_where_one_is_claimed(change: tuple[str, str]) -> None:
    """Every listed change but UTC's really makes the local minute jump, so the comparison means something."""
    minutes = [minute for _, minute in pulses(*change)]
    jumps = [b - a for a, b in pairwise(minutes) if b - a != 1]
    assert bool(jumps) is (change[0] != "UTC")
