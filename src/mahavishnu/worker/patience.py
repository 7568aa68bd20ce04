"""Trying again what a server or a disk refuses for now, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from random import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["pause_after", "persist"]

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")
_logger = logging.getLogger("mahavishnu.worker")


async def persist(what: str, action: Callable[[], Awaitable[T]]) -> T:
    """Return what `action` returns, calling it again after every failure until it does not fail.

    Pauses from 0.1 s to 5 s in between, with jitter. Cancel it to give up.

    Args:
        what: What is being done, for the log.
        action: Does it; must be safe to repeat.
    """
    failures = 0
    while True:
        try:
            result = await action()
        except Exception as exc:  # whatever a provider or store may raise: giving up would lose an outcome
            failures += 1
            await pause_after(what, exc, failures)
        else:
            if failures:
                _logger.info("worker_recovered: %s after %d failures", what, failures)
            return result


async def pause_after(what: str, error: Exception, failures: int) -> None:
    """Wait before trying again, the longer the more failures there were, and log the first and every tenth."""
    if failures % 10 == 1:
        _logger.warning("worker_waits: %s failed (%d): %s: %s", what, failures, type(error).__name__, error)
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
    await asyncio.sleep(longest * (0.5 + random() / 2))  # noqa: S311  # spreading workers, not a secret
