"""Results and exceptions as bounded text for the ledger."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["error_line", "result_json", "traceback_text"]

MAX_ERROR_CHARS = 1_000
MAX_TRACEBACK_BYTES = 16_000
MAX_RESULT_BYTES = 64_000
_OWN_PACKAGE = __name__.rpartition(".")[0] + "."
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def error_line(error: BaseException) -> str:
    """Return `Type: message` in one line of at most 1,000 characters."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # a `__str__` of the user's that fails itself
        message = "(its message cannot be shown)"
    name = type(error).__name__
    return _writable(f"{name}: {message}" if message else name, MAX_ERROR_CHARS)


def traceback_text(error: BaseException) -> str:
    """Return the formatted traceback, with its causes, without our own frames, of at most 16 kB.

    Of a longer one the head and the tail are kept.
    """
    try:
        lines = traceback.format_exception(type(error), error, _below_us(error.__traceback__))
    except Exception:  # formatting calls the user's `__str__` and `__repr__`
        return error_line(error)
    text = _writable("".join(lines), None)
    encoded = text.encode()
    if len(encoded) <= MAX_TRACEBACK_BYTES:
        return text
    half = MAX_TRACEBACK_BYTES // 2 - 50
    cut = len(encoded) - 2 * half
    return f"{_text(encoded[:half])}\n… {cut:,} bytes left out …\n{_text(encoded[-half:])}"


def result_json(value: object) -> str | None:
    """Return what a job returned as JSON of about 64 kB at most; `None` for nothing.

    What JSON does not know is written as its `str`. A longer result is replaced by its beginning and a note.
    """
    if value is None:
        return None
    try:
        encoded = _ENCODER.encode(value)
    except Exception as exc:  # a loop in the data, or a `__str__` of the user's that fails
        encoded = _ENCODER.encode({"note": f"the result cannot be written as JSON ({type(exc).__name__})"})
    if len(encoded) <= MAX_RESULT_BYTES:
        return _text(encoded)
    note = f"the result is {len(encoded):,} bytes of JSON, cut to its first {MAX_RESULT_BYTES // 2:,}"
    return _text(_ENCODER.encode({"note": note, "head": _text(encoded[: MAX_RESULT_BYTES // 2])}))


def _below_us(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of the traceback that begins in the job's own code."""
    below = trace
    while below is not None and str(below.tb_frame.f_globals.get("__name__", "")).startswith(_OWN_PACKAGE):
        below = below.tb_next
    return below if below is not None else trace


def _writable(text: str, limit: int | None) -> str:
    """Return text that can be stored as UTF-8: lone surrogates and the like are escaped."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode(errors="backslashreplace").decode()


def _text(encoded: bytes) -> str:
    return encoded.decode(errors="ignore")
