"""What kinds of value a setting may have, and how each is read and refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import timedelta
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zoneinfo import ZoneInfo, available_timezones

from mahavishnu.errors import ConfigurationError, nearest
from mahavishnu.model.secret import Secret, redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Kind",
    "Refused",
    "choice",
    "command",
    "duration",
    "file_path",
    "flag",
    "given",
    "import_path",
    "ledger_url",
    "names",
    "parsed",
    "secret",
    "text",
    "url",
    "whole",
    "zone",
]

_LONGEST = timedelta(days=36_500)
_UNITS = {"seconds": timedelta(seconds=1), "days": timedelta(days=1)}
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_LEDGER_FORMS = "'sqlite:///path/to/file', 'postgresql://…' or 'memory:'"
_SHOWN_CHARACTERS = 60


class Refused(Exception):
    """A value does not fit; the text says what was expected. The caller adds where it was given."""


class Kind(NamedTuple):
    """One kind of value.

    Attributes:
        read: Turns a raw value and the folder its relative paths start from into the setting; raises `Refused`.
        from_text: Turns the text of an environment variable into a raw value, or leaves it as text.
    """

    read: Callable[[object, Path], Any]
    from_text: Callable[[str], object] = str


def given(value: object) -> str:
    """Return a value and its type as an error message shows them, without credentials and not too long."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    name = next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), type(value).__name__)
    shown = redact_text(str(value).lower() if isinstance(value, bool) else repr(value))
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return f"{shown} ({name})"


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a whole number"),
    (float, "a number"),
)


def _unexpected(expected: str, value: object) -> Refused:
    return Refused(f"expected {expected}, given {given(value)}")


def _text(value: object, expected: str = "text") -> str:
    if not isinstance(value, str):
        raise _unexpected(expected, value)
    if "\0" in value:
        raise Refused("a NUL character cannot be in it")
    return value


def text(*, empty: bool = True) -> Kind:
    """Any text; with `empty=False` at least one character that is no space."""

    def read(value: object, _base: Path) -> str:
        found = _text(value)
        if not empty and not found.strip():
            raise Refused("expected text, given an empty one")
        return found

    return Kind(read)


def choice(*words: str) -> Kind:
    """One of these words."""
    expected = " or ".join(repr(word) for word in words)

    def read(value: object, _base: Path) -> str:
        found = _text(value, expected)
        if found not in words:
            raise Refused(f"expected {expected}, given {given(value)}{nearest(found, words)}")
        return found

    return Kind(read)


def parsed(parse: Callable[[str], Any], *ready: type) -> Kind:
    """Text that `parse` understands, or a value of one of the types it makes."""

    def read(value: object, _base: Path) -> Any:
        if ready and isinstance(value, ready):
            return value
        try:
            return parse(_text(value))
        except ConfigurationError as exc:
            raise Refused(str(exc)) from None

    return Kind(read)


def whole(*, at_least: int, at_most: int | None = None) -> Kind:
    """A whole number in this range, bounds included."""
    expected = f"a whole number of at least {at_least}" + (f" and at most {at_most}" if at_most is not None else "")

    def read(value: object, _base: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _unexpected(expected, value)
        if value < at_least or (at_most is not None and value > at_most):
            raise _unexpected(expected, value)
        return value

    return Kind(read, _number_from)


def _number_from(text: str) -> object:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def flag() -> Kind:
    """True or false."""

    def read(value: object, _base: Path) -> bool:
        if not isinstance(value, bool):
            raise _unexpected("true or false", value)
        return value

    return Kind(read, _flag_from)


def _flag_from(text: str) -> object:
    word = text.strip().lower()
    return word in _TRUE if word in _TRUE | _FALSE else text


def duration(unit: str = "seconds", *, at_least: float = 0, zero: bool = True) -> Kind:
    """A number of seconds or days, whole or not, at most a hundred years; arguments may be a `timedelta`.

    Args:
        unit: `"seconds"` or `"days"`.
        at_least: The least number.
        zero: Whether nothing at all is allowed.
    """
    expected = f"a number of {unit} " + (f"of at least {at_least:g}" if zero else "above 0")

    def read(value: object, _base: Path) -> timedelta:
        span = value if isinstance(value, timedelta) else _span(value, unit, expected)
        if span < at_least * _UNITS[unit] or (not zero and not span):
            raise _unexpected(expected, value)
        if span > _LONGEST:
            raise Refused(f"expected at most {_LONGEST / _UNITS[unit]:g} {unit}, given {given(value)}")
        return span

    return Kind(read, _number_from)


def _span(value: object, unit: str, expected: str) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected(expected, value)
    if isinstance(value, float) and not isfinite(value):
        raise _unexpected(expected, value)
    try:
        return value * _UNITS[unit]
    except OverflowError:
        return _LONGEST * 2 if value > 0 else -_LONGEST


def _texts(value: object, expected: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise _unexpected(expected, value)
    items = cast("Sequence[object]", value)
    for item in items:
        if not isinstance(item, str) or not item.strip() or "\0" in item:
            raise Refused(f"expected {expected}, and one of them is {given(item)}")
    return tuple(cast("Sequence[str]", items))


def names(*, at_least: int = 0) -> Kind:
    """A list of different, non-empty texts; in the environment separated by commas."""

    def read(value: object, _base: Path) -> tuple[str, ...]:
        found = _texts(value, "a list of texts")
        if len(found) < at_least:
            raise Refused(f"expected a list of at least {at_least}, given {len(found)}")
        if len(set(found)) < len(found):
            raise Refused(f"{next(n for n in found if found.count(n) > 1)!r} is in the list twice")
        return found

    return Kind(read, _names_from)


def _names_from(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def command() -> Kind:
    """A program and its arguments: a list of texts, or one text split as a shell would; no shell runs it."""

    def read(value: object, _base: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            try:
                value = shlex.split(_text(value))
            except ValueError as exc:
                raise Refused(f"the command cannot be split into words: {exc}") from None
        found = _texts(value, "a command: text, or a list of texts")
        if not found:
            raise Refused("expected a command, given an empty one")
        return found

    return Kind(read)


def file_path(*, empty: bool = False) -> Kind:
    """A path; `~` is the home folder, and a relative one starts at the folder of the file that names it."""

    def read(value: object, base: Path) -> Path | None:
        if isinstance(value, os.PathLike):
            value = os.fspath(cast("os.PathLike[str]", value))
        found = _text(value, "a path")
        if not found.strip():
            if empty:
                return None
            raise Refused("expected a path, given an empty text")
        return resolve(found, base)

    return Kind(read)


def resolve(path: str, base: Path) -> Path:
    """Return an absolute path without `..`; links are not followed.

    Raises:
        Refused: `~name` names nobody on this machine.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise Refused(f"there is no home folder for {path.split('/')[0]!r}")
    return Path(os.path.normpath(base / expanded))


def secret() -> Kind:
    """Text that is never shown."""

    def read(value: object, _base: Path) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str) or "\0" in value:
            raise Refused(f"expected text, given {'a NUL character' if isinstance(value, str) else 'something else'}")
        return Secret(value)

    return Kind(read)


def url(*schemes: str) -> Kind:
    """Empty text, or a URL with one of these schemes; its credentials are never shown."""

    def read(value: object, _base: Path) -> Secret:
        found = _url_text(value)
        scheme, separator, rest = found.partition("://")
        if found and (not separator or not rest or scheme not in schemes):
            raise Refused(
                f"expected a URL that starts with {' or '.join(f'{s}://' for s in schemes)}, given {given(found)}"
            )
        return Secret.url(found)

    return Kind(read)


def _url_text(value: object) -> str:
    return _text(value.reveal() if isinstance(value, Secret) else value, "a URL").strip()


def ledger_url() -> Kind:
    """Where the ledger is kept: `sqlite:///path`, `postgresql://…`, `memory:`, or empty for the state folder."""

    def read(value: object, base: Path) -> Secret:
        found = _url_text(value)
        scheme, _, rest = found.partition(":")
        if scheme == "sqlite" and rest.startswith("///") and rest.strip("/"):
            return Secret.url(f"sqlite:///{resolve(rest[3:], base)}")
        if not found or found == "memory:" or (scheme in {"postgresql", "postgres"} and len(rest.strip("/")) > 0):
            return Secret.url(found)
        raise Refused(f"expected {_LEDGER_FORMS}, given {given(found)}")

    return Kind(read)


def import_path() -> Kind:
    """Empty text, or `module:attribute`."""

    def read(value: object, _base: Path) -> str:
        found = _text(value).strip()
        if found and not _is_import_path(found):
            raise Refused(f"expected module:attribute, for example 'app:app', given {given(found)}")
        return found

    return Kind(read)


def _is_import_path(text: str) -> bool:
    halves = text.split(":")
    return len(halves) == 2 and all(word.isidentifier() for half in halves for word in half.split("."))


def zone() -> Kind:
    """The IANA name of a time zone, or empty text for the machine's."""

    def read(value: object, _base: Path) -> str:
        found = _text(value).strip()
        if found and not _is_zone(found):
            raise Refused(f"there is no time zone {found!r}{_zone_hint(found)}")
        return found

    return Kind(read)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _zone_hint(name: str) -> str:
    known = available_timezones()
    if not known:
        return "; this machine has no time zone data: install the tzdata package"
    hint = nearest(name, known)
    return hint if hint.startswith("; did") else "; write an IANA name such as 'Europe/London'"
