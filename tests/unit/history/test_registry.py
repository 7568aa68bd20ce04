"""A ledger is made from where it is said to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import ConfigurationError
from mahavishnu.history.registry import make_history


@pytest.mark.parametrize(
    ("where", "path"),
    [
        (None, "/state/ledger.db"),
        ("sqlite", "/state/ledger.db"),
        ("sqlite:////data/my%20ledger.db", "/data/my%20ledger.db"),
        ("sqlite:///sub/l.db", "/state/sub/l.db"),
        ("/data/l.db", "/data/l.db"),
        ("l.db", "/state/l.db"),
        (Path("/data/l.db"), "/data/l.db"),
    ],
)
def test_files_are_found_from_the_state_folder(where, path):
    """Relative places are in the state folder, absolute ones where they say, character by character."""
    store = make_history(where, state_dir=Path("/state"), clock=SYSTEM_CLOCK)
    assert store.url == f"sqlite:///{path}"


@pytest.mark.parametrize("where", ["memory:", "memory://"])
def test_memory_is_nowhere(where):
    """Nothing is written for it."""
    assert make_history(where, state_dir=Path("/state"), clock=SYSTEM_CLOCK).url == "memory:"


@pytest.mark.parametrize("where", ["postgresql://me:secret@db/ledger", "postgres://db/x"])
def test_postgres_is_refused_without_showing_credentials(where):
    """It is said that it is not there yet, and what is."""
    with pytest.raises(ConfigurationError, match="not available in this version") as raised:
        make_history(where, state_dir=Path("/state"), clock=SYSTEM_CLOCK)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("where", ["mysql://db/x", "sqlite://x", "sqlite:///", "", "http://x:secret@y"])
def test_other_places_are_refused(where):
    """The forms that work are named."""
    with pytest.raises(ConfigurationError, match="sqlite:///PATH") as raised:
        make_history(where, state_dir=Path("/state"), clock=SYSTEM_CLOCK)
    assert "secret" not in str(raised.value)


def test_registry_imports_no_store():
    """Asking for one store does not load the others."""
    stores = "('mahavishnu.history.sqlite', 'mahavishnu.history.memory')"
    code = f"import sys, mahavishnu.history.registry; print([m for m in sys.modules if m.startswith({stores})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
