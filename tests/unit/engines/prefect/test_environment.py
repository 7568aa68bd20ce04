"""What Prefect's programs are told, and what is kept from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu.engines.prefect.environment import server_environment, worker_environment

HOME = Path("/state/prefect")


@pytest.fixture(autouse=True)
def _user_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a cloud account, an empty variable and a wish of their own."""
    monkeypatch.setenv("PREFECT_API_URL", "https://cloud.example/api")
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "")
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE", "7")
    monkeypatch.setenv("EMPTY_OF_THEIRS", "")


def test_server_is_tuned_private_and_its_page_calls_its_own_port() -> None:
    """Batching, no analytics, no second UI; the user's own tuning wins over ours, extras over all."""
    environment = server_environment(HOME, 4321, {"PREFECT_SERVER_UI_V2_ENABLED": "true"})
    assert environment["PREFECT_HOME"] == "/state/prefect"
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT"] == "false"
    assert environment["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE"] == "100"
    assert environment["PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL"] == "0.5"
    assert environment["PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE"] == "7"
    assert environment["PREFECT_SERVER_UI_V2_ENABLED"] == "true"


def test_worker_talks_to_the_given_server_only() -> None:
    """The address and the poll are ours, the user's cloud account stays out."""
    environment = worker_environment(HOME, "http://127.0.0.1:4321/api", 0.5, {"LEVEL": "1"})
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["PREFECT_WORKER_QUERY_SECONDS"] == "0.5"
    assert environment["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"
    assert environment["LEVEL"] == "1"
    assert "PREFECT_API_KEY" not in environment


def test_empty_prefect_variables_are_left_out() -> None:
    """An empty number breaks the import of Prefect; empty variables of others pass."""
    environment = server_environment(HOME, 1, {"PREFECT_WORKER_DEBUG_MODE": ""})
    assert not [name for name, value in environment.items() if name.startswith("PREFECT_") and not value]
    assert environment["EMPTY_OF_THEIRS"] == ""
