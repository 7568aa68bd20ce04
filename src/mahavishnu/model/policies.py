"""What becomes of fire times that are reached late, and of those that find the previous run unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mahavishnu.errors import ConfigurationError, nearest

__all__ = ["DEFAULT_GRACE", "MisfireKind", "MisfirePolicy", "OverlapPolicy"]

DEFAULT_GRACE = timedelta(seconds=60)
_CHOICES = "'latest', 'skip', 'all' or 'cap=N'"


class OverlapPolicy(StrEnum):
    """What to do at a fire time while the previous occurrence is still running."""

    SKIP = "skip"
    """Leave this one out, and record why."""
    QUEUE_ONE = "queue_one"
    """Let one wait and start when the previous one ends; any further are left out."""
    ALLOW = "allow"
    """Start it beside the other."""

    @classmethod
    def parse(cls, value: str | OverlapPolicy) -> OverlapPolicy:
        """Return the policy of this name; `queue-one` is read as `queue_one`.

        Raises:
            ConfigurationError: The name is none of the three.
        """
        try:
            return cls(str(value).replace("-", "_"))
        except ValueError:
            hint = nearest(str(value), [p.value for p in cls])
            raise ConfigurationError(f"overlap policy {value!r} is unknown{hint}") from None


class MisfireKind(StrEnum):
    """Which of the missed fire times still run."""

    LATEST = "latest"
    """The newest one, unless one that is on time runs anyway; the others are coalesced into it."""
    SKIP = "skip"
    """None."""
    ALL = "all"
    """All of them, oldest first."""
    CAP = "cap"
    """The newest few, at most `cap`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MisfirePolicy:
    """How fire times that are reached late are treated.

    Attributes:
        kind: Which of the missed ones still run; default `latest`.
        cap: With kind `cap`, how many, at least 1; otherwise `None`.
        grace: How late a fire time may be reached and still count as on time; default 60 s, not negative.

    Raises:
        ConfigurationError: `cap` or `grace` is out of range, or `cap` does not go with the kind.
    """

    kind: MisfireKind = MisfireKind.LATEST
    cap: int | None = None
    grace: timedelta = DEFAULT_GRACE

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if (self.kind is MisfireKind.CAP) != (self.cap is not None):
            raise ConfigurationError(f"misfire policy {self.kind.value!r}: a cap goes with 'cap' only; write 'cap=3'")
        if self.cap is not None and self.cap < 1:
            raise ConfigurationError(f"misfire policy 'cap={self.cap}': the cap is at least 1; for none write 'skip'")
        if self.grace < timedelta(0):
            raise ConfigurationError(f"misfire grace {self.grace}: it cannot be negative; the least is 0 seconds")

    def __str__(self) -> str:
        """Return the form that `parse` reads, without the grace."""
        return f"cap={self.cap}" if self.kind is MisfireKind.CAP else self.kind.value

    @classmethod
    def parse(cls, value: str | MisfirePolicy | None, *, grace: timedelta | None = None) -> MisfirePolicy:
        """Return the policy written as `value`.

        Args:
            value: `"latest"`, `"skip"`, `"all"`, `"cap=3"`, a policy, or `None` for the default, `latest`.
            grace: How late is still on time; `None` keeps the policy's own, by default 60 s.

        Raises:
            ConfigurationError: The policy is unknown, its cap is not a positive number, or the grace is negative.
        """
        if isinstance(value, MisfirePolicy):
            return value if grace is None else cls(kind=value.kind, cap=value.cap, grace=grace)
        kind, cap = _kind_and_cap("latest" if value is None else str(value))
        return cls(kind=kind, cap=cap, grace=DEFAULT_GRACE if grace is None else grace)


def _kind_and_cap(text: str) -> tuple[MisfireKind, int | None]:
    name, equals, number = (part.strip() for part in text.partition("="))
    if name == MisfireKind.CAP:
        if not number.isascii() or not number.isdigit():
            raise ConfigurationError(f"misfire policy {text!r}: the cap is a whole number; write for example 'cap=3'")
        return MisfireKind.CAP, int(number)
    if equals or name not in [k.value for k in MisfireKind]:
        raise ConfigurationError(f"misfire policy {text!r} is unknown; write {_CHOICES}")
    return MisfireKind(name), None
