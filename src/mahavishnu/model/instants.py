"""Instants as whole milliseconds since the Unix epoch, the form that is stored and sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["from_ms", "to_due_ms", "to_ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Return whole milliseconds since the Unix epoch, rounded down.

    Args:
        instant: An aware datetime in any zone.
    """
    return (instant - _EPOCH) // _MILLISECOND


def to_due_ms(instant: datetime) -> int:
    """Return whole milliseconds since the Unix epoch, rounded up: what waits for them is not early.

    Args:
        instant: An aware datetime in any zone.
    """
    return -((_EPOCH - instant) // _MILLISECOND)


def from_ms(instant_ms: int) -> datetime:
    """Return the aware UTC datetime `instant_ms` milliseconds after the Unix epoch."""
    return _EPOCH + timedelta(milliseconds=instant_ms)
