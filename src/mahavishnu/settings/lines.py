"""On which line of a TOML text each key stands; `tomllib` does not say."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KeyPath", "line_of", "lines_of"]

KeyPath: TypeAlias = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
# Compiled at the first use and kept by `re`: most processes have no file to read, and compiling is slow.
_STATEMENT = rf"[ \t]*(?:(?P<brackets>\[\[?)[ \t]*(?P<table>{_DOTTED})|(?P<key>{_DOTTED})[ \t]*=)"
_PIECE = (
    r'''(?s:"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|'''
    r"""\#[^\n]*|[\[\]{}\n]|[^"'#\[\]{}\n]+|.)"""
)


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every table and key of a TOML text that `tomllib` has read without complaint.

    Keys within inline tables are not listed; `line_of` answers with the line of the key that holds them.
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position, line = 0, 1
    statement = re.compile(_STATEMENT)
    while position < len(text):
        found = statement.match(text, position)
        if found and found["table"]:
            table = _open(_parts(found["table"]), counts, is_item=found["brackets"] == "[[")
            _note(table, line, lines)
        elif found:
            _note((*table, *_parts(found["key"])), line, lines)
        end = _statement_end(text, found.end() if found and found["key"] else position)
        line += text.count("\n", position, end)
        position = end
    return lines


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """Return the line of a key or table, else of the nearest one that holds it, else `None`."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _note(path: KeyPath, line: int, lines: dict[KeyPath, int]) -> None:
    """Note the line of a key or table, and of what holds it where that has none yet."""
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _open(parts: tuple[str, ...], counts: dict[KeyPath, int], *, is_item: bool) -> KeyPath:
    """Return the path of the table that a header opens; a list of tables continues with its newest item."""
    path: KeyPath = ()
    for number, part in enumerate(parts, 1):
        path = (*path, part)
        if is_item and number == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    """Return the parts of a dotted key; quoted ones are left to `tomllib`."""
    if '"' not in dotted and "'" not in dotted:
        return tuple(part.strip() for part in dotted.split("."))
    node: dict[str, Any] | int = tomllib.loads(f"{dotted} = 0")
    parts: list[str] = []
    while not isinstance(node, int):
        key = next(iter(node))
        parts.append(key)
        node = node[key]
    return tuple(parts)


def _statement_end(text: str, position: int) -> int:
    """Return where the next statement begins: after a line end outside of strings and brackets."""
    depth = 0
    for token in re.compile(_PIECE).finditer(text, position):
        word = token.group()
        if word in "[{":
            depth += 1
        elif word in "]}":
            depth -= 1
        elif word == "\n" and depth <= 0:
            return token.end()
    return len(text)
