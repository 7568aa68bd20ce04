"""From where a ledger is said to be to the store that keeps it there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from mahavishnu.clock import Clock
    from mahavishnu.history.store import HistoryStore

__all__ = ["LEDGER_FILE", "make_history"]

LEDGER_FILE = "ledger.db"
_POSTGRES = frozenset({"postgres", "postgresql"})
_FORMS = "write 'sqlite', a file's path, 'sqlite:///PATH' or 'memory:'"


def make_history(where: str | Path | None, *, state_dir: Path, clock: Clock) -> HistoryStore:
    """Return the ledger at this place; its `open` makes what is missing.

    Args:
        where: `None` or `"sqlite"`: `ledger.db` in the state folder; a path or `sqlite:///PATH`: that file, seen
            from the state folder if relative (`sqlite:////PATH` is absolute); `"memory:"`: nowhere.
        state_dir: The state folder.
        clock: Tells the ledger the time.

    Raises:
        ConfigurationError: The place is of a kind that this version cannot use.
    """
    if where is None or isinstance(where, Path):
        return _sqlite(state_dir / (where or LEDGER_FILE), clock)
    scheme, colon, rest = where.partition(":")
    if where == "sqlite":
        return _sqlite(state_dir / LEDGER_FILE, clock)
    if scheme == "memory" and rest in {"", "//"}:
        return _memory(clock)
    if scheme == "sqlite" and rest.startswith("///") and len(rest) > len("///"):
        return _sqlite(state_dir / rest.removeprefix("///"), clock)
    if scheme in _POSTGRES and colon:
        raise ConfigurationError(f"ledger on {scheme!r}: it is not available in this version; {_FORMS}")
    if "://" in where or not where or (scheme == "sqlite" and colon):
        raise ConfigurationError(f"ledger on {scheme!r}: this is no place for a ledger; {_FORMS}")
    return _sqlite(state_dir / where, clock)


def _sqlite(path: Path, clock: Clock) -> HistoryStore:
    from mahavishnu.history.sqlite import SqliteHistory  # only the store in use is imported

    return SqliteHistory(path, clock=clock)


def _memory(clock: Clock) -> HistoryStore:
    from mahavishnu.history.memory import MemoryHistory  # only the store in use is imported

    return MemoryHistory(clock=clock)
