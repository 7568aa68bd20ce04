"""What the tests of the documentation share."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # test files are imported by path; this finds their neighbour `doc_pages`

if importlib.util.find_spec("prefect") is not None:
    # The one fixture that runs a real Prefect server, wherever it is asked for.
    _spec = importlib.util.spec_from_file_location(
        "docs_prefect_fixtures", HERE.parent / "integration" / "prefect" / "conftest.py"
    )
    assert _spec is not None
    assert _spec.loader is not None
    _fixtures = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_fixtures)
    server, template_database = _fixtures.server, _fixtures.template_database
else:

    @pytest.fixture(scope="session")
    def server() -> None:
        """Stand where the Prefect server would: nothing to run against."""
        pytest.skip("the prefect extra is not installed")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory with a `mahavishnu` command on the path and no settings from elsewhere."""
    for name in [name for name in os.environ if name.startswith("MAHAVISHNU_")]:
        monkeypatch.delenv(name)
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "mahavishnu"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mahavishnu "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr("mahavishnu.queues.registry._registered", {})  # a page may register a provider
    known = set(sys.modules)
    yield place
    for name in set(sys.modules) - known:  # modules that a page wrote; another page may have one of the same name
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(place)):
            del sys.modules[name]
