"""Options and types that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from mahavishnu.cli.durations import duration
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import InvalidTriggerError
from mahavishnu.model.engine import EngineName
from mahavishnu.triggers import aware_utc

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ahead", "as_json", "back", "context", "engine", "pair", "provider", "text_pair", "yes"]

Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]

as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes: Decorator = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
engine: Decorator = click.option(
    "--engine", type=click.Choice([name.value for name in EngineName]), help="Only on this engine."
)
provider: Decorator = click.option(
    "--provider", metavar="NAME", help="The queue provider; by default the one that the settings name."
)

_SHAPES = "write ISO 8601 with an offset, such as 2026-03-08T02:30:00+00:00, or a duration such as 10m"


def back(text: str) -> datetime:
    """Return an instant in the past: ISO 8601 with an offset, or how long ago (`2h`)."""
    return _instant(text, -1)


def ahead(text: str) -> datetime:
    """Return an instant to come: ISO 8601 with an offset, or in how long (`10m`)."""
    return _instant(text, 1)


def _instant(text: str, sign: int) -> datetime:
    plain = text.removeprefix("+")
    try:
        return SYSTEM_CLOCK.now() + sign * duration(plain)
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too far away") from None
    except click.BadParameter:
        pass
    try:
        return aware_utc(text, "the time")
    except InvalidTriggerError as exc:
        raise click.BadParameter(f"{text!r}: {exc.problem}; {_SHAPES}") from None


def pair(text: str | tuple[str, Any]) -> tuple[str, Any]:
    """Return the name and the value of `name=value`; the value is JSON where it can be read as such, else text."""
    name, value = text_pair(text)
    return name, _json_or_text(value) if isinstance(text, str) else value


def text_pair(text: str | tuple[str, str]) -> tuple[str, str]:
    """Return the name and the text of `name=text`."""
    if isinstance(text, tuple):
        return text
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is no pair; write name=value")
    return name, value


def _json_or_text(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def context(text: str | dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object: given as it is, as `@FILE` for one in a file, or as `-` for standard input."""
    import json

    if isinstance(text, dict):
        return text
    try:
        read = json.loads(_contents(text))
    except ValueError as exc:
        example = """'{"target": "backups"}'"""
        raise click.BadParameter(f"it is not JSON ({exc}); write an object such as {example}") from None
    if not isinstance(read, dict):
        raise click.BadParameter(f"expected a JSON object of argument names and values, got {type(read).__name__}")
    return read  # pyright: ignore[reportUnknownVariableType]  # JSON objects have string keys


def _contents(text: str) -> str:
    if text != "-" and not text.startswith("@"):
        return text
    name = text.removeprefix("@")
    try:
        with click.open_file(name, encoding="utf-8") as file:
            return file.read()
    except OSError as exc:
        raise click.BadParameter(f"{name!r} cannot be read: {exc.strerror}") from None
