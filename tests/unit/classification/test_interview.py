"""Tests of which questions are still worth asking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.classification import RULES, VALID_VALUES, TaskCharacteristics, explain_task, next_question


@pytest.mark.parametrize(
    ("given_answers", "asked"),
    [
        ({}, "visibility"),
        ({"visibility": "user-facing"}, "frequency"),
        ({"visibility": "user-facing", "frequency": "high"}, None),
        ({"visibility": "internal"}, "complexity"),
        ({"visibility": "internal", "complexity": "dag"}, "frequency"),
        ({"visibility": "internal", "complexity": "simple"}, "durability"),
        ({"visibility": "internal", "complexity": "simple", "durability": "persistent"}, "frequency"),
        ({"visibility": "internal", "complexity": "simple", "durability": "ephemeral"}, "infrastructure"),
        (
            {"visibility": "internal", "complexity": "simple", "durability": "ephemeral", "infrastructure": "local"},
            None,
        ),
    ],
)
def test_only_questions_that_can_change_something_are_asked(given_answers, asked):
    """After these answers the next question is this one."""
    question = next_question(given_answers)
    assert (question.field if question else None) == asked


@given(task=st.fixed_dictionaries({field: st.sampled_from(values) for field, values in VALID_VALUES.items()}))
def test_questions_left_out_change_neither_engine_nor_warnings(task):
    """An interview about a task ends with the engine and warnings that its full description gets."""
    answers = {}
    order = []
    while (rule := next_question(answers)) is not None:
        answers[rule.field] = task[rule.field]
        order.append(rule.field)
    asked = explain_task("task", TaskCharacteristics(**answers))
    full = explain_task("task", TaskCharacteristics(**task))
    assert (asked.engine, asked.warnings) == (full.engine, full.warnings)
    assert order == [rule.field for rule in RULES if rule.field in order]
