"""Names of providers."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import ConfigurationError, UnknownProviderError
from mahavishnu.queues import registry
from mahavishnu.queues.registry import (
    available_providers,
    canonical_name,
    create_provider,
    register_provider,
    resolve_provider,
)


def create(name, folder=Path(), **settings):
    """Make a provider of these settings."""
    return create_provider(name, state_dir=folder, clock=SYSTEM_CLOCK, settings=settings)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sqlite", "sqlite"),
        ("SQLite3", "sqlite"),
        ("redis-streams", "redis"),
        ("redis_streams", "redis"),
        ("nats-jetstream", "nats"),
        ("cloud-tasks", "cloudtasks"),
        ("Kafka", "kafka"),
        ("MyOwn", "MyOwn"),
    ],
)
def test_aliases(name, expected):
    """The usual spellings lead to one key; other names stay as they are."""
    assert canonical_name(name) == expected


def test_the_built_in_providers(tmp_path):
    """Without a server there are two, and creating one touches nothing."""
    assert available_providers() == ["sqlite", "memory"]
    assert create("memory").name == "memory"
    assert create("sqlite3", tmp_path).url == f"sqlite:///{tmp_path / 'queue.db'}"
    assert list(tmp_path.iterdir()) == []


def test_sqlite_options(tmp_path):
    """The file may be named, within the state folder or elsewhere."""
    assert create("sqlite", tmp_path, sqlite={"path": "mine.db"}).url.endswith(f"{tmp_path}/mine.db")
    assert create("sqlite", Path("elsewhere"), sqlite3={"path": f"{tmp_path}/x.db"}).url == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sqlite": {"paht": "x"}}, r"\[providers.sqlite\] paht is not an option; did you mean 'path'"),
        ({"sqlite": {"path": 3}}, "give a file name"),
        ({"sqlite": {"busy_seconds": "long"}}, "give a number of seconds"),
        ({"sqlite": {"busy_seconds": True}}, "give a number of seconds"),
        ({"sqlite": {"use": 3}}, "give the name of another provider"),
        ({"sqlite": {"use": "memory", "path": "x"}}, "leaves no meaning to: path; set them in"),
        ({"sqlite": {"use": "memory"}, "memory": {"use": "sqlite"}}, "sqlite -> memory -> sqlite is a circle"),
        ({"sqlite": {"use": "memory"}, "memory": {"size": 1}}, r"\[providers.memory\] size is not an option"),
    ],
)
def test_wrong_options(settings, message):
    """Each wrong option is one error naming the table, the option and what to write."""
    with pytest.raises(ConfigurationError, match=message):
        create("sqlite", **settings)


@pytest.mark.parametrize("name", ["redis", "nats", "kafka", "rabbitmq", "cloudtasks", "postgres"])
def test_known_but_not_available(name):
    """A provider that is known but not built in says so, and who is there instead."""
    with pytest.raises(ConfigurationError, match=f"{name!r} is not available in this version; available: sqlite, mem"):
        create(name)


def test_an_unknown_name():
    """A misspelt name gets the nearest one."""
    with pytest.raises(UnknownProviderError, match="'reddis' is unknown; did you mean 'redis'"):
        create("reddis")


def test_another_provider_may_answer(tmp_path, caplog):
    """A substitution that was configured is logged, and the provider tells its own name."""
    caplog.set_level(logging.INFO)
    settings = {"redis-streams": {"use": "sqlite3"}, "sqlite": {"path": "other.db"}}
    assert resolve_provider("redis", settings) == "sqlite"
    provider = create("redis", tmp_path, **settings)
    assert (provider.name, provider.url) == ("sqlite", f"sqlite:///{tmp_path / 'other.db'}")
    assert caplog.messages == ["queue provider 'redis' is answered by 'sqlite', as configured"]


def test_a_registered_provider(monkeypatch):
    """A factory registered in this process is called with its options, the state folder and the clock."""
    monkeypatch.setattr(registry, "_registered", {})
    seen = []
    register_provider("mine", lambda *given: seen.append(given) or create("memory"))
    assert create("mine", Path("state"), mine={"a": 1}).name == "memory"
    assert seen == [({"a": 1}, Path("state"), SYSTEM_CLOCK)]
    assert available_providers() == ["sqlite", "memory", "mine"]
    with pytest.raises(UnknownProviderError, match="did you mean 'mine'"):
        create("mines")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with entry points that was just installed."""
    (tmp_path / "their_queue.py").write_text("def make(options, state_dir, clock):\n    return (options, state_dir)\n")
    info = tmp_path / "their_queue-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-queue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mahavishnu.queue_providers]\ntheirs = their_queue:make\nbroken = their_queue:missing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_queue", None)


@pytest.mark.usefixtures("installed")
def test_a_provider_of_another_package():
    """An installed package's entry point is a factory; one that cannot be loaded says which it is."""
    assert create("theirs", Path("state"), theirs={"a": 1}) == ({"a": 1}, Path("state"))
    assert {"theirs", "broken"} <= set(available_providers())
    with pytest.raises(ConfigurationError, match=r"'broken' of their_queue:missing.*reinstall"):
        create("broken")
