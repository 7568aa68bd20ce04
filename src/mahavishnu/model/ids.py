"""Identifiers: unique, sortable by creation time, and safe in URLs, subjects and file names."""

from __future__ import annotations

import hashlib
import os
from binascii import hexlify

__all__ = ["IdSource", "derived_id", "new_id", "new_ids"]

_RANDOM_BYTES = 10
_DRAWN_AT_ONCE = 256


def new_id(now_ms: int) -> str:
    """Return a new 32-character lower-case hexadecimal id.

    Args:
        now_ms: The current time, Unix milliseconds.

    The first twelve digits are the milliseconds since the Unix epoch, so ids sort by creation; the other
    twenty are random (80 bits).
    """
    return f"{now_ms:012x}{os.urandom(_RANDOM_BYTES).hex()}"


def new_ids(now_ms: int, count: int) -> list[str]:
    """Return `count` new ids for one batch, asking the random source once."""
    prefix = f"{now_ms:012x}"
    digits = hexlify(os.urandom(_RANDOM_BYTES * count)).decode()
    width = _RANDOM_BYTES * 2
    return [prefix + digits[i : i + width] for i in range(0, width * count, width)]


def derived_id(*parts: str) -> str:
    """Return the 32-character id that always belongs to these parts.

    Two processes that derive an id for the same occurrence get the same one, which is how a queue
    recognises the second copy.
    """
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


class IdSource:
    """Gives new ids one by one, and draws their random digits for many at once. Belongs to one thread."""

    def __init__(self) -> None:
        self._digits: list[str] = []
        self._prefix_ms = -1
        self._prefix = ""

    def next(self, now_ms: int) -> str:
        """Return a new id; see `new_id`."""
        if now_ms != self._prefix_ms:
            self._prefix_ms, self._prefix = now_ms, f"{now_ms:012x}"
        if not self._digits:
            drawn, width = os.urandom(_RANDOM_BYTES * _DRAWN_AT_ONCE).hex(), _RANDOM_BYTES * 2
            self._digits = [drawn[i : i + width] for i in range(0, len(drawn), width)]
        return self._prefix + self._digits.pop()
