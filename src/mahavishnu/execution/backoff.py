"""How long to wait before the next attempt."""

from __future__ import annotations

from datetime import timedelta
from random import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.model.job import BackoffPolicy

__all__ = ["backoff_delay"]


def backoff_delay(policy: BackoffPolicy, attempt: int, *, draw: Callable[[], float] = random) -> timedelta:
    """Return how long to wait after failed attempt `attempt`.

    Args:
        policy: The growth, its ceiling and its jitter.
        attempt: The attempt that failed, from 1.
        draw: Returns a number in [0, 1) that places the delay within the jitter.

    Returns:
        A delay in `[d * (1 - jitter), d]`, where `d` is `initial * factor ** (attempt - 1)`, at most `maximum`.
    """
    ceiling = policy.maximum.total_seconds()
    try:
        seconds = min(ceiling, policy.initial.total_seconds() * policy.factor ** (attempt - 1))
    except OverflowError:  # far beyond any ceiling
        seconds = ceiling
    return timedelta(seconds=seconds * (1.0 - policy.jitter * draw()))
