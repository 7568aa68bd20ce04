"""Prefect's instants as plain ones: its own kind of datetime does not go with the standard library's arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["plain_instant"]


def plain_instant(at: datetime) -> datetime:
    """Return an aware datetime, of whatever class, as a plain one in UTC."""
    there = at.astimezone(UTC)
    return datetime.combine(there.date(), there.time(), UTC)
