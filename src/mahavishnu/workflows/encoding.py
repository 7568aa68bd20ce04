"""Contexts as bytes: what may travel to another process, and how.

Only data travels: msgpack, never pickle. Values come back in their plain form (a path as text, a set as a
list, a dataclass as a mapping); binding them to the workflow's signature turns them into what it asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, cast

import msgspec

from mahavishnu.errors import ContextError, EnvelopeError

__all__ = ["DEFAULT_MAX_BYTES", "decode_context", "encode_context"]

DEFAULT_MAX_BYTES = 1_000_000
"""Largest encoded context: what the smallest of the brokers takes, and far more than a job should carry."""

_EMPTY = b"\x80"
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_KEYS = frozenset({str})
_MAX_DEPTH = 100


def _plain(value: object) -> object:
    """Return a plain form of what msgspec does not know itself."""
    match value:
        case os.PathLike():
            return os.fspath(cast("os.PathLike[str]", value))
        case Mapping():
            return dict(cast("Mapping[object, object]", value))
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case AbstractSet():
            return list(cast("AbstractSet[object]", value))
        case _:
            raise NotImplementedError


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
_DECODER: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])


def encode_context(key: str, context: Mapping[str, object], *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Return `context` as msgpack.

    Paths become text; sets and tuples lists; dataclasses (such as `Repo`) and structs mappings; enums their
    values; datetimes msgpack timestamps in UTC.

    Args:
        key: The workflow's key, for messages.
        context: Argument names and values.
        max_bytes: Largest result, default 1,000,000.

    Raises:
        ContextError: A value cannot travel (a lock, a connection, a naive datetime, ...), or all together
            are too large. The message has the path of the value, never the value.
    """
    if not context:
        return _EMPTY
    if not _KEYS.issuperset(map(type, context)):
        raise ContextError(key, "its keys are the names of arguments and must be text")
    if not _SCALARS.issuperset(map(type, context.values())):
        _refuse_naive(key, context)
    try:
        data = _ENCODER.encode(context)
    except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ContextError(key, _why_not_encoded(context, exc)) from exc
    if len(data) > max_bytes:
        raise ContextError(
            key,
            f"it encodes to {len(data):,} bytes and {max_bytes:,} are allowed;"
            " store the data and send a reference to it (a path, a URL, a key)",
        )
    return data


def decode_context(data: bytes) -> dict[str, object]:
    """Return the context that `encode_context` made `data` of, in plain values.

    Raises:
        EnvelopeError: `data` is something else.
    """
    if data == _EMPTY:
        return {}
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise EnvelopeError(f"its context is not a msgpack map with text keys ({exc})", code="context") from exc


def _refuse_naive(key: str, context: Mapping[str, object]) -> None:
    """Refuse datetimes without a zone: msgspec would send them, and the reader would have to guess."""
    for path, leaf in _leaves(context, skip=_SCALARS):
        if isinstance(leaf, datetime) and leaf.tzinfo is None:
            raise ContextError(
                key, f"{path}: a naive datetime; give it a time zone, such as datetime.now(timezone.utc)"
            )
        if _children(leaf) is not None:
            raise ContextError(key, f"{path}: nested deeper than {_MAX_DEPTH} levels, or contains itself")


def _why_not_encoded(context: Mapping[str, object], exc: Exception) -> str:
    for path, leaf in _leaves(context, skip=frozenset()):
        try:
            _ENCODER.encode(leaf)
        except (NotImplementedError, TypeError):
            kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}".removeprefix("builtins.")
            return f"{path}: a {kind} cannot be sent to another process; pass plain data"
        except OverflowError:
            return f"{path}: an int of more than 64 bits cannot be sent; pass it as text"
        except ValueError:
            return f"{path}: text that is no valid Unicode cannot be sent; pass bytes"
    return f"it cannot be encoded ({exc}); pass plain data"


def _leaves(value: object, path: str = "", depth: int = 0, *, skip: frozenset[type]) -> Iterator[tuple[str, object]]:
    """Yield what is in `value` and is no container, with its path, such as `"repos[2].lock"`.

    Values of the types in `skip` are left out. A container at the greatest depth is yielded as it is.
    """
    children = _children(value) if depth < _MAX_DEPTH else None
    if children is None:
        yield path, value
        return
    for step, child in children:
        kind = type(child)
        # Most lists hold scalars only, which this sees without a step per item.
        if kind not in skip and not (kind is list and skip.issuperset(map(type, cast("list[object]", child)))):
            yield from _leaves(child, (path + step).removeprefix("."), depth + 1, skip=skip)


def _children(value: object) -> Iterator[tuple[str, object]] | None:
    """Return the parts of a container with the step that leads to each, or `None` for anything else."""
    match value:
        case Mapping():
            mapping = cast("Mapping[object, object]", value)
            return ((f".{name}" if isinstance(name, str) else f"[{name!r}]", part) for name, part in mapping.items())
        case list() | tuple() | set() | frozenset():
            parts = cast("list[object]", value)
            return ((f"[{index}]", part) for index, part in enumerate(parts))
        case msgspec.Struct():
            return ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return ((f".{field.name}", getattr(value, field.name, None)) for field in fields(value))
        case _:
            return None
