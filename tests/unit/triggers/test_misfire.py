"""Which due fire times run, and why the others do not."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.model.policies import MisfirePolicy
from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger, due_times, plan_due

NOW = datetime(2026, 2, 7, 12, tzinfo=UTC)


def ago(*seconds: float) -> list[datetime]:
    """Return the instants so many seconds before now."""
    return [NOW - timedelta(seconds=s) for s in seconds]


def policy(text: str, grace: float = 60) -> MisfirePolicy:
    """Return a policy with a grace in seconds."""
    return MisfirePolicy.parse(text, grace=timedelta(seconds=grace))


@pytest.mark.parametrize("text", ["latest", "skip", "all", "cap=1"])
def test_what_is_on_time_runs_under_every_policy(text: str) -> None:
    """Up to and including the grace, a fire time is on time; all such run."""
    due = ago(60, 30, 0)
    plan = plan_due(due, NOW, policy(text))
    assert (plan.run, plan.skipped) == (due, [])


def test_nothing_due_is_an_empty_plan() -> None:
    """No fire times: nothing runs and nothing is skipped."""
    plan = plan_due([], NOW, policy("latest"))
    assert (plan.run, plan.skipped) == ([], [])


def test_latest_runs_the_newest_misfire() -> None:
    """With nothing on time, the newest late one runs and the others are coalesced into it."""
    due = ago(500, 400, 303)
    plan = plan_due(due, NOW, policy("latest"))
    assert plan.run == due[2:]
    (span,) = plan.skipped
    assert (span.first, span.last, span.count) == (due[0], due[1], 2)
    assert span.reason == "coalesced into 2026-02-07T11:54:57+00:00"


def test_latest_runs_no_misfire_beside_one_on_time() -> None:
    """With one on time, all late ones are coalesced into it."""
    due = ago(400, 303, 10)
    plan = plan_due(due, NOW, policy("latest"))
    assert plan.run == due[2:]
    (span,) = plan.skipped
    assert (span.count, span.reason) == (2, "coalesced into 2026-02-07T11:59:50+00:00")


def test_skip_runs_no_misfire_and_says_how_late_it_was() -> None:
    """The reason names the lateness, the grace and the policy."""
    plan = plan_due(ago(303), NOW, policy("skip"))
    assert plan.run == []
    assert plan.skipped[0].reason == "missed by 5m 3s, more than the grace of 60 s; policy skip"


def test_all_runs_all() -> None:
    """Every misfire runs, oldest first."""
    due = ago(90_000, 400, 10)
    plan = plan_due(due, NOW, policy("all"))
    assert (plan.run, plan.skipped) == (due, [])


def test_cap_runs_the_newest_few_misfires_beside_those_on_time() -> None:
    """The cap counts misfires only; older ones are skipped in one span."""
    due = ago(93_784, 400, 303, 200, 10)
    plan = plan_due(due, NOW, policy("cap=2"))
    assert plan.run == due[2:]
    (span,) = plan.skipped
    assert span.count == 2
    assert span.reason == "missed by 6m 40s to 1d 2h, more than the grace of 60 s; policy cap=2"


def test_a_grace_of_nothing_and_one_without_bound() -> None:
    """With no grace an instant is late at once; with a boundless one nothing ever is."""
    assert plan_due(ago(0.5), NOW, policy("skip", 0)).skipped[0].reason.startswith("missed by 0.5s, more than")
    boundless = MisfirePolicy(grace=timedelta.max)
    assert plan_due(ago(10**9), NOW, boundless).run == ago(10**9)


@given(
    late=st.lists(st.integers(0, 1000), unique=True).map(lambda s: sorted(s, reverse=True)),
    text=st.sampled_from(["latest", "skip", "all", "cap=1", "cap=3", "cap=500"]),
    grace=st.integers(0, 600),
)
def test_every_fire_time_has_exactly_one_fate(late: list[int], text: str, grace: int) -> None:
    """Run and skipped together are the due times, in order, nothing twice; each policy keeps its promise."""
    due = ago(*late)
    plan = plan_due(due, NOW, policy(text, grace))
    skipped = [d for s in plan.skipped for d in due if s.first <= d <= s.last]
    assert sorted([*plan.run, *skipped]) == due
    assert sum(s.count for s in plan.skipped) == len(skipped)
    misfires = [d for d, s in zip(due, late, strict=True) if s > grace]
    on_time = due[len(misfires) :]
    ran = [d for d in plan.run if d in misfires]
    kept = {"latest": 0 if on_time else 1, "skip": 0, "all": len(misfires)}.get(text)
    kept = int(text.partition("=")[2]) if kept is None else kept
    assert ran == misfires[max(0, len(misfires) - kept) :]


def test_due_times_end_now_and_begin_after_the_last_decision() -> None:
    """Strictly after the last one decided, up to and including now; as a sequence for every trigger."""
    hour = timedelta(hours=1)
    interval = IntervalTrigger.every(hour, anchor=NOW - 3 * hour)
    assert list(due_times(interval, NOW - 2 * hour, NOW)) == [NOW - hour, NOW]
    assert due_times(CronTrigger("@hourly", "UTC"), NOW - 2 * hour, NOW) == [NOW - hour, NOW]
    assert due_times(DateTrigger(NOW), NOW - hour, NOW) == [NOW]
    assert due_times(DateTrigger(NOW), NOW, NOW) == []


@pytest.mark.timeout(20)
def test_half_a_million_missed_times_are_planned_at_once() -> None:
    """A year of minutes by cron, and decades of seconds by interval, are decided without delay."""
    year = NOW - timedelta(days=365)
    minutes = due_times(CronTrigger("* * * * *", "Europe/London"), year, NOW)
    assert len(minutes) == 525_600
    plan = plan_due(minutes, NOW, policy("cap=3"))
    assert len(plan.run) == 3 + 2  # three misfires, and the two within the grace of a minute
    assert plan.skipped[0].count == 525_600 - len(plan.run)
    start = NOW - timedelta(days=10_000)
    seconds = due_times(IntervalTrigger(start=start, seconds=1), start, NOW)
    plan = plan_due(seconds, NOW, policy("latest", 0.5))
    assert plan.run == [NOW]
    assert plan.skipped[0].count == 863_999_999
