"""Which engine a schedule goes to, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from mahavishnu.classification import Classification, TaskCharacteristics, explain_task
from mahavishnu.classification.classify import warnings_for
from mahavishnu.errors import ConfigurationError, nearest
from mahavishnu.model.engine import EngineName
from mahavishnu.triggers import Trigger, fire_times

if TYPE_CHECKING:
    from mahavishnu.classification.characteristics import Frequency

__all__ = ["Choice", "choose_engine", "parse_engine"]

_LOOKED_AT = 50
_HIGH = timedelta(minutes=1)
_LOW = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An engine for a schedule.

    Attributes:
        engine: Where it goes.
        classification: The decision and what led to it; its `engine` is `engine`.
        reasons: In words, for the ledger.
    """

    engine: EngineName
    classification: Classification
    reasons: tuple[str, ...]


def choose_engine(
    name: str, trigger: Trigger, characteristics: TaskCharacteristics | None, engine: str | None, *, now: datetime
) -> Choice:
    """Classify a task, or take the caller's engine and say what speaks against it.

    Args:
        name: The task's name.
        trigger: Tells the frequency where no characteristics are given.
        characteristics: What the task is like; `None`: only the frequency is known.
        engine: The caller's engine; `None`: the rules decide.
        now: From where the trigger's fire times are looked at.

    Raises:
        ConfigurationError: There is no such engine.
    """
    known = characteristics or TaskCharacteristics(frequency=_frequency(trigger, now))
    found = explain_task(name, known)
    if engine is None:
        return Choice(engine=found.engine, classification=found, reasons=found.reasons)
    chosen = parse_engine(engine)
    reasons = (f"engine={chosen.value!r} was given",)
    if chosen is not found.engine:
        reasons = (*reasons, f"the rules would have chosen {found.engine.value}: {found.reasons[0]}")
        found = replace(found, engine=chosen, reasons=reasons, warnings=warnings_for(chosen, known))
    return Choice(engine=chosen, classification=found, reasons=reasons)


def parse_engine(name: str) -> EngineName:
    """Return the engine of this name.

    Raises:
        ConfigurationError: There is none; the nearest one is named.
    """
    try:
        return EngineName(name)
    except ValueError:
        raise ConfigurationError(f"engine {name!r} is unknown{nearest(str(name), list(EngineName))}") from None


def _frequency(trigger: Trigger, now: datetime) -> Frequency:
    """Return `high` for more than once a minute, `low` for twice a day or less, else `medium`."""
    times = list(fire_times(trigger, now, limit=_LOOKED_AT))
    gap = min((later - earlier for earlier, later in pairwise(times)), default=_LOW)
    if gap < _HIGH:
        return "high"
    return "low" if gap >= _LOW else "medium"
