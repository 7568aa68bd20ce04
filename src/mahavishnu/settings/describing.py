"""List the settings with their values and where each was given, for people."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mahavishnu.settings.fields import FreeTables, Items, Section, fields_by_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mahavishnu.settings.values import ProviderSettings, Settings

__all__ = ["Described", "describe"]


class Described(NamedTuple):
    """One setting as it may be shown.

    Attributes:
        key: Its dotted key.
        value: Its value as text, secrets hidden; empty where it is unset.
        source: `default`, or where it was given.
    """

    key: str
    value: str
    source: str


def describe(settings: Settings) -> list[Described]:
    """Return every setting in the order of the reference, defaults included, secrets hidden."""
    return list(_describe(settings, "", settings))


def _describe(part: Any, prefix: str, settings: Settings) -> Iterator[Described]:
    for key, item in fields_by_key(part.__class__).items():
        here = f"{prefix}{key}"
        value = getattr(part, item.name)
        match item.shape:
            case Section():
                yield from _describe(value, f"{here}.", settings)
            case Items():
                for number, member in enumerate(value):
                    yield Described(f"{here}.{member.name}", str(member), _source(f"{here}.{number}", settings))
            case FreeTables():
                yield from _describe_free(value, here, settings)
            case _:
                yield Described(here, _shown(key, value), _source(here, settings))


def _describe_free(tables: Mapping[str, ProviderSettings], prefix: str, settings: Settings) -> Iterator[Described]:
    for name, table in tables.items():
        for key, value in table.shown().items():
            here = f"{prefix}.{name}.{key}"
            yield Described(here, value, _source(here, settings))


def _source(key: str, settings: Settings) -> str:
    return str(settings.origins.get(key, "default"))


def _shown(key: str, value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            return f"{value / timedelta(days=1) if key.endswith('_days') else value.total_seconds():g}"
        case tuple():
            return ", ".join(map(str, cast("tuple[object, ...]", value)))
        case _:
            return str(value)
