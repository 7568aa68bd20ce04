"""Where settings come from: the file, the environment and arguments, each as tables of raw values."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from mahavishnu.errors import SettingError
from mahavishnu.settings.fields import Origin
from mahavishnu.settings.lines import KeyPath, line_of, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CONFIG_VARIABLE", "FILE_NAME", "Source", "arguments", "environment", "file_source", "find_file"]

FILE_NAME = "mahavishnu.toml"
PREFIX = "MAHAVISHNU_"
CONFIG_VARIABLE = "MAHAVISHNU_CONFIG"
"""Names the settings file, where it is not found by looking in the parent folders."""

# Kubernetes sets such variables in every container of a namespace with a service called "mahavishnu".
_FOREIGN = ("MAHAVISHNU_INTERNAL_", "MAHAVISHNU_SERVICE_HOST", "MAHAVISHNU_SERVICE_PORT", "MAHAVISHNU_PORT_")


_NO_LINES: Mapping[KeyPath, int] = {}


class Source(NamedTuple):
    """Raw values in tables, and where they were given.

    Attributes:
        table: The values by key, tables as mappings.
        origin: Where all of them were given, line aside.
        lines: The line of each key, for a file.
    """

    table: Mapping[str, object]
    origin: Origin
    lines: Mapping[KeyPath, int] = _NO_LINES

    def at(self, path: KeyPath) -> Origin:
        """Return where one value was given."""
        return self.origin._replace(line=line_of(path, self.lines)) if self.lines else self.origin

    def error(self, path: KeyPath, problem: str) -> SettingError:
        """Return the error that says what is wrong with a value."""
        return self.at(path).error(".".join(map(str, path)), problem)

    def spell(self, key: str) -> str:
        """Return a dotted key the way it is written in this source."""
        return f"{PREFIX}{key.upper().replace('.', '__')}" if self.origin.is_text else key


def find_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str], start: Path) -> Path | None:
    """Return the settings file: the one given, else of `MAHAVISHNU_CONFIG`, else in the nearest folder upwards.

    Raises:
        SettingError: A file that was named is not there.
    """
    for source, named in (
        ("argument", path),
        (f"environment variable {CONFIG_VARIABLE}", environ.get(CONFIG_VARIABLE)),
    ):
        if named:
            return _named_file(source, os.fspath(named), start)
    candidates = (folder / FILE_NAME for folder in (start, *start.parents))
    # os.path answers "no" for a folder that may not be read, where Path raises.
    return next((file for file in candidates if os.path.isfile(file)), None)


def _named_file(source: str, named: str, start: Path) -> Path:
    file = Path(os.path.normpath(start / os.path.expanduser(named)))
    if os.path.isfile(file):
        return file
    remedy = f"; name the {FILE_NAME} in it" if os.path.isdir(file) else "; `mahavishnu init` makes one"
    raise SettingError(source, "", f"there is no settings file {str(file)!r}{remedy}")


def file_source(file: Path) -> Source:
    """Return what a TOML file says.

    Raises:
        SettingError: It cannot be read, is not UTF-8, or is not TOML; with the line where there is one.
    """
    text = _read(file)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise SettingError(str(file), "", "not valid TOML: nested too deeply") from None
    except ValueError as exc:
        raise _syntax_error(file, text, str(exc)) from None
    return Source(table, Origin(str(file), base=file.parent), lines_of(text))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise SettingError(str(file), "", f"it cannot be read: {exc.strerror}; check its permissions") from None
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise SettingError(
            str(file), "", "not valid TOML: the text is not UTF-8; save it as UTF-8", line=line
        ) from None


def _syntax_error(file: Path, text: str, message: str) -> SettingError:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    problem = message[: found.start()] + f" (column {found[2]})" if found else message
    line = int(found[1]) if found else text.rstrip().count("\n") + 1
    return SettingError(str(file), "", f"not valid TOML: {problem}", line=line)


def environment(environ: Mapping[str, str], folder: Path) -> Iterator[Source]:
    """Yield one source per `MAHAVISHNU_` variable that sets something, by name; empty ones set nothing."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and environ[name].strip() and not _is_foreign(name):
            keys = name.removeprefix(PREFIX).lower().split("__")
            origin = Origin(f"environment variable {name}", is_text=True, base=folder)
            yield Source(_nested(keys, environ[name]), origin)


def _is_foreign(name: str) -> bool:
    return name in {CONFIG_VARIABLE, "MAHAVISHNU_PORT"} or name.startswith(_FOREIGN)


def arguments(overrides: Mapping[str, object], folder: Path) -> Iterator[Source]:
    """Yield one source per argument; keys may be dotted, values may be tables, and `None` sets nothing."""
    for key, value in overrides.items():
        if value is not None:
            yield Source(_nested(key.split("."), value), Origin("argument", base=folder))


def _nested(keys: list[str], value: object) -> Mapping[str, object]:
    for key in reversed(keys):
        value = {key: value}
    return cast("Mapping[str, object]", value)
