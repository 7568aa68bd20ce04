"""Every combination of characteristics, with the engine and the warning it must get, written out."""

from __future__ import annotations

import itertools

import pytest

from mahavishnu.classification import VALID_VALUES, TaskCharacteristics, classify_task, explain_task

# visibility, complexity, durability, infrastructure, frequency, engine, warning code ("" for none)
TABLE = [
    ("internal", "simple", "ephemeral", "local", "high", "apscheduler", ""),
    ("internal", "simple", "ephemeral", "local", "medium", "apscheduler", ""),
    ("internal", "simple", "ephemeral", "local", "low", "apscheduler", ""),
    ("internal", "simple", "ephemeral", "distributed", "high", "oneiric", "high-frequency-on-queue"),
    ("internal", "simple", "ephemeral", "distributed", "medium", "oneiric", ""),
    ("internal", "simple", "ephemeral", "distributed", "low", "oneiric", ""),
    ("internal", "simple", "persistent", "local", "high", "oneiric", "high-frequency-on-queue"),
    ("internal", "simple", "persistent", "local", "medium", "oneiric", ""),
    ("internal", "simple", "persistent", "local", "low", "oneiric", ""),
    ("internal", "simple", "persistent", "distributed", "high", "oneiric", "high-frequency-on-queue"),
    ("internal", "simple", "persistent", "distributed", "medium", "oneiric", ""),
    ("internal", "simple", "persistent", "distributed", "low", "oneiric", ""),
    ("internal", "dag", "ephemeral", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "dag", "ephemeral", "local", "medium", "prefect", ""),
    ("internal", "dag", "ephemeral", "local", "low", "prefect", ""),
    ("internal", "dag", "ephemeral", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "dag", "ephemeral", "distributed", "medium", "prefect", ""),
    ("internal", "dag", "ephemeral", "distributed", "low", "prefect", ""),
    ("internal", "dag", "persistent", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "dag", "persistent", "local", "medium", "prefect", ""),
    ("internal", "dag", "persistent", "local", "low", "prefect", ""),
    ("internal", "dag", "persistent", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "dag", "persistent", "distributed", "medium", "prefect", ""),
    ("internal", "dag", "persistent", "distributed", "low", "prefect", ""),
    ("internal", "complex", "ephemeral", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "complex", "ephemeral", "local", "medium", "prefect", ""),
    ("internal", "complex", "ephemeral", "local", "low", "prefect", ""),
    ("internal", "complex", "ephemeral", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "complex", "ephemeral", "distributed", "medium", "prefect", ""),
    ("internal", "complex", "ephemeral", "distributed", "low", "prefect", ""),
    ("internal", "complex", "persistent", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "complex", "persistent", "local", "medium", "prefect", ""),
    ("internal", "complex", "persistent", "local", "low", "prefect", ""),
    ("internal", "complex", "persistent", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("internal", "complex", "persistent", "distributed", "medium", "prefect", ""),
    ("internal", "complex", "persistent", "distributed", "low", "prefect", ""),
    ("user-facing", "simple", "ephemeral", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "simple", "ephemeral", "local", "medium", "prefect", ""),
    ("user-facing", "simple", "ephemeral", "local", "low", "prefect", ""),
    ("user-facing", "simple", "ephemeral", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "simple", "ephemeral", "distributed", "medium", "prefect", ""),
    ("user-facing", "simple", "ephemeral", "distributed", "low", "prefect", ""),
    ("user-facing", "simple", "persistent", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "simple", "persistent", "local", "medium", "prefect", ""),
    ("user-facing", "simple", "persistent", "local", "low", "prefect", ""),
    ("user-facing", "simple", "persistent", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "simple", "persistent", "distributed", "medium", "prefect", ""),
    ("user-facing", "simple", "persistent", "distributed", "low", "prefect", ""),
    ("user-facing", "dag", "ephemeral", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "dag", "ephemeral", "local", "medium", "prefect", ""),
    ("user-facing", "dag", "ephemeral", "local", "low", "prefect", ""),
    ("user-facing", "dag", "ephemeral", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "dag", "ephemeral", "distributed", "medium", "prefect", ""),
    ("user-facing", "dag", "ephemeral", "distributed", "low", "prefect", ""),
    ("user-facing", "dag", "persistent", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "dag", "persistent", "local", "medium", "prefect", ""),
    ("user-facing", "dag", "persistent", "local", "low", "prefect", ""),
    ("user-facing", "dag", "persistent", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "dag", "persistent", "distributed", "medium", "prefect", ""),
    ("user-facing", "dag", "persistent", "distributed", "low", "prefect", ""),
    ("user-facing", "complex", "ephemeral", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "complex", "ephemeral", "local", "medium", "prefect", ""),
    ("user-facing", "complex", "ephemeral", "local", "low", "prefect", ""),
    ("user-facing", "complex", "ephemeral", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "complex", "ephemeral", "distributed", "medium", "prefect", ""),
    ("user-facing", "complex", "ephemeral", "distributed", "low", "prefect", ""),
    ("user-facing", "complex", "persistent", "local", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "complex", "persistent", "local", "medium", "prefect", ""),
    ("user-facing", "complex", "persistent", "local", "low", "prefect", ""),
    ("user-facing", "complex", "persistent", "distributed", "high", "prefect", "high-frequency-on-prefect"),
    ("user-facing", "complex", "persistent", "distributed", "medium", "prefect", ""),
    ("user-facing", "complex", "persistent", "distributed", "low", "prefect", ""),
]


@pytest.mark.parametrize(
    ("visibility", "complexity", "durability", "infrastructure", "frequency", "engine", "warning"), TABLE
)
def test_each_combination_gets_its_engine_and_its_warning(
    visibility, complexity, durability, infrastructure, frequency, engine, warning
):
    """The engine and the warnings of a row are those of the table, by both functions."""
    characteristics = TaskCharacteristics(
        visibility=visibility,
        complexity=complexity,
        durability=durability,
        infrastructure=infrastructure,
        frequency=frequency,
    )
    classification = explain_task("task", characteristics)
    assert classify_task("task", characteristics) == engine
    assert classification.engine == engine
    assert [caution.code for caution in classification.warnings] == ([warning] if warning else [])


def test_the_table_holds_every_combination_once():
    """No combination is missing from the table, and none is in it twice."""
    fields = ("visibility", "complexity", "durability", "infrastructure", "frequency")
    every = set(itertools.product(*(VALID_VALUES[field] for field in fields)))
    assert len(TABLE) == len(every) == 72
    assert {row[:5] for row in TABLE} == every
