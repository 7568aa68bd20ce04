"""Prefect's instants as plain ones: its own kind of datetime does not go with the standard library's arithmetic.

Which kind that is depends on the Python version, and on some of them it carries no types: so it is read here only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

__all__ = ["anchor_of", "due_at", "ended_at", "plain_instant", "started_at"]


class _Timed(Protocol):
    """What a flow run says of its times."""

    @property
    def expected_start_time(self) -> datetime | None: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def end_time(self) -> datetime | None: ...


class _Anchored(Protocol):
    """What an interval schedule says of its origin."""

    @property
    def anchor_date(self) -> datetime: ...


def plain_instant(at: datetime) -> datetime:
    """Return an aware datetime, of whatever class, as a plain one in UTC."""
    there = at.astimezone(UTC)
    return datetime.combine(there.date(), there.time(), UTC)


def due_at(run: _Timed) -> datetime | None:
    """Return when a flow run is or was due to start."""
    return _plain(run.expected_start_time)


def started_at(run: _Timed) -> datetime | None:
    """Return when a flow run started; `None`: it has not."""
    return _plain(run.start_time)


def ended_at(run: _Timed) -> datetime | None:
    """Return when a flow run ended; `None`: it has not."""
    return _plain(run.end_time)


def anchor_of(schedule: _Anchored) -> datetime:
    """Return the instant that an interval schedule's fire times are counted from."""
    return plain_instant(schedule.anchor_date)


def _plain(at: datetime | None) -> datetime | None:
    return None if at is None else plain_instant(at)
