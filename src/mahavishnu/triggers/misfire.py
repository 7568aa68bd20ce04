"""Which of several due fire times run, and why the others do not."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mahavishnu.model.policies import MisfireKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from mahavishnu.model.policies import MisfirePolicy

__all__ = ["DuePlan", "SkippedSpan", "plan_due"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedSpan:
    """Neighbouring fire times that do not run, for one reason.

    Attributes:
        first: The first of them (UTC).
        last: The last of them; equal to `first` for a single one.
        count: How many there are, 1 or more.
        reason: Why, in words.
    """

    first: datetime
    last: datetime
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePlan:
    """What to do with the fire times that are due: each of them is in `run` or in exactly one span.

    Attributes:
        run: Those that run, ascending.
        skipped: The others, ascending.
    """

    run: list[datetime] = field(default_factory=list["datetime"])
    skipped: list[SkippedSpan] = field(default_factory=list[SkippedSpan])


def plan_due(due: Sequence[datetime], now: datetime, policy: MisfirePolicy) -> DuePlan:
    """Decide which due fire times run.

    One that is at most `policy.grace` late is on time and runs. Older ones are misfires: with `latest` the
    newest of them runs unless one is on time, with `skip` none, with `all` all, with `cap` the newest few.
    The time taken depends on how many run, not on how many are due.

    Args:
        due: Ascending aware fire times, none later than `now`; as `due_times` returns them.
        now: The current instant, aware.
        policy: The schedule's misfire policy.
    """
    late_count = _late_count(due, now, policy)
    kept = _kept(late_count, len(due) - late_count, policy)
    skipped = late_count - kept
    plan = DuePlan(run=list(due[skipped:]))
    if skipped:
        plan.skipped.append(_span(due[:skipped], now, policy, plan.run))
    return plan


def _late_count(due: Sequence[datetime], now: datetime, policy: MisfirePolicy) -> int:
    try:
        return bisect_left(due, now - policy.grace)
    except OverflowError:  # a grace that reaches back beyond the year 1: nothing is ever late
        return 0


def _kept(late: int, on_time: int, policy: MisfirePolicy) -> int:
    """Return how many misfires, counted from the newest, still run."""
    match policy.kind:
        case MisfireKind.LATEST:
            return 0 if on_time else min(late, 1)
        case MisfireKind.SKIP:
            return 0
        case MisfireKind.ALL:
            return late
        case MisfireKind.CAP:
            return min(late, policy.cap or 0)


def _span(skipped: Sequence[datetime], now: datetime, policy: MisfirePolicy, run: Sequence[datetime]) -> SkippedSpan:
    first, last = skipped[0], skipped[-1]
    if policy.kind is MisfireKind.LATEST:
        reason = f"coalesced into {run[0].isoformat()}"
    else:
        least, most = _words(now - last), _words(now - first)
        late = least if len(skipped) == 1 else f"{least} to {most}"
        reason = f"missed by {late}, more than the grace of {_seconds(policy.grace)}; policy {policy}"
    return SkippedSpan(first=first, last=last, count=len(skipped), reason=reason)


def _words(span: timedelta) -> str:
    """Return a span as its two largest units, such as `5m 3s`; below a minute with one decimal."""
    total = span.total_seconds()
    if total < 60:
        return f"{total:.1f}s".replace(".0s", "s")
    minutes, seconds = divmod(int(total), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")) if n]
    return " ".join(parts[:2])


def _seconds(grace: timedelta) -> str:
    return f"{grace.total_seconds():g} s"
