"""Delays between attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.execution.backoff import backoff_delay
from mahavishnu.model.job import DEFAULT_BACKOFF, BackoffPolicy

POLICIES = st.builds(
    BackoffPolicy,
    initial=st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=1)),
    factor=st.floats(min_value=1, max_value=10),
    maximum=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1)),
    jitter=st.floats(min_value=0, max_value=1),
)
DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)
SLACK = timedelta(microseconds=1)


@given(policy=POLICIES, attempt=st.integers(1, 10_000), draw=DRAWS)
def test_a_delay_is_never_negative_nor_above_the_ceiling(policy: BackoffPolicy, attempt: int, draw: float) -> None:
    """Whatever the policy and however many attempts failed, the delay lies in [0, maximum]."""
    assert timedelta(0) <= backoff_delay(policy, attempt, draw=lambda: draw) <= policy.maximum


@given(policy=POLICIES, attempt=st.integers(1, 50), draw=DRAWS)
def test_jitter_only_shortens_the_delay_by_its_share(policy: BackoffPolicy, attempt: int, draw: float) -> None:
    """The delay lies between what full jitter would leave and what none would."""
    longest = backoff_delay(policy, attempt, draw=lambda: 0.0)
    delay = backoff_delay(policy, attempt, draw=lambda: draw)
    assert longest * (1 - policy.jitter) - SLACK <= delay <= longest


@given(policy=POLICIES, attempt=st.integers(1, 50))
def test_later_attempts_wait_at_least_as_long(policy: BackoffPolicy, attempt: int) -> None:
    """Without jitter the delay never shrinks from one attempt to the next."""
    now, later = (backoff_delay(policy, n, draw=lambda: 0.0) for n in (attempt, attempt + 1))
    assert now <= later


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (2_000, 900)])
def test_the_default_doubles_from_two_seconds_to_fifteen_minutes(attempt: int, seconds: int) -> None:
    """The default policy's delays before jitter, from the table in its documentation."""
    assert backoff_delay(DEFAULT_BACKOFF, attempt, draw=lambda: 0.0) == timedelta(seconds=seconds)
