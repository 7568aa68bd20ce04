"""A trigger in the form that is stored and sent: its kind and plain fields, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec resolves the annotations at run time
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["TriggerKind", "TriggerSpec"]


class TriggerKind(StrEnum):
    """The three ways of saying when something fires."""

    INTERVAL = "interval"
    """Every so often, counted from a fixed instant. Fields: `interval_us`, `start`, `end`."""
    DATE = "date"
    """Once, at an instant. Fields: `run_date`."""
    CRON = "cron"
    """By a cron expression. Fields: `expression`, `timezone`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """When something fires, as plain values that survive JSON; `mahavishnu.triggers.build` makes it work.

    Two specs are equal exactly where their triggers have the same definition.

    Attributes:
        kind: Which trigger.
        fields: Its definition; instants are ISO 8601 in UTC, durations whole microseconds.
    """

    kind: TriggerKind
    fields: Mapping[str, str | int | float]
