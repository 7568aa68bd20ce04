"""The environment of Prefect's own programs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["prefect_command", "server_environment", "worker_environment"]

# What another profile or a cloud account of the user would make of our local programs.
_FOREIGN = frozenset({"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"})

_ALWAYS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Without it every process that finds no address boots a server of its own.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
}

# SQLite has one writer. Events written one by one keep it locked, and clients then sleep for seconds.
_BATCHING = {
    f"PREFECT_SERVER_SERVICES_{service}_{option}": value
    for service in ("TASK_RUN_RECORDER", "EVENT_PERSISTER")
    for option, value in (("READ_BATCH_SIZE", "100"), ("BATCH_SIZE", "100"), ("FLUSH_INTERVAL", "0.5"))
}


def prefect_command(*arguments: str) -> list[str]:
    """Return the command line of Prefect's program, run by this very Python."""
    return [sys.executable, "-m", "prefect", *arguments]


def server_environment(home: Path, port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a managed server.

    Args:
        home: Its `PREFECT_HOME`: database, profiles.
        port: Where it listens, on the loopback interface.
        extra: Further variables; they win over the tuning here, and over the user's own.
    """
    # The pages of the second UI reach for an analytics host from the browser; the first one's do not.
    fixed = {
        "PREFECT_HOME": str(home),
        # Given only a port, the page would still call 4200.
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    return _without_empty({**_BATCHING, **_inherited(), **_ALWAYS, **fixed, **extra})


def worker_environment(home: Path, api_url: str, poll_seconds: float, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a managed worker, which its flow runs inherit.

    Args:
        home: Its `PREFECT_HOME`.
        api_url: The server's address, ending in `/api`.
        poll_seconds: How often it asks for runs.
        extra: Further variables; they win.
    """
    fixed = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url,
        "PREFECT_WORKER_QUERY_SECONDS": str(poll_seconds),
        # Runs use the environment they were deployed from, not one made up from a pyproject.toml on the way.
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
    }
    return _without_empty({**_inherited(), **_ALWAYS, **fixed, **extra})


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}


def _without_empty(variables: Mapping[str, str]) -> dict[str, str]:
    """Leave out empty `PREFECT_*` variables: an empty number breaks the import of Prefect."""
    return {name: value for name, value in variables.items() if value or not name.startswith("PREFECT_")}
