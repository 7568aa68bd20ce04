"""Instants in milliseconds: what is due is never early, and what is stored comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.model.instants import from_ms, to_due_ms, to_ms

INSTANTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]))
MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("microsecond", "down", "up"), [(0, 0, 0), (1, 0, 1), (999, 0, 1), (1_000, 1, 1), (1_001, 1, 2)]
)
def test_parts_of_a_millisecond(microsecond: int, down: int, up: int) -> None:
    """An instant is rounded down, a due time up."""
    instant = datetime(1970, 1, 1, 0, 0, 0, microsecond, tzinfo=UTC)
    assert (to_ms(instant), to_due_ms(instant)) == (down, up)


@given(INSTANTS)
def test_what_waits_for_a_due_time_is_not_early(instant: datetime) -> None:
    """The rounded instants enclose the given one within a millisecond, before the epoch as after it."""
    early, late = from_ms(to_ms(instant)), from_ms(to_due_ms(instant))
    assert early <= instant <= late
    assert late - early <= MILLISECOND
