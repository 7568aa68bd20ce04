"""One rule on every engine for due times that find an earlier occurrence unfinished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.engines.overlap import decide
from mahavishnu.model.engine import EngineName
from mahavishnu.model.policies import MisfirePolicy, OverlapPolicy
from mahavishnu.model.schedule import Schedule
from mahavishnu.model.trigger import TriggerKind, TriggerSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
DUE = [START + timedelta(minutes=number) for number in range(3)]


def _schedule(overlap="skip", misfire="latest", max_running=None):
    return Schedule(
        id="s",
        task="t",
        engine=EngineName.APSCHEDULER,
        trigger=TriggerSpec(kind=TriggerKind.DATE, fields={"run_date": START.isoformat()}),
        overlap=OverlapPolicy.parse(overlap),
        misfire=MisfirePolicy.parse(misfire),
        max_running=max_running,
    )


@pytest.mark.parametrize(
    ("schedule", "due", "unfinished", "has_held", "expected"),
    [
        (_schedule(), 1, 0, False, "1 0 0"),
        (_schedule(), 1, 1, False, "0 0 1"),
        (_schedule(), 3, 0, False, "1 0 2"),
        (_schedule("queue_one"), 1, 0, False, "1 0 0"),
        (_schedule("queue_one"), 1, 1, False, "0 1 0"),
        (_schedule("queue_one"), 1, 1, True, "0 0 1"),
        (_schedule("queue_one"), 3, 0, False, "1 1 1"),
        (_schedule("queue_one"), 3, 2, False, "0 1 2"),
        (_schedule("allow"), 3, 7, False, "3 0 0"),
        (_schedule("allow", max_running=2), 3, 0, False, "2 0 1"),
        (_schedule("allow", max_running=2), 1, 2, False, "0 0 1"),
        (_schedule("allow", max_running=2), 1, 5, False, "0 0 1"),
        (_schedule(misfire="all"), 3, 0, False, "1 2 0"),
        (_schedule(misfire="all"), 3, 1, False, "0 3 0"),
        (_schedule(misfire="cap=2"), 2, 0, True, "0 2 0"),
        (_schedule(misfire="all"), 1, 1, False, "0 0 1"),
        (_schedule("allow", misfire="all"), 3, 1, False, "3 0 0"),
        (_schedule(), 0, 1, False, "0 0 0"),
    ],
)
def test_each_due_time_is_run_held_or_skipped(schedule, due, unfinished, has_held, expected):
    """The earliest run, then come those that wait, then those left out; none is in two lists."""
    decision = decide(schedule, DUE[:due], unfinished, has_held=has_held)
    held, skipped = [at for at, _ in decision.hold], [at for at, _ in decision.skip]
    assert [*decision.run, *held, *skipped] == DUE[:due]
    assert f"{len(decision.run)} {len(held)} {len(skipped)}" == expected


def test_reasons_say_what_stood_in_the_way():
    """Whoever reads the ledger learns the policy and the number."""
    decision = decide(_schedule("allow", max_running=2), DUE[:1], 2, has_held=False)
    assert decision.skip[0][1] == "overlap: 2 occurrences are unfinished, the most allowed at once"
    assert "unfinished" in decide(_schedule(), DUE[:1], 1, has_held=False).skip[0][1]
