"""What becomes of due fire times while an earlier occurrence is unfinished: one rule for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mahavishnu.model.policies import MisfireKind, OverlapPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.model.schedule import Schedule

__all__ = ["Decision", "decide"]

Reasoned = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with each due fire time.

    Attributes:
        run: Start now.
        hold: Start when the one before has ended, with the reason.
        skip: Leave out, with the reason.
    """

    run: Sequence[datetime]
    hold: Sequence[Reasoned] = ()
    skip: Sequence[Reasoned] = ()


def decide(schedule: Schedule, due: Sequence[datetime], unfinished: int, *, has_held: bool) -> Decision:
    """Apply a schedule's overlap policy to fire times that its misfire policy lets run.

    Args:
        schedule: Its `overlap`, `max_running` and `misfire` are read.
        due: Fire times to run, oldest first.
        unfinished: How many earlier occurrences have not ended.
        has_held: Whether one is waiting already.
    """
    if not due:
        return Decision(())
    if schedule.overlap is OverlapPolicy.ALLOW:
        return _allow(due, unfinished, schedule.max_running)
    if schedule.misfire.kind in {MisfireKind.ALL, MisfireKind.CAP} and len(due) > 1:
        return _in_turn(due, unfinished, has_held)
    if schedule.overlap is OverlapPolicy.QUEUE_ONE:
        return _queue_one(due, unfinished, has_held)
    return _skip(due, unfinished)


def _allow(due: Sequence[datetime], unfinished: int, most: int | None) -> Decision:
    free = len(due) if most is None else max(0, most - unfinished)
    reason = f"overlap: {most} occurrences are unfinished, the most allowed at once"
    return Decision(due[:free], skip=[(at, reason) for at in due[free:]])


def _in_turn(due: Sequence[datetime], unfinished: int, has_held: bool) -> Decision:
    """Missed fire times that are all to be made up run one after the other, never beside each other."""
    reason = "overlap: waits for the occurrence before it"
    free = 0 if unfinished or has_held else 1
    return Decision(due[:free], hold=[(at, reason) for at in due[free:]])


def _queue_one(due: Sequence[datetime], unfinished: int, has_held: bool) -> Decision:
    free = 0 if unfinished or has_held else 1
    wait = 0 if has_held else 1
    return Decision(
        due[:free],
        hold=[(at, "overlap: waits for the unfinished occurrence before it") for at in due[free : free + wait]],
        skip=[(at, "overlap: one occurrence is waiting already") for at in due[free + wait :]],
    )


def _skip(due: Sequence[datetime], unfinished: int) -> Decision:
    free = 0 if unfinished else 1
    return Decision(due[:free], skip=[(at, "overlap: the occurrence before it is unfinished") for at in due[free:]])
