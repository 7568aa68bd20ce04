"""What has to be known about a task before an engine can be chosen for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "VALID_VALUES",
    "Complexity",
    "Durability",
    "Frequency",
    "Infrastructure",
    "TaskCharacteristics",
    "Visibility",
]

Frequency = Literal["high", "medium", "low"]
"""How often a task runs; `high` is more than once a minute."""
Visibility = Literal["internal", "user-facing"]
"""Whether people follow its runs; `user-facing` ones want a page to look at."""
Complexity = Literal["simple", "dag", "complex"]
"""How its steps hang together: one step, a graph of steps, or steps chosen while it runs."""
Durability = Literal["ephemeral", "persistent"]
"""Whether it must still run after the process it was scheduled in has stopped."""
Infrastructure = Literal["local", "distributed"]
"""Whether this process may run it, or other processes and machines have to."""

VALID_VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "frequency": get_args(Frequency),
        "visibility": get_args(Visibility),
        "complexity": get_args(Complexity),
        "durability": get_args(Durability),
        "infrastructure": get_args(Infrastructure),
    }
)
"""Field name -> its valid values, in the order in which they are documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCharacteristics:
    """What is known about a task. Every field has a default, the least demanding one.

    Args:
        frequency: `"high"` (more than once a minute), `"medium"` (default) or `"low"`.
        visibility: `"internal"` (default) or `"user-facing"`.
        complexity: `"simple"` (default), `"dag"` or `"complex"`.
        durability: `"ephemeral"` (default) or `"persistent"`.
        infrastructure: `"local"` (default) or `"distributed"`.
        expected_duration: How long one run usually takes; `None` (default) when nobody knows.

    Raises:
        ConfigurationError: A value is not one of the valid ones, or the duration is not above zero.
    """

    frequency: Frequency = "medium"
    visibility: Visibility = "internal"
    complexity: Complexity = "simple"
    durability: Durability = "ephemeral"
    infrastructure: Infrastructure = "local"
    expected_duration: timedelta | None = None

    def __post_init__(self) -> None:
        for field, valid in VALID_VALUES.items():
            _require_one_of(field, getattr(self, field), valid)
        _require_duration(self.expected_duration)


def _require_one_of(field: str, value: object, valid: tuple[str, ...]) -> None:
    if value in valid:
        return
    close = difflib.get_close_matches(str(value), valid, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(f"task characteristic {field}={value!r} is not one of {', '.join(valid)}{hint}")


def _require_duration(value: object) -> None:
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return
    raise ConfigurationError(
        f"task characteristic expected_duration={value!r} is not a timedelta above zero;"
        " give one such as timedelta(minutes=10), or None when it is not known"
    )
