"""Which engine suits a task: its characteristics in, an engine with reasons out."""

from mahavishnu.classification.characteristics import (
    VALID_VALUES,
    Complexity,
    Durability,
    Frequency,
    Infrastructure,
    TaskCharacteristics,
    Visibility,
)
from mahavishnu.classification.classify import (
    Alternative,
    Change,
    Classification,
    EngineKey,
    Step,
    classify_task,
    explain_task,
    warnings_for,
)
from mahavishnu.classification.interview import next_question
from mahavishnu.classification.rules import CAUTIONS, RULES, Caution, Rule

__all__ = [
    "CAUTIONS",
    "RULES",
    "VALID_VALUES",
    "Alternative",
    "Caution",
    "Change",
    "Classification",
    "Complexity",
    "Durability",
    "EngineKey",
    "Frequency",
    "Infrastructure",
    "Rule",
    "Step",
    "TaskCharacteristics",
    "Visibility",
    "classify_task",
    "explain_task",
    "next_question",
    "warnings_for",
]
