"""One real Prefect server for all tests here, from a database that was migrated once."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import sqlite3
import sys
import tempfile
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

# Before the first import of Prefect: the tests never read or change the profile of whoever runs them.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="mahavishnu-prefect-home-")
atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)
os.environ["PREFECT_SERVER_EPHEMERAL_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)

pytest.importorskip("prefect", reason="the prefect extra is not installed")

from mahavishnu.engines.prefect.server import ManagedServer  # noqa: E402 - after the environment is set

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

QUICK = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "2",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every test here in the one event loop that the server's fixture lives in."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here) and item.get_closest_marker("asyncio") is not None:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database; kept between runs, for migrating takes ten seconds."""
    kept = tmp_path_factory.getbasetemp().parent / f"prefect-{version('prefect')}.db"
    if not kept.exists():
        state_dir = tmp_path_factory.mktemp("template")
        server = ManagedServer(state_dir, environment=QUICK)
        await server.start()
        await server.stop()
        database = server.home / "prefect.db"
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copy(database, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
    return kept


@pytest.fixture
def state_dir(template_database: Path, tmp_path: Path) -> Path:
    """A state folder whose Prefect database needs no migration."""
    return prepared(tmp_path / "state", template_database)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ManagedServer]:
    """The shared server."""
    state_dir = prepared(tmp_path_factory.mktemp("shared"), template_database)
    server = ManagedServer(state_dir, environment=QUICK)
    await server.start()
    await asyncio.to_thread(_forget_other_servers)
    yield server
    await server.stop()


def _forget_other_servers() -> None:
    """Let go of the client that sends events: Prefect keeps one per process, for the server it first met."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)


@pytest.fixture
def import_file(tmp_path: Path) -> Callable[[str, str], ModuleType]:
    """Write a module to a file of its own folder and import it from there, as a script's neighbour would be."""

    def write_and_import(name: str, text: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return write_and_import


def prepared(state_dir: Path, template: Path) -> Path:
    """Give a state folder its copy of the template."""
    (state_dir / "prefect").mkdir(parents=True)
    shutil.copy(template, state_dir / "prefect" / "prefect.db")
    return state_dir
