"""How log records become lines: one for people, one for machines, both redacted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from mahavishnu.model.secret import MASK, is_secret_key, redact_text

__all__ = ["BOUND_FIELDS", "ConsoleFormatter", "JsonFormatter", "LogEvent"]

BOUND_FIELDS = "mahavishnu_fields"
"""The attribute of a plain log record that holds the fields bound where it was logged."""

_COLOURS = {10: "\x1b[2m", 20: "\x1b[32m", 30: "\x1b[33m", 40: "\x1b[31m", 50: "\x1b[1;31m"}
_NOTHING: dict[str, object] = {}
_LARGEST = 2**63
_LONGEST_TEXT = 10_000
_DEEPEST = 5


class LogEvent:
    """What a `StructuredLogger` hands to logging as the message; its `str` is one redacted line.

    Attributes:
        event: What happened, in snake_case.
        fields: The pairs, those of `bind` first.
    """

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: Mapping[str, object]) -> None:
        self.event: str = event
        self.fields: Mapping[str, object] = fields

    def __str__(self) -> str:
        """Return `event key=value …`."""
        return _line(self.event, self.fields)

    __repr__ = __str__


class ConsoleFormatter(logging.Formatter):
    """`12:03:04 INFO  event key=value …`, in the machine's time.

    Args:
        colours: Whether levels and events are coloured.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it where there is one."""
        event, fields = _parts(record)
        clock = f"{datetime.fromtimestamp(record.created, UTC).astimezone():%H:%M:%S}"
        level = f"{record.levelname:<5}"
        if self._colours:
            level = f"{_COLOURS.get(record.levelno, '')}{level}\x1b[0m"
            clock = f"\x1b[2m{clock}\x1b[0m"
        line = f"{clock} {level} {_line(event, fields)}"
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `event`, `logger`, then the pairs, then `exception`.

    A pair with one of these names gets an underscore after it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event, fields = _parts(record)
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _safe_text(event),
            "logger": record.name,
        }
        trace = _traceback(self, record)
        taken = {*entry, "exception"}
        entry.update(
            {f"{key}_" if key in taken else _encodable(key): _plain(key, value) for key, value in fields.items()}
        )
        if trace:
            entry["exception"] = _encodable(trace)
        return msgspec.json.encode(entry).decode()


def _parts(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """Return the event and the pairs of any record."""
    message: object = record.msg
    if isinstance(message, LogEvent):
        return message.event, message.fields
    return record.getMessage(), getattr(record, BOUND_FIELDS, _NOTHING)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return redact_text(text)


# --- values as text ---


def _line(event: str, fields: Mapping[str, object]) -> str:
    pairs = " ".join(f"{_visible(key)}={_console(_plain(key, value))}" for key, value in fields.items())
    line = _visible(_safe_text(event))
    return f"{line} {pairs}" if pairs else line


def _console(value: object) -> str:
    """Return a plain value as one word: text is quoted where a reader could not tell its end."""
    if isinstance(value, str):
        bare = value and not any(letter in value for letter in " \"'=") and value.isprintable()
        return value if bare else _quoted(value)
    return _visible(msgspec.json.encode(value).decode())


def _quoted(text: str) -> str:
    return _visible(msgspec.json.encode(text).decode())


def _visible(text: str) -> str:
    """Return text that can neither move a terminal's cursor nor start a second line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _plain(key: str, value: Any, depth: int = 0) -> Any:
    """Return a value that JSON can hold, redacted and of bounded size; never raises."""
    if value is None or isinstance(value, bool):
        return value
    if is_secret_key(key):
        return MASK
    if type(value) in {int, float}:
        return value if abs(value) < _LARGEST else _safe_text(value)
    if depth < _DEEPEST and isinstance(value, Mapping | list | tuple | set | frozenset):
        return _plain_container(key, cast("Any", value), depth + 1)
    return _safe_text(cast("object", value))


def _plain_container(key: str, value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return {_safe_text(name): _plain(str(name), item, depth) for name, item in pairs}
    return [_plain(key, item, depth) for item in value]


def _safe_text(value: object) -> str:
    """Return anything as redacted, encodable text of bounded length; a failing `str` is no reason to fail."""
    try:
        text = str(value)
    except Exception as exc:
        text = f"<{type(value).__name__} whose text cannot be had: {type(exc).__name__}>"
    text = redact_text(text)
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}… ({len(text) - _LONGEST_TEXT} more characters)"
    return _encodable(text)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
