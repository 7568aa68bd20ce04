"""Structured log lines on the standard library's logging: an event, then `key=value` pairs.

```python
logger = get_logger(__name__)
logger.error("task_failed", error=str(exc), attempt=2)
```

Nothing is set up at import, and no logger but `mahavishnu` is ever touched: the command line calls
`configure_logging`, a program that embeds the scheduler keeps its own set-up. There the event and its pairs are
the message, so that any handler shows them. Values under names such as `password`, and credentials in URLs, are
masked everywhere.
"""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from mahavishnu.errors import ConfigurationError, nearest
from mahavishnu.observability.formats import BOUND_FIELDS, ConsoleFormatter, JsonFormatter, LogEvent

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import TypeAlias

    ExcInfo: TypeAlias = bool | BaseException | None

__all__ = [
    "BoundFieldsFilter",
    "StructuredLogger",
    "bind",
    "configure_logging",
    "get_logger",
]

ROOT = "mahavishnu"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# From an application's call: _log, then debug/info/…
_STACK_LEVEL = 3
_NOTHING: dict[str, object] = {}
_bound: ContextVar[dict[str, object]] = ContextVar("mahavishnu_log_fields", default=_NOTHING)


class bind:
    """Add fields to every line logged inside `with bind(run_id=…):`, also by what it awaits and the tasks it starts."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields
        self._token: Token[dict[str, object]] | None = None

    def __enter__(self) -> None:
        """Add the fields."""
        self._token = _bound.set({**_bound.get(), **self._fields})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take them away again."""
        if self._token is not None:
            _bound.reset(self._token)


class StructuredLogger:
    """A named logger whose calls take an event and `key=value` pairs. Costs little where its level is off."""

    __slots__ = ("_enabled", "_logger")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._enabled = logger.isEnabledFor

    def is_enabled(self, level: str) -> bool:
        """Return whether lines of this level (`debug` … `critical`) are written."""
        return self._enabled(LEVELS[level])

    def debug(self, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log what helps to find a fault."""
        if self._enabled(10):
            self._log(10, event, fields, exc_info)

    def info(self, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log what an operator wants to see when all is well."""
        if self._enabled(20):
            self._log(20, event, fields, exc_info)

    def warning(self, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log what went wrong and is being dealt with."""
        if self._enabled(30):
            self._log(30, event, fields, exc_info)

    def error(self, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log what went wrong and needs somebody."""
        if self._enabled(40):
            self._log(40, event, fields, exc_info)

    def critical(self, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log what stops the program."""
        if self._enabled(50):
            self._log(50, event, fields, exc_info)

    def exception(self, event: str, /, *, exc_info: ExcInfo = True, **fields: object) -> None:
        """Log an error with the traceback of the exception being handled."""
        if self._enabled(40):
            self._log(40, event, fields, exc_info)

    def log(self, level: str, event: str, /, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """Log at a level given by name: `debug`, `info`, `warning`, `error` or `critical`."""
        if self._enabled(LEVELS[level]):
            self._log(LEVELS[level], event, fields, exc_info)

    def _log(self, level: int, event: str, fields: dict[str, object], exc_info: ExcInfo) -> None:
        bound = _bound.get()
        message = LogEvent(event, {**bound, **fields} if bound else fields)
        self._logger.log(level, message, exc_info=exc_info, stacklevel=_STACK_LEVEL)


def get_logger(name: str) -> StructuredLogger:
    """Return the structured logger of a module or a part; names within `mahavishnu` go where its lines go."""
    return StructuredLogger(logging.getLogger(name))


class BoundFieldsFilter(logging.Filter):
    """Gives plain standard records the fields of `bind`, for our formatters; structured ones have them already."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        setattr(record, BOUND_FIELDS, _bound.get())
        return True


def configure_logging(level: str = "info", format: str = "console", stream: TextIO | None = None) -> None:
    """Send the lines of the `mahavishnu` logger to a stream, replacing what an earlier call set up.

    Only programs of our own call this; it leaves all other loggers alone.

    Args:
        level: The least severe level written: `debug`, `info`, `warning`, `error` or `critical`.
        format: `console` for people or `json` for machines.
        stream: Where to, default standard error. Coloured if it is a terminal and `NO_COLOR` is not set.

    Raises:
        ConfigurationError: There is no such level or format.
    """
    for name, value, known in (("level", level, LEVELS), ("format", format, ("console", "json"))):
        if value not in known:
            raise ConfigurationError(f"logging {name} {value!r} is unknown{nearest(value, known)}")
    target = stream if stream is not None else sys.stderr
    handler = _OurHandler(target)
    handler.addFilter(BoundFieldsFilter())
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter(colours=_has_colours(target)))
    logger = logging.getLogger(ROOT)
    for earlier in [item for item in logger.handlers if isinstance(item, _OurHandler)]:
        logger.removeHandler(earlier)
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False


class _OurHandler(logging.StreamHandler[TextIO]):
    """Told apart from handlers that a program added itself."""


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
