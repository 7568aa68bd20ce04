"""Tests of the decision and of its explanation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.classification import (
    CAUTIONS,
    RULES,
    VALID_VALUES,
    TaskCharacteristics,
    classify_task,
    explain_task,
    warnings_for,
)
from mahavishnu.model.engine import EngineName

CHARACTERISTICS = st.builds(
    TaskCharacteristics,
    **{field: st.sampled_from(values) for field, values in VALID_VALUES.items()},
    expected_duration=st.none() | st.timedeltas(min_value=timedelta(microseconds=1)),
)


def _codes(cautions):
    return [caution.code for caution in cautions]


@given(name=st.text(), characteristics=CHARACTERISTICS)
def test_any_task_gets_exactly_one_engine(name, characteristics):
    """One engine is chosen, it is the same twice and in both functions, and the other two are alternatives."""
    classification = explain_task(name, characteristics)
    engines = [classification.engine, *(it.engine for it in classification.alternatives)]
    assert sorted(engines) == sorted(EngineName)
    assert classify_task(name, characteristics) == classification.engine == classify_task("", characteristics)


@given(characteristics=CHARACTERISTICS)
def test_path_is_the_rules_up_to_the_first_that_holds(characteristics):
    """The questions are asked in the order of the rules, and only the last answer decides."""
    path = explain_task("task", characteristics).path
    assert [step.question for step in path] == [rule.question for rule in RULES[: len(path)]]
    assert [step.decided for step in path] == [False] * (len(path) - 1) + [True]
    assert all(step.answer == getattr(characteristics, step.field) for step in path)


@given(characteristics=CHARACTERISTICS)
def test_changes_of_an_alternative_lead_to_it_and_none_is_needless(characteristics):
    """Making all the changes leads to the alternative; leaving any of them out does not."""
    for alternative in explain_task("task", characteristics).alternatives:
        needed = {change.field: change.needed for change in alternative.changes}
        assert _classify_with(characteristics, needed) == alternative.engine
        for field in needed:
            rest = {other: value for other, value in needed.items() if other != field}
            assert _classify_with(characteristics, rest) != alternative.engine


def _classify_with(characteristics, changes):
    values = {field: getattr(characteristics, field) for field in VALID_VALUES}
    return classify_task("task", TaskCharacteristics(**{**values, **changes}))


@given(characteristics=CHARACTERISTICS)
def test_chosen_engine_is_warned_about_for_frequency_and_duration_only(characteristics):
    """The rules never choose an engine for a task whose audience, durability or place it cannot serve."""
    possible = {"long-running-in-process", "high-frequency-on-queue", "high-frequency-on-prefect"}
    assert set(_codes(explain_task("task", characteristics).warnings)) <= possible


def test_last_rule_holds_for_every_task():
    """The last rule accepts all values of its field, so that a rule always holds."""
    assert RULES[-1].values == set(VALID_VALUES[RULES[-1].field])


def test_rules_and_cautions_name_only_valid_values():
    """A typo in the data would be a rule that never holds."""
    for rule in RULES:
        assert rule.values <= set(VALID_VALUES[rule.field])
    for caution in CAUTIONS:
        for field, values in caution.when.items():
            assert values <= set(VALID_VALUES[field])
    assert len({caution.code for caution in CAUTIONS}) == len(CAUTIONS)


def test_every_rule_of_the_chosen_engine_that_holds_is_a_reason():
    """A task that is both user-facing and a DAG has two reasons for Prefect."""
    characteristics = TaskCharacteristics(visibility="user-facing", complexity="dag", durability="persistent")
    assert explain_task("sweep", characteristics).reasons == (RULES[0].reason, RULES[1].reason)


@pytest.mark.parametrize(
    ("duration", "codes"),
    [
        (None, []),
        (timedelta(minutes=5), []),
        (timedelta(minutes=5, microseconds=1), ["long-running-in-process"]),
    ],
)
def test_over_five_minutes_in_process_is_warned_about(duration, codes):
    """Five minutes is still fine; a moment more is not; an unknown duration is not held against the task."""
    characteristics = TaskCharacteristics(expected_duration=duration)
    assert classify_task("scan", characteristics) == "apscheduler"
    assert _codes(explain_task("scan", characteristics).warnings) == codes


@pytest.mark.parametrize("elsewhere", [{"durability": "persistent"}, {"complexity": "dag"}])
def test_long_runs_are_fine_on_the_other_engines(elsewhere):
    """Queues and Prefect are made for long runs."""
    characteristics = TaskCharacteristics(expected_duration=timedelta(hours=3), **elsewhere)
    assert explain_task("scan", characteristics).warnings == ()


@pytest.mark.parametrize(
    ("engine", "characteristics", "codes"),
    [
        ("apscheduler", {"visibility": "user-facing"}, ["user-facing-in-process"]),
        ("apscheduler", {"infrastructure": "distributed"}, ["distributed-in-process"]),
        ("apscheduler", {"durability": "persistent"}, ["persistent-in-process"]),
        ("oneiric", {"visibility": "user-facing"}, ["user-facing-on-queue"]),
        ("oneiric", {}, []),
        ("prefect", {}, ["overkill-on-prefect"]),
        ("prefect", {"complexity": "dag"}, []),
        ("prefect", {"frequency": "high"}, ["high-frequency-on-prefect", "overkill-on-prefect"]),
    ],
)
def test_engine_asked_for_by_name_is_judged_by_the_guide(engine, characteristics, codes):
    """Forcing an engine brings up what the guide says against it for such a task."""
    assert _codes(warnings_for(EngineName(engine), TaskCharacteristics(**characteristics))) == codes


def test_alternative_says_what_would_be_wrong_with_it_as_the_task_is():
    """A persistent, distributed task run in process would break two rules of the guide."""
    characteristics = TaskCharacteristics(durability="persistent", infrastructure="distributed")
    in_process = explain_task("rotate", characteristics).alternatives[0]
    assert in_process.engine is EngineName.APSCHEDULER
    assert _codes(in_process.warnings) == ["distributed-in-process", "persistent-in-process"]
    assert [(it.field, it.current, it.needed) for it in in_process.changes] == [
        ("durability", "persistent", "ephemeral"),
        ("infrastructure", "distributed", "local"),
    ]
    assert in_process.trade_off


@pytest.mark.parametrize(
    ("name", "characteristics", "engine"),
    [
        ("health_check", {"frequency": "high"}, "apscheduler"),
        (
            "daily_code_sweep",
            {
                "frequency": "low",
                "visibility": "user-facing",
                "complexity": "dag",
                "durability": "persistent",
                "infrastructure": "distributed",
            },
            "prefect",
        ),
        (
            "rotate_secrets",
            {"frequency": "low", "durability": "persistent", "infrastructure": "distributed"},
            "oneiric",
        ),
    ],
)
def test_examples_of_the_guide_get_the_engines_it_says(name, characteristics, engine):
    """The three worked examples come out as published, without a warning."""
    classification = explain_task(name, TaskCharacteristics(**characteristics))
    assert (classification.name, classification.engine, classification.warnings) == (name, engine, ())
