"""How long the ledger remembers, and the loop that makes it forget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from mahavishnu.clock import Clock
    from mahavishnu.history.store import HistoryStore

__all__ = ["RetentionPolicy", "prune_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long the ledger keeps what has ended.

    Attributes:
        keep: How long runs and occurrences are kept after they ended; default 30 days, more than 0.
        batch: How many rows are deleted at once, default 500, at least 1: others write in between.

    Raises:
        ConfigurationError: A value is out of range.
    """

    keep: timedelta = timedelta(days=30)
    batch: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.keep <= timedelta(0):
            raise ConfigurationError(f"retention {self.keep}: it is more than 0; write for example 30 days")
        if self.batch < 1:
            raise ConfigurationError(f"retention batch {self.batch}: it is at least 1")


async def prune_all(store: HistoryStore, policy: RetentionPolicy, clock: Clock) -> int:
    """Delete everything that ended longer ago than the policy keeps, in small batches.

    After each batch it rests as long as the batch took, so that others who write are not kept waiting.

    Args:
        store: The open ledger.
        policy: How long to keep.
        clock: Says what is long ago; read once.

    Returns:
        How many rows went.
    """
    before = clock.now() - policy.keep
    deleted = 0
    while True:
        began = clock.monotonic()
        batch = await store.prune(before=before, limit=policy.batch)
        deleted += batch
        if batch < policy.batch:
            return deleted
        await asyncio.sleep(clock.monotonic() - began)
