"""The five fields of a cron expression, read exactly as Debian's cron reads them.

Reading is lenient: what cron tolerates is accepted and kept as data (dropped tails, reversed ranges), so
that the calendar, the strict check of the API and the crontab linter judge the same facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from mahavishnu.errors import InvalidTriggerError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FIELD_NAMES",
    "MACROS",
    "CronElement",
    "CronExpression",
    "CronField",
    "FieldName",
]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class FieldName(StrEnum):
    """The fields, in the order they are written."""

    MINUTE = "minute"
    """0 to 59."""
    HOUR = "hour"
    """0 to 23."""
    DAY = "day-of-month"
    """1 to 31."""
    MONTH = "month"
    """1 to 12, or `jan` to `dec`."""
    WEEKDAY = "day-of-week"
    """0 to 7, where 0 and 7 are Sunday, or `sun` to `sat`."""

    @property
    def low(self) -> int:
        """The smallest value."""
        return _RANGES[self][0]

    @property
    def high(self) -> int:
        """The largest value."""
        return _RANGES[self][1]

    @property
    def names(self) -> tuple[str, ...]:
        """The English names of the values from `low` on; empty where only numbers are allowed."""
        return {FieldName.MONTH: _MONTHS, FieldName.WEEKDAY: _WEEKDAYS}.get(self, ())

    @property
    def code(self) -> str:
        """The error code for a field that cannot be read."""
        return f"bad-{self.value}"

    @property
    def words(self) -> str:
        """The field's name in prose."""
        return self.value.replace("-", " ")


_RANGES = {
    FieldName.MINUTE: (0, 59),
    FieldName.HOUR: (0, 23),
    FieldName.DAY: (1, 31),
    FieldName.MONTH: (1, 12),
    FieldName.WEEKDAY: (0, 7),
}
FIELD_NAMES = tuple(FieldName)

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The `@words` that stand for times. `@reboot` is understood, but is no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronElement:
    """One part of a comma-separated field.

    Attributes:
        first: The first value.
        last: The last value; equal to `first` for a single number.
        step: 1 where none is written.
        is_star: Whether it is written `*`.
        is_range: Whether it is written `a-b`.
    """

    first: int
    last: int
    step: int = 1
    is_star: bool = False
    is_range: bool = False

    @property
    def is_reversed(self) -> bool:
        """Whether it is a range whose end lies before its start, which matches nothing."""
        return self.first > self.last

    @property
    def values(self) -> range:
        """The values it matches; a weekday may be 7."""
        return range(self.first, self.last + 1, self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronField:
    """One field, read.

    Attributes:
        name: Which field.
        text: As written.
        elements: Its parts, in the order written.
        dropped: What followed the last complete part and is ignored by cron; usually empty.
        mask: Bit `n` is set where value `n` matches; Sunday is bit 0 only.
    """

    name: FieldName
    text: str
    elements: tuple[CronElement, ...]
    dropped: str
    mask: int

    @property
    def starts_with_star(self) -> bool:
        """Whether the text starts with `*`, which the day rule and the clock changes look at."""
        return self.text.startswith("*")

    @property
    def values(self) -> tuple[int, ...]:
        """The values that match, ascending; Sunday is 0."""
        return tuple(n for n in range(self.name.high + 1) if self.mask >> n & 1)

    @property
    def is_every(self) -> bool:
        """Whether every value matches."""
        return self.mask == _full_mask(self.name)

    @classmethod
    def parse(cls, name: FieldName, text: str) -> CronField:
        """Return the field as cron reads it.

        Args:
            name: Which field.
            text: One word, without blanks.

        Raises:
            InvalidTriggerError: Cron refuses it; `.code` is the field's error code.
        """
        elements: list[CronElement] = []
        position = 0
        while True:
            element, position = _element(name, text, position)
            elements.append(element)
            if text[position : position + 1] != ",":
                break
            position += 1
        mask = 0
        for element in elements:
            for value in element.values:
                mask |= 1 << (value % 7 if name is FieldName.WEEKDAY else value)
        return cls(name=name, text=text, elements=tuple(elements), dropped=text[position:], mask=mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronExpression:
    """A whole expression, read.

    Attributes:
        text: The fields as written with single blanks between them, or the `@word`.
        macro: The `@word`, or `None`.
        fields: The five fields, in order; of an `@word`, what it stands for; empty for `@reboot`.
    """

    text: str
    macro: str | None
    fields: tuple[CronField, ...]

    @classmethod
    def parse(cls, text: str) -> CronExpression:
        """Return the expression as cron reads it, tolerating what cron tolerates.

        Args:
            text: Five fields separated by blanks or tabs, or an `@word` in lower case.

        Raises:
            InvalidTriggerError: Cron refuses it. `.code` is `bad-minute`, `bad-hour`, `bad-day-of-month`,
                `bad-month`, `bad-day-of-week`, `bad-time-specifier` (an unknown `@word`) or
                `wrong-field-count`, the first that applies.
        """
        return _parse(text)

    @classmethod
    def from_words(cls, words: Sequence[str]) -> CronExpression:
        """Return the expression made of the words at the start of a crontab's line.

        Args:
            words: One `@word`, or up to five fields; what follows the fifth is not looked at. A field that
                is missing is a bad field, as in cron.

        Raises:
            InvalidTriggerError: Cron refuses it.
        """
        if words and words[0].startswith("@"):
            return _macro(words[0])
        padded = [*words[:5], *[""] * (5 - len(words))]
        text = " ".join(padded).strip()
        try:
            fields = tuple(CronField.parse(name, word) for name, word in zip(FIELD_NAMES, padded, strict=True))
        except InvalidTriggerError as exc:
            raise InvalidTriggerError(text, exc.problem, exc.remedy, code=exc.code) from None
        return cls(text=text, macro=None, fields=fields)

    def field(self, name: FieldName) -> CronField:
        """Return one field; `@reboot` has none."""
        return self.fields[FIELD_NAMES.index(name)]

    @property
    def is_reboot(self) -> bool:
        """Whether it is `@reboot`, which is no time at all."""
        return not self.fields

    @property
    def is_wildcard(self) -> bool:
        """Whether it follows the wall clock through a clock change: minute or hour starts with `*`."""
        return any(f.starts_with_star for f in self.fields[:2])

    @property
    def needs_both_days(self) -> bool:
        """Whether day of month and weekday must both match; otherwise either suffices."""
        return self.field(FieldName.DAY).starts_with_star or self.field(FieldName.WEEKDAY).starts_with_star

    @property
    def never_fires(self) -> bool:
        """Whether no date at all can match, such as 30 February or a reversed range."""
        if self.is_reboot or not all(self.fields[i].mask for i in (0, 1, 3)):
            return True
        day, weekday = self.field(FieldName.DAY), self.field(FieldName.WEEKDAY)
        some_day = any(
            value <= _DAYS_IN_MONTH[month - 1] for month in self.field(FieldName.MONTH).values for value in day.values
        )
        some_weekday = bool(weekday.mask)
        return not (some_day and some_weekday if self.needs_both_days else some_day or some_weekday)


@lru_cache(maxsize=512)
def _parse(text: str) -> CronExpression:
    words = [word for word in re.split(r"[ \t]+", text.strip()) if word]
    if words and words[0].startswith("@") and len(words) == 1:
        return _macro(words[0])
    if len(words) != len(FIELD_NAMES):
        problem = f"it has {len(words)} field{'' if len(words) == 1 else 's'}, cron has five"
        raise InvalidTriggerError(text, problem, "write minute hour day month weekday", code="wrong-field-count")
    return CronExpression.from_words(words)


def _macro(word: str) -> CronExpression:
    if word == "@reboot":
        return CronExpression(text=word, macro=word, fields=())
    if word not in MACROS:
        known = " ".join(MACROS)
        raise InvalidTriggerError(
            word, f"cron knows no {word}", f"write five fields or one of {known}", code="bad-time-specifier"
        )
    meant = CronExpression.from_words(MACROS[word].split())
    return CronExpression(text=word, macro=word, fields=meant.fields)


_WORD = re.compile(r"[0-9A-Za-z]*")


def _element(name: FieldName, text: str, position: int) -> tuple[CronElement, int]:
    if text[position : position + 1] == "*":
        first, last, position = name.low, name.high, position + 1
        is_star = True
    else:
        first, position = _value(name, text, position)
        is_star = False
        following = text[position : position + 1]
        if following == "/":
            raise _bad(name, text, f"a step needs '*' or a range before it, not the single value {first}")
        if following != "-":
            return CronElement(first=first, last=first), position
        last, position = _value(name, text, position + 1)
    step, position = _step(name, text, position)
    return CronElement(first=first, last=last, step=step, is_star=is_star, is_range=not is_star), position


def _value(name: FieldName, text: str, position: int) -> tuple[int, int]:
    word, end = _word_at(text, position)
    if not word:
        found = f"{text[position]!r} stands" if position < len(text) else "nothing stands"
        raise _bad(name, text, f"{found} where a value must")
    if word.lower() in name.names:
        return name.names.index(word.lower()) + name.low, end
    if not word.isdigit():
        raise _bad(name, text, f"{word!r} is no value")
    value = _number(word)
    if not name.low <= value <= name.high:
        raise _bad(name, text, f"{word} is not between {name.low} and {name.high}")
    return value, end


def _step(name: FieldName, text: str, position: int) -> tuple[int, int]:
    if text[position : position + 1] != "/":
        return 1, position
    word, end = _word_at(text, position + 1)
    if not word.isdigit() or _number(word) == 0:
        raise _bad(name, text, f"the step {word!r} is not a number of 1 or more")
    return _number(word), end


def _word_at(text: str, position: int) -> tuple[str, int]:
    match = _WORD.match(text, position)
    assert match is not None  # the pattern matches the empty text too
    return match.group(), match.end()


def _bad(name: FieldName, text: str, problem: str) -> InvalidTriggerError:
    where = f"{name.words} {text!r}: " if text else f"{name.words}: "
    return InvalidTriggerError(text, where + problem, f"write {name.low} to {name.high}", code=name.code)


def _full_mask(name: FieldName) -> int:
    high = 6 if name is FieldName.WEEKDAY else name.high
    return (1 << high + 1) - (1 << name.low)


def _number(digits: str) -> int:
    # Nine digits are beyond every limit already; int() refuses thousands of them.
    return int(digits.lstrip("0")[:9] or "0")
