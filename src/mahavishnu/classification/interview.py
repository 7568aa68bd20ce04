"""Which questions are still worth asking somebody who describes a task."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mahavishnu.classification.classify import classify_task, every_combination, warnings_for
from mahavishnu.classification.rules import RULES
from mahavishnu.model.engine import EngineName

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from mahavishnu.classification.characteristics import TaskCharacteristics
    from mahavishnu.classification.rules import FieldName, Rule

__all__ = ["next_question"]


def next_question(answers: Mapping[FieldName, str]) -> Rule | None:
    """Return the first rule, in order, whose answer can still make a difference.

    A difference is another engine or another warning. A question that no longer makes one is never asked: once
    a task is user-facing, for example, its complexity changes nothing.

    Args:
        answers: Field -> value, for what has been answered so far.

    Returns:
        The rule whose `question` to ask next; `None` when the decision stands.
    """
    possible = [task for task in every_combination() if _agrees(task, answers)]
    open_rules = (rule for rule in RULES if rule.field not in answers)
    return next((rule for rule in open_rules if _makes_a_difference(rule.field, possible)), None)


def _agrees(task: TaskCharacteristics, answers: Mapping[FieldName, str]) -> bool:
    return all(getattr(task, field) == value for field, value in answers.items())


def _makes_a_difference(field: FieldName, possible: list[TaskCharacteristics]) -> bool:
    outcomes_by_rest: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
    for task in possible:
        rest = tuple(getattr(task, rule.field) for rule in RULES if rule.field != field)
        outcomes_by_rest[rest].add(_outcome(task))
    return any(len(outcomes) > 1 for outcomes in outcomes_by_rest.values())


def _outcome(task: TaskCharacteristics) -> Hashable:
    engine = EngineName(classify_task("", task))
    return engine, tuple(caution.code for caution in warnings_for(engine, task))
