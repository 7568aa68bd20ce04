"""Every ledger store keeps the same promises."""

from __future__ import annotations

from mahavishnu.history.memory import MemoryHistory
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.testing.history_suite import HistoryStoreSuite


class TestMemoryHistory(HistoryStoreSuite):
    """The ledger in memory."""

    def make_store(self, folder, clock):
        """Return a ledger in memory."""
        return MemoryHistory(clock=clock)


class TestSqliteHistory(HistoryStoreSuite):
    """The ledger in a SQLite file."""

    def make_store(self, folder, clock):
        """Return a ledger in the folder's file."""
        return SqliteHistory(folder / "ledger.db", clock=clock)
