"""Text that must not be shown, and how credentials are taken out of text that is."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["MASK", "Secret", "is_secret_key", "redact_text", "redact_url"]

MASK = "***"

_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "private_key",
    "authorization",
    "auth_string",
    "credential",
    "cookie",
)
_NAME = "|".join(word.replace("_", "[_-]?") for word in _WORDS)
# Patterns are compiled at the first use and kept by `re`, which keeps imports fast.
#
# Up to the last "@" before the path; or, where a password holds an unescaped slash, to the last "@" at all. What
# follows a colon and is digits only is a port. The lengths are bounded so that no text takes long to search.
_USER_INFO = r"(?<=://)(?:[^\s/?#]{0,4096}@|[^\s/?#:]{0,4096}:(?!\d*(?:[/?#\s]|$))\S{0,4096}@)"
# `name=value`; with a colon only as in a header or where the name is quoted, since prose has colons too.
_PAIR = (
    rf"(?i:(?P<key>(?:{_NAME})[\w-]{{0,64}}(?:\s?=\s?|[\"']\s?:\s?)|(?:authorization|password)\s?:\s?)"
    rf"(?:(?:basic|bearer|digest)\s+)?(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s&;,#]+))"
)


class Secret:
    """Text whose `str` and `repr` never show it; `reveal()` does.

    Args:
        value: The text itself; empty text is a false `Secret`.
        shown: What `str` shows in its place, by default `***`.
    """

    __slots__ = ("_shown", "_value")

    def __init__(self, value: str, *, shown: str = MASK) -> None:
        self._value = value
        self._shown = shown if value else ""

    @classmethod
    def url(cls, value: str) -> Secret:
        """Return a URL as a secret that shows itself without its credentials."""
        return cls(value, shown=redact_url(value))

    def reveal(self) -> str:
        """Return the text itself, for the one call that needs it."""
        return self._value

    def __str__(self) -> str:
        """Return what may be shown."""
        return self._shown

    def __repr__(self) -> str:
        """Return what may be shown, marked as a secret."""
        return f"Secret({self._shown!r})"

    def __bool__(self) -> bool:
        """Return whether there is any text."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same text."""
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        """Return a hash of the text."""
        return hash(self._value)


def redact_url(url: str) -> str:
    """Return a URL without its user and password, and with `***` for secrets in its query."""
    return redact_text(url)


def redact_text(text: str) -> str:
    """Return text with the credentials of every URL in it taken out, and with `***` after names such as `password=`."""
    if "://" in text:
        text = re.sub(_USER_INFO, "", text)
    if "=" in text or ":" in text:
        text = re.sub(_PAIR, _mask_pair, text)
    return text


def _mask_pair(found: re.Match[str]) -> str:
    return f"{found['key']}{MASK}"


@lru_cache(maxsize=1024)
def is_secret_key(key: str) -> bool:
    """Return whether a value of this name is to be hidden: `password`, `api_key`, `auth_token` and the like."""
    plain = key.lower().replace("-", "_")
    return any(word in plain for word in _WORDS)
