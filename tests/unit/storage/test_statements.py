"""SQL files by name."""

from __future__ import annotations

import pytest

from mahavishnu.storage.statements import load_statements


def test_every_statement_of_a_package_is_loaded():
    """Each file is found under its name without the ending."""
    statements = load_statements("mahavishnu.queues.providers")
    assert statements["newest_message"] == "SELECT coalesce(max(seq), 0) FROM message"
    assert not any(name.endswith(".sql") for name in statements)


def test_a_missing_folder_is_an_error():
    """An incomplete installation does not pass for one without statements."""
    with pytest.raises(FileNotFoundError):
        load_statements("mahavishnu.queues.providers", "nothing")
