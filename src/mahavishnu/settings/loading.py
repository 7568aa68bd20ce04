"""Read the sources, lay them over one another, and only then fill in the defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from mahavishnu.errors import SettingError, nearest
from mahavishnu.settings.checks import check
from mahavishnu.settings.fields import FreeTables, Items, Origin, Section, fields_by_key
from mahavishnu.settings.kinds import Kind, Refused, given, resolve
from mahavishnu.settings.lines import KeyPath
from mahavishnu.settings.sources import Source, arguments, environment, file_source, find_file
from mahavishnu.settings.values import ProviderSettings, Settings

__all__ = ["load_settings", "read_provider"]

_DID_YOU_MEAN = "; did you mean '"

T = TypeVar("T", bound=msgspec.Struct)


class _Given(NamedTuple):
    """A value that somebody set, ready to use, and where."""

    value: Any
    origin: Origin


_Values: TypeAlias = dict[KeyPath, _Given]


def load_settings(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    start: str | os.PathLike[str] | None = None,
) -> Settings:
    """Return the settings: the file's, overlaid by the environment's, overlaid by the arguments'.

    Relative paths start at the folder of the file that names them, those of the environment and of arguments
    at `start`. Tables are merged key by key; lists are replaced.

    Args:
        path: The file. Default: `MAHAVISHNU_CONFIG`, else the `mahavishnu.toml` of `start` or the nearest parent.
        environ: The environment, default the process's own. `MAHAVISHNU_STATE_DIR` sets `state_dir`,
            `MAHAVISHNU_PREFECT__API_URL` sets `api_url` in `[prefect]`; lists are separated by commas.
        overrides: Arguments by key, dotted (`"worker.concurrency"`) or as tables; `None` sets nothing.
        start: The folder to work in, default the working directory.

    Raises:
        SettingError: Anything in them cannot be read or used; says where it is and what would be right.
    """
    folder = _folder(start)
    variables = os.environ if environ is None else environ
    file = find_file(path, variables, folder)
    values: _Values = {}
    for source in _sources(file, variables, overrides or {}, folder):
        values |= _read_table(Settings, source.table, (), source)
    settings = _settings(values, file, folder)
    check(settings)
    return settings


def _folder(start: str | os.PathLike[str] | None) -> Path:
    try:
        return Path.cwd() if start is None else Path(os.path.abspath(start))
    except OSError:
        raise SettingError("working directory", "", "it does not exist any more; change to another one") from None


def _sources(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object], folder: Path
) -> Iterator[Source]:
    if file is not None:
        yield file_source(file)
    yield from environment(environ, folder)
    yield from arguments(overrides, folder)


def _settings(values: _Values, file: Path | None, folder: Path) -> Settings:
    built = _build(Settings, values, ())
    origins = {".".join(map(str, path)): item.origin for path, item in values.items()}
    return Settings(**built, source=file, project_dir=file.parent if file else folder, origins=origins)


# --- from raw tables to values ---


def _read_table(cls: type[Any], table: Mapping[str, object], path: KeyPath, source: Source) -> _Values:
    """Return every value that a table sets, by path."""
    known = fields_by_key(cls)
    values: _Values = {}
    for key, value in table.items():
        here = (*path, key)
        if key not in known:
            raise source.error(here, f"unknown setting{_hint(here, known, source)}")
        if value is not None:
            values |= _read(known[key].shape, value, here, source)
    return values


def _read(shape: Any, value: object, path: KeyPath, source: Source) -> _Values:
    match shape:
        case Section():
            return _read_table(shape.cls, _table(value, path, source), path, source)
        case Items():
            return _read_items(shape.cls, value, path, source)
        case FreeTables():
            return _read_free(_table(value, path, source), path, source)
        case _:
            return {path: _Given(_read_one(shape, value, path, source), source.at(path))}


def _read_one(kind: Kind, value: object, path: KeyPath, source: Source) -> Any:
    raw = kind.from_text(value) if source.origin.is_text and isinstance(value, str) else value
    try:
        return kind.read(raw, source.origin.base)
    except Refused as exc:
        raise source.error(path, str(exc)) from None


def _table(value: object, path: KeyPath, source: Source) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise source.error(path, f"expected a table, given {given(value)}")
    return cast("Mapping[str, object]", value)


def _read_items(cls: type[Any], value: object, path: KeyPath, source: Source) -> _Values:
    """Return a list of tables under its own path, and each of them under its number for its origin."""
    if not isinstance(value, list | tuple):
        raise source.error(path, f"expected a list of tables, written [[{path[-1]}]], given {given(value)}")
    values: _Values = {}
    for number, item in enumerate(cast("list[object]", value)):
        here = (*path, number)
        made: Any = item if isinstance(item, cls) else _make(cls, _table(item, here, source), here, source)
        _refuse_second(made, values, path, source.at(here))
        values[here] = _Given(made, source.at(here))
    return {path: _Given(tuple(item.value for item in values.values()), source.at(path)), **values}


def _refuse_second(made: Any, values: _Values, path: KeyPath, origin: Origin) -> None:
    first = next((item for item in values.values() if item.value.name == made.name), None)
    if first is not None:
        line = "" if first.origin.line is None else f", first in line {first.origin.line}"
        raise origin.error(f"{path[-1]}.name", f"{made.name!r} is there twice{line}; give each its own name")


def _read_free(table: Mapping[str, object], path: KeyPath, source: Source) -> _Values:
    values: _Values = {}
    for name, options in table.items():
        for key, value in _table(options, (*path, name), source).items():
            here = (*path, name, key)
            if value is not None:
                values[here] = _Given(_absolute(key, value, here, source), source.at(here))
    return values


def _absolute(key: str, value: object, path: KeyPath, source: Source) -> object:
    if not (key == "path" or key.endswith(("_path", "_dir"))) or not isinstance(value, str) or not value.strip():
        return value
    try:
        return str(resolve(value, source.origin.base))
    except Refused as exc:
        raise source.error(path, str(exc)) from None


def _hint(path: KeyPath, known: Mapping[str, object], source: Source) -> str:
    """Return the nearest name, in the same table or in any other; failing that, all names of the table."""
    *parents, key = map(str, path)
    names = {".".join([*parents, name]) for name in known} | set(_all_keys())
    hint = nearest(".".join([*parents, key]), names)
    if not hint.startswith(_DID_YOU_MEAN):
        return nearest(key, known)
    return f"{_DID_YOU_MEAN}{source.spell(hint[len(_DID_YOU_MEAN) : -2])}'?"


def _all_keys() -> list[str]:
    """Return every dotted key of the sections."""
    shapes = ((key, item.shape) for key, item in fields_by_key(Settings).items())
    return [f"{key}.{name}" for key, shape in shapes if isinstance(shape, Section) for name in fields_by_key(shape.cls)]


# --- from values to settings ---


def _build(cls: type[Any], values: _Values, path: KeyPath) -> dict[str, Any]:
    """Return the constructor arguments of a settings class; what nobody set is left to its defaults."""
    built: dict[str, Any] = {}
    for key, item in fields_by_key(cls).items():
        here = (*path, key)
        match item.shape:
            case Section(section):
                built[item.name] = section(**_build(section, values, here))
            case FreeTables():
                built[item.name] = _free_tables(values, here)
            case _ if here in values:
                built[item.name] = values[here].value
            case _:
                pass
    return built


def _free_tables(values: _Values, path: KeyPath) -> dict[str, ProviderSettings]:
    tables: dict[str, dict[str, object]] = {}
    for here, item in values.items():
        if here[: len(path)] == path:
            tables.setdefault(str(here[-2]), {})[str(here[-1])] = item.value
    return {name: ProviderSettings(table) for name, table in tables.items()}


def _make(cls: type[T], table: Mapping[str, object], path: KeyPath, source: Source) -> T:
    """Return one settings value from one table alone."""
    values = _read_table(cls, table, path, source)
    return cls(**_complete(cls, _build(cls, values, path), source.at(path), path))


def _complete(cls: type[Any], built: dict[str, Any], origin: Origin, path: KeyPath) -> dict[str, Any]:
    """Return constructor arguments, refusing them where one that has no default is missing."""
    for key, item in fields_by_key(cls).items():
        if item.required and item.name not in built:
            raise origin.error(".".join(map(str, path)), f"{key!r} is missing; add {key} = …")
    return built


def read_provider(settings: Settings, name: str, cls: type[T]) -> T:
    """Return the table `[providers.NAME]` as a value of its own class.

    Args:
        settings: Where the table is.
        name: The provider's name; a table that is not there sets nothing.
        cls: A frozen `msgspec.Struct` with keyword-only fields, annotated as in `mahavishnu.settings.fields`.

    Raises:
        SettingError: A key is unknown or missing, or its value does not fit; says where it was given.
    """
    values: _Values = {}
    path = ("providers", name)
    for key, value in (settings.providers.get(name) or ProviderSettings({})).items():
        origin = settings.origins.get(f"providers.{name}.{key}", Origin("argument", base=settings.project_dir))
        values |= _read_table(cls, {key: value}, path, Source({}, origin))
    table = Origin(str(settings.source or "settings"))
    return cls(**_complete(cls, _build(cls, values, path), table, path))
