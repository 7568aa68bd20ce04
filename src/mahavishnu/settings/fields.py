"""How a settings class declares its fields: the kind of each, its key outside, and where a value came from.

A field is annotated `Annotated[type, kind]` or `Annotated[type, Key("name_outside"), kind]`. Settings are structs
and not dataclasses because ten dataclasses take longer to make than everything else at import.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from mahavishnu.errors import SettingError
from mahavishnu.settings.kinds import Kind

__all__ = ["Field", "FreeTables", "Items", "Key", "Origin", "Section", "Shape", "fields_by_key"]


class Key(NamedTuple):
    """The name a field has outside, where that is not its own; durations end in `_seconds` or `_days` there."""

    name: str


class Section(NamedTuple):
    """A table whose keys are the fields of `cls`."""

    cls: type[Any]


class Items(NamedTuple):
    """A list of tables whose keys are the fields of `cls`; no two have the same `name`."""

    cls: type[Any]


class FreeTables(NamedTuple):
    """A table of tables with any keys."""


Shape = Kind | Section | Items | FreeTables


class Field(NamedTuple):
    """One field that can be set.

    Attributes:
        name: The attribute.
        shape: What its value looks like.
        required: Whether it has no default.
    """

    name: str
    shape: Shape
    required: bool


class Origin(NamedTuple):
    """Where a value was given.

    Attributes:
        source: The file, `environment variable NAME` or `argument`.
        line: The line in the file, from 1.
        is_text: Whether it came as text whatever its kind, as from the environment.
        base: The folder its relative paths start from.
    """

    source: str
    line: int | None = None
    is_text: bool = False
    base: Path = Path()

    def __str__(self) -> str:
        """Return the source, with the line where there is one."""
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def error(self, key: str, problem: str) -> SettingError:
        """Return the error that says what is wrong with the value given here."""
        return SettingError(self.source, key, problem, line=self.line)


@lru_cache(maxsize=64)
def fields_by_key(cls: type[msgspec.Struct]) -> dict[str, Field]:
    """Return the settable fields of a settings class under the names they have outside, in their order."""
    required = {field.name for field in msgspec.structs.fields(cls) if field.required}
    found: dict[str, Field] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        notes = get_args(hint)[1:] if hasattr(hint, "__metadata__") else ()
        shape = next((note for note in notes if isinstance(note, Shape)), None)
        if shape is not None:
            key = next((note.name for note in notes if isinstance(note, Key)), name)
            found[key] = Field(name, shape, name in required)
    return found
