"""Durations as people type them on a command line: `90s`, `5m`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

__all__ = ["duration"]

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[wdhms])\s*", re.ASCII)


def duration(text: str | timedelta) -> timedelta:
    """Return the duration that `text` spells out; made for `click.option("--every", type=duration)`.

    Args:
        text: Numbers with a unit each (`w d h m s ms`), in any order: `"1h30m"`, `"0.5 s"`. An option's default
            may be a duration already.

    Returns:
        The sum of the parts.

    Raises:
        click.BadParameter: The text is empty, has a number without a unit, a unit twice, or is too long to represent.
    """
    if isinstance(text, timedelta):
        return text
    wanted = text.strip().lower()
    found = _PART.findall(wanted)
    parts = {_UNITS[unit]: float(number) for number, unit in found}
    if not parts or len(parts) != len(found) or _PART.sub("", wanted):
        raise click.BadParameter(f"{text!r} is not a duration; write it like 90s, 5m, 1h30m or 2d")
    try:
        return timedelta(**parts)
    except OverflowError:
        raise click.BadParameter(f"{text!r} is longer than any duration can be") from None
