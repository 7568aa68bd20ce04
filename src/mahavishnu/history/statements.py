"""The ledger's SQL, one statement per file in `sql/`, read when first used."""

from __future__ import annotations

from functools import cache

from mahavishnu.storage.statements import load_statements

__all__ = ["migrations", "sql"]

_PACKAGE = "mahavishnu.history"


def sql(name: str) -> str:
    """Return the statement kept in `sql/<name>.sql`."""
    return _statements()[name]


def migrations() -> list[str]:
    """Return the scripts that bring an empty file to the newest layout, in order."""
    scripts = load_statements(_PACKAGE, "sql/migrations")
    return [scripts[name] for name in sorted(scripts)]


@cache
def _statements() -> dict[str, str]:
    return load_statements(_PACKAGE)
