"""Decide on an engine by the rules, and say why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Literal

from mahavishnu.classification.characteristics import VALID_VALUES, TaskCharacteristics
from mahavishnu.classification.rules import CAUTIONS, RULES, TRADE_OFFS
from mahavishnu.model.engine import EngineName

if TYPE_CHECKING:
    from mahavishnu.classification.rules import Caution, FieldName, Rule

__all__ = [
    "Alternative",
    "Change",
    "Classification",
    "EngineKey",
    "Step",
    "classify_task",
    "every_combination",
    "explain_task",
    "warnings_for",
]

EngineKey = Literal["apscheduler", "oneiric", "prefect"]
"""What `classify_task` answers; equal to the values of `EngineName`."""

_FIELDS_IN_RULE_ORDER: tuple[FieldName, ...] = tuple(dict.fromkeys(rule.field for rule in RULES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question that was asked on the way to a decision.

    Args:
        question: The question.
        field: The characteristic that answered it.
        answer: Its value.
        decided: Whether the answer settled the engine; true for the last step only.
    """

    question: str
    field: FieldName
    answer: str
    decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A characteristic that would have to be different for another engine to be chosen.

    Args:
        field: The characteristic.
        current: Its value now.
        needed: The value it would have to have.
    """

    field: FieldName
    current: str
    needed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """An engine that was not chosen.

    Args:
        engine: The engine.
        changes: The fewest changes after which the rules choose it, in rule order.
        trade_off: What it gives and what it costs.
        warnings: What would be wrong with running the task there as it is.
    """

    engine: EngineName
    changes: tuple[Change, ...]
    trade_off: str
    warnings: tuple[Caution, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """An engine for a task, with everything that led to it.

    Args:
        name: The task's name.
        characteristics: What was known about it.
        engine: Where it belongs.
        path: The questions asked, in order, up to the one that decided.
        reasons: Why this engine: one sentence for each of its rules that holds, at least one.
        warnings: What nevertheless speaks against it; empty for most tasks.
        alternatives: The other two engines.
    """

    name: str
    characteristics: TaskCharacteristics
    engine: EngineName
    path: tuple[Step, ...]
    reasons: tuple[str, ...]
    warnings: tuple[Caution, ...]
    alternatives: tuple[Alternative, ...]


def classify_task(name: str, characteristics: TaskCharacteristics) -> EngineKey:
    """Choose the engine for a task: the one named by the first rule that holds.

    Args:
        name: The task's name; it does not influence the choice.
        characteristics: What is known about the task.

    Returns:
        `"apscheduler"` (in process), `"oneiric"` (durable queue) or `"prefect"`.
    """
    return _deciding_rule(characteristics).engine.value


def explain_task(name: str, characteristics: TaskCharacteristics) -> Classification:
    """Choose the engine for a task and say why, what speaks against it, and what else there is.

    Args:
        name: The task's name; it does not influence the choice.
        characteristics: What is known about the task.

    Returns:
        The decision; its `engine` equals what `classify_task` answers.
    """
    deciding = _deciding_rule(characteristics)
    engine = deciding.engine
    return Classification(
        name=name,
        characteristics=characteristics,
        engine=engine,
        path=_path_to(deciding, characteristics),
        reasons=tuple(rule.reason for rule in RULES if rule.engine is engine and rule.holds(characteristics)),
        warnings=warnings_for(engine, characteristics),
        alternatives=tuple(_alternative(other, characteristics) for other in EngineName if other is not engine),
    )


def warnings_for(engine: EngineName, characteristics: TaskCharacteristics) -> tuple[Caution, ...]:
    """Return what speaks against running a task on an engine, whether or not the rules chose it.

    Args:
        engine: The engine in question.
        characteristics: What is known about the task.

    Returns:
        The cautions that apply, in the order of `CAUTIONS`; usually none.
    """
    return tuple(caution for caution in CAUTIONS if caution.engine is engine and caution.applies_to(characteristics))


def _deciding_rule(characteristics: TaskCharacteristics) -> Rule:
    return next(rule for rule in RULES if rule.holds(characteristics))


def _path_to(deciding: Rule, characteristics: TaskCharacteristics) -> tuple[Step, ...]:
    asked = RULES[: RULES.index(deciding) + 1]
    return tuple(
        Step(
            question=rule.question,
            field=rule.field,
            answer=getattr(characteristics, rule.field),
            decided=rule is deciding,
        )
        for rule in asked
    )


def _alternative(engine: EngineName, characteristics: TaskCharacteristics) -> Alternative:
    # The duration decides nothing, and without it there are 72 combinations to remember, not endlessly many.
    return Alternative(
        engine=engine,
        changes=_fewest_changes(engine, replace(characteristics, expected_duration=None)),
        trade_off=TRADE_OFFS[engine],
        warnings=warnings_for(engine, characteristics),
    )


@cache
def _fewest_changes(engine: EngineName, current: TaskCharacteristics) -> tuple[Change, ...]:
    candidates = (
        _changes(current, target) for target in every_combination() if _deciding_rule(target).engine is engine
    )
    return min(candidates, key=len)


@cache
def every_combination() -> tuple[TaskCharacteristics, ...]:
    """Return all tasks that differ in a characteristic other than the duration, 72 of them."""
    fields = _FIELDS_IN_RULE_ORDER[::-1]
    answers = product(*(VALID_VALUES[field] for field in fields))
    return tuple(TaskCharacteristics(**dict(zip(fields, row, strict=True))) for row in answers)  # pyright: ignore[reportArgumentType] (the values are the valid ones)


def _changes(current: TaskCharacteristics, target: TaskCharacteristics) -> tuple[Change, ...]:
    return tuple(
        Change(field=field, current=getattr(current, field), needed=getattr(target, field))
        for field in _FIELDS_IN_RULE_ORDER
        if getattr(current, field) != getattr(target, field)
    )
