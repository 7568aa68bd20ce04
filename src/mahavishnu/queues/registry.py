"""From a provider's name in settings or in a call to a provider.

Names that are not built in are looked up among those registered by this process and in the entry point group
`mahavishnu.queue_providers` of the installed packages; an entry point is a factory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from mahavishnu.clock import Clock
from mahavishnu.errors import ConfigurationError, UnknownProviderError, nearest
from mahavishnu.queues.base import QueueProvider

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_PROVIDER",
    "ENTRY_POINT_GROUP",
    "ProviderFactory",
    "available_providers",
    "canonical_name",
    "create_provider",
    "register_provider",
    "resolve_provider",
]

ProviderFactory: TypeAlias = Callable[[Mapping[str, object], Path, Clock], QueueProvider]
"""`factory(options, state_dir, clock)`; it must not connect, and refuses options it does not know."""

ENTRY_POINT_GROUP = "mahavishnu.queue_providers"
DEFAULT_PROVIDER = "sqlite"
SQLITE_FILE = "queue.db"

ALIASES = {
    "sqlite3": "sqlite",
    "in-memory": "memory",
    "redis-streams": "redis",
    "nats-jetstream": "nats",
    "jetstream": "nats",
    "apache-kafka": "kafka",
    "rabbit": "rabbitmq",
    "amqp": "rabbitmq",
    "cloud-tasks": "cloudtasks",
    "google-cloud-tasks": "cloudtasks",
    "postgresql": "postgres",
}
NOT_YET = frozenset({"redis", "nats", "kafka", "rabbitmq", "cloudtasks", "postgres"})

_logger = logging.getLogger("mahavishnu.queues")
_NO_SETTINGS: Mapping[str, Mapping[str, object]] = {}


def canonical_name(name: str) -> str:
    """Return the provider's key for a name or alias, whatever its case; an unknown name stays as it is."""
    key = name.strip().lower().replace("_", "-")
    return ALIASES.get(key, key if key in NOT_YET or key in _BUILT_IN else name)


def register_provider(name: str, factory: ProviderFactory) -> None:
    """Make a provider known under `name` in this process, in place of any other of that name.

    Args:
        name: As it is written in settings and calls.
        factory: Called as `factory(options, state_dir, clock)`; it must not connect.
    """
    _registered[name] = factory


def available_providers() -> list[str]:
    """Return the names of the providers that can be created, the default first."""
    others = {*_BUILT_IN, *_registered, *_entry_point_names()} - {DEFAULT_PROVIDER}
    return [DEFAULT_PROVIDER, *sorted(others)]


def resolve_provider(name: str, settings: Mapping[str, Mapping[str, object]] = _NO_SETTINGS) -> str:
    """Return which provider answers to a name: its own, or the one that the settings name with `use`.

    Raises:
        ConfigurationError: `use` leads in a circle, or stands beside other options.
    """
    asked = name = canonical_name(name)
    seen = [name]
    while (other := _options_of(name, settings).get("use")) is not None:
        name = _substitute(name, other, _options_of(name, settings))
        if name in seen:
            raise ConfigurationError(f"[providers.{asked}] use: {' -> '.join([*seen, name])} is a circle")
        seen.append(name)
    return name


def create_provider(
    name: str,
    *,
    state_dir: Path,
    clock: Clock,
    settings: Mapping[str, Mapping[str, object]] = _NO_SETTINGS,
) -> QueueProvider:
    """Return the provider of that name, not yet open.

    Args:
        name: A provider's key or alias.
        state_dir: Where an embedded provider keeps its files.
        clock: Tells due times and leases of an embedded provider.
        settings: By provider, its options; `use = "<other>"` lets another provider answer to the name.

    Raises:
        UnknownProviderError: Nothing answers to the name.
        ConfigurationError: The provider is not available in this version, or an option is wrong.
    """
    resolved = resolve_provider(name, settings)
    factory = _factory(resolved)
    if resolved != canonical_name(name):
        _logger.info("queue provider %r is answered by %r, as configured", canonical_name(name), resolved)
    return factory(_options_of(resolved, settings), state_dir, clock)


def _options_of(name: str, settings: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    for key, options in settings.items():
        if canonical_name(key) == name:
            return options
    return {}


def _substitute(name: str, other: object, options: Mapping[str, object]) -> str:
    if not isinstance(other, str):
        raise ConfigurationError(f"[providers.{name}] use = {other!r}: give the name of another provider")
    if len(options) > 1:
        beside = ", ".join(sorted(set(options) - {"use"}))
        raise ConfigurationError(
            f"[providers.{name}] use = {other!r} leaves no meaning to: {beside}; set them in [providers.{other}]"
        )
    return canonical_name(other)


def _factory(name: str) -> ProviderFactory:
    factory = _registered.get(name) or _BUILT_IN.get(name) or _from_entry_point(name)
    if factory is not None:
        return factory
    if name in NOT_YET:
        raise ConfigurationError(
            f"queue provider {name!r} is not available in this version; available: {', '.join(available_providers())}"
            f' (to let one of them answer to the name, set `use = "{DEFAULT_PROVIDER}"` in [providers.{name}])'
        )
    raise UnknownProviderError(name, {*available_providers(), *NOT_YET})


# --- other packages' providers ---


def _entry_point_names() -> set[str]:
    from importlib.metadata import entry_points  # costs more than the rest of this module

    return set(entry_points(group=ENTRY_POINT_GROUP).names)


def _from_entry_point(name: str) -> ProviderFactory | None:
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            return cast("ProviderFactory", entry.load())
        except (ImportError, AttributeError) as exc:
            raise ConfigurationError(
                f"queue provider {name!r} of {entry.value}: {exc}; reinstall the package it comes from"
            ) from exc
    return None


# --- the built-in ones ---


def _sqlite(options: Mapping[str, object], state_dir: Path, clock: Clock) -> QueueProvider:
    from mahavishnu.queues.providers.sqlite import BUSY_SECONDS, SqliteQueueProvider

    _refuse_unknown("sqlite", options, ("path", "busy_seconds"))
    path = options.get("path", SQLITE_FILE)
    if not isinstance(path, str | Path):
        raise ConfigurationError(f"[providers.sqlite] path = {path!r}: give a file name")
    seconds = options.get("busy_seconds", BUSY_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
        raise ConfigurationError(f"[providers.sqlite] busy_seconds = {seconds!r}: give a number of seconds")
    return SqliteQueueProvider(state_dir / Path(path).expanduser(), clock=clock, busy_seconds=seconds)


def _memory(options: Mapping[str, object], state_dir: Path, clock: Clock) -> QueueProvider:
    from mahavishnu.queues.providers.memory import MemoryQueueProvider

    del state_dir
    _refuse_unknown("memory", options, ())
    return MemoryQueueProvider(clock=clock)


def _refuse_unknown(name: str, options: Mapping[str, object], known: Iterable[str]) -> None:
    for option in options:
        if option not in known:
            raise ConfigurationError(f"[providers.{name}] {option} is not an option{nearest(option, known)}")


_BUILT_IN: dict[str, ProviderFactory] = {"sqlite": _sqlite, "memory": _memory}
_registered: dict[str, ProviderFactory] = {}
