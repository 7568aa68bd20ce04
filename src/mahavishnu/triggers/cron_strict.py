"""The strict reading of a cron expression, for the API: no guessing, and a remedy in every refusal.

Cron itself tolerates text that does not mean what it seems to, and other schedulers have dialects that look
alike. Here both are refused, naming the dialect and the nearest thing cron can do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers.cron_fields import FIELD_NAMES, MACROS, CronExpression, FieldName

if TYPE_CHECKING:
    from collections.abc import Callable

    from mahavishnu.triggers.cron_fields import CronElement, CronField

__all__ = ["strict_expression"]

_LOOKS_LIKE_FIELD = re.compile(r"[0-9*?][0-9*?,/LW#-]*|(sun|mon|tue|wed|thu|fri|sat)([,-]\w{3})*", re.IGNORECASE)
_WRITE_FIVE = "write minute hour day-of-month month day-of-week, for example '30 2 * * *' for 02:30 every day"


def strict_expression(text: object) -> CronExpression:
    """Return the expression if cron reads all of it as it is written and it names times.

    Args:
        text: Five fields or an `@word`; anything but text is refused like any other wrong value.

    Raises:
        InvalidTriggerError: It is refused. `.code` is one of cron's own (`bad-minute`, …), or `field-junk`,
            `random-range`, `reversed-range`, `never-fires` or `reboot` for what cron would tolerate.
    """
    if not isinstance(text, str):
        problem = f"a cron expression is text, not {type(text).__name__}"
        raise InvalidTriggerError(str(text), problem, _WRITE_FIVE)
    words = text.split()
    if len(words) != len(FIELD_NAMES) or words[0].startswith("@"):
        _check_shape(text.strip(), words)
    for name, word in zip(FIELD_NAMES, words, strict=False):
        _check_dialect(words, name, word)
    expression = CronExpression.parse(text)
    for field in expression.fields:
        _check_tolerated(expression, field)
    if expression.never_fires:
        raise InvalidTriggerError(
            expression.text, "no date matches it, so it never fires", _never_remedy(expression), code="never-fires"
        )
    return expression


def _check_shape(text: str, words: list[str]) -> None:
    if not words:
        raise InvalidTriggerError(text, "the expression is empty", _WRITE_FIVE, code="wrong-field-count")
    if re.match(r"(CRON_)?TZ=", words[0]):
        zone = words[0].partition("=")[2].strip("\"'")
        remedy = f"write {' '.join(words[1:])!r} with timezone={zone!r}"
        raise InvalidTriggerError(text, "a zone is no part of the expression", remedy, code="bad-minute")
    if words[0].startswith("@"):
        _check_macro(text, words)
    elif len(words) > len(FIELD_NAMES):
        _refuse_too_many(text, words)
    else:
        problem = f"it has {len(words)} field{'' if len(words) == 1 else 's'}, cron has five"
        raise InvalidTriggerError(text, problem, _WRITE_FIVE, code="wrong-field-count")


def _check_macro(text: str, words: list[str]) -> None:
    word, code = words[0], "bad-time-specifier"
    if word == "@reboot":
        problem = "it names the start of a machine, not a time"
        raise InvalidTriggerError(text, problem, "run the task when the app starts", code="reboot")
    if word == "@every":
        problem = "'@every' is Kubernetes' form (Go's cron library), not cron's"
        raise InvalidTriggerError(text, problem, "use an interval: every=timedelta(minutes=…)", code=code)
    if word not in MACROS:
        lower = word.lower() if word.lower() in MACROS else ""
        remedy = f"write {lower!r}, in lower case" if lower else f"write five fields or one of {' '.join(MACROS)}"
        raise InvalidTriggerError(text, f"cron knows no {word!r}", remedy, code=code)
    if len(words) > 1:
        raise InvalidTriggerError(text, f"something follows {word}", f"write {word!r} alone", code="wrong-field-count")


def _refuse_too_many(text: str, words: list[str]) -> None:
    problem, code = f"it has {len(words)} fields, cron has five", "wrong-field-count"
    if len(words) > 7 or not all(_LOOKS_LIKE_FIELD.fullmatch(word) for word in words):
        remedy = f"give the times alone, without user or command: {' '.join(words[:5])!r}"
        raise InvalidTriggerError(text, problem, remedy, code=code)
    dialect = "Quartz and Spring put seconds first" + (" and Quartz the year last" if len(words) == 7 else "")
    rest = [_translated(name, word) for name, word in zip(FIELD_NAMES, words[1:6], strict=True)]
    remedy = f"leave the seconds out: {' '.join(rest)!r}"
    if words[0].strip("0"):
        remedy += "; for times within a minute use an interval, every=timedelta(seconds=…)"
    if re.search(r"\d", words[5]):
        remedy += "; mind the weekday: Quartz counts from 1 = Sunday, cron from 0 = Sunday"
    raise InvalidTriggerError(text, f"{problem}; {dialect}", remedy, code=code)


def _translated(name: FieldName, word: str) -> str:
    """Return a Quartz or Spring field as cron writes it, as far as that is possible."""
    if word == "?":
        return "*"
    match = re.fullmatch(r"(\d+)/(\d+)", word)
    return _stepped(name, match) if match else word


def _stepped(name: FieldName, match: re.Match[str]) -> str:
    start, step = int(match[1][:9]), match[2]
    if start <= name.low:
        return "*" if step == "1" else f"*/{step}"
    return f"{start}-{_last(name)}/{step}"


def _last(name: FieldName) -> int:
    return 6 if name is FieldName.WEEKDAY else name.high


# --- dialects: a pattern, and what to say of it ---


def _any(_: FieldName, __: re.Match[str]) -> tuple[str, str, str]:
    return "'?' is Quartz's, Spring's and Kubernetes' sign for any value", "*", ""


def _single_step(name: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    problem = "a step after a single value is Quartz's, Spring's and Kubernetes' form; cron needs '*' or a range"
    return problem, _stepped(name, match), ""


def _nth_weekday(_: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    number = int(match[2][:9])
    ordinal = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")
    nearest_to_it = "29-31" if number > 4 else f"{number * 7 - 6}-{number * 7}"
    remedy = f"nearest: day of month {nearest_to_it!r} with weekday '*', and the task returns Cancel on other weekdays"
    return f"'#' (the {ordinal} such weekday of a month) is Quartz's and Spring's; cron cannot say it", "", remedy


def _last_day(name: FieldName, _: re.Match[str]) -> tuple[str, str, str]:
    problem = "'L' (the last) is Quartz's and Spring's; cron cannot say it"
    if name is FieldName.WEEKDAY:
        return problem, "", "nearest: that weekday every week, and the task returns Cancel unless it is the last"
    return problem, "28-31", "the task returns Cancel unless tomorrow is the first"


def _nearest_workday(_: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    problem = "'W' (the nearest working day) is Quartz's and Spring's; cron cannot say it"
    return problem, match[1] or "28-31", "the day itself, and the task decides about weekends"


def _hashed(name: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    problem = "'H' (a value picked by hashing the job's name) is Jenkins's; cron wants it written out"
    value = f"*/{match[1]}" if match[1] else str({FieldName.MINUTE: 17, FieldName.HOUR: 3}.get(name, name.low))
    return problem, value, "any value will do"


def _random(_: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    problem = "'~' (a value picked at random) is cronie's and OpenBSD's; Debian's cron drops what follows it"
    return problem, match[1] or match[2] or "17", "any one value"


def _long_name(name: FieldName, match: re.Match[str]) -> tuple[str, str, str]:
    short = re.sub(r"[a-z]{4,}", lambda m: m[0][:3], match[0].lower())
    return f"cron knows the names of {name.words} by three letters only", short, ""


_DialectRule = tuple[
    re.Pattern[str], frozenset[FieldName], "Callable[[FieldName, re.Match[str]], tuple[str, str, str]]"
]
_ALL = frozenset(FieldName)
_DAYS = frozenset({FieldName.DAY, FieldName.WEEKDAY})
_NAMED = frozenset({FieldName.MONTH, FieldName.WEEKDAY})
_NAME = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|thurs?|tues"
_MONTH = r"january|february|march|april|june|july|august|sept(?:ember)?|october|november|december"

_DIALECTS: tuple[_DialectRule, ...] = (
    (re.compile(r"\?"), _ALL, _any),
    (re.compile(r"(\d+)/(\d+)"), _ALL, _single_step),
    (re.compile(r"(\w+)#(\d+)"), frozenset({FieldName.WEEKDAY}), _nth_weekday),
    (re.compile(r"(\d*)L?W", re.IGNORECASE), frozenset({FieldName.DAY}), _nearest_workday),
    (re.compile(r"L(?:-\d+)?|L\d|\w{1,3}L", re.IGNORECASE), _DAYS, _last_day),
    (re.compile(r"H(?:\(\d+-\d+\))?(?:/(\d+))?"), _ALL, _hashed),
    (re.compile(r"(\d*)~(\d*)(?:/\d+)?"), _ALL, _random),
    (re.compile(rf".*\b(?:{_NAME}|{_MONTH})\b.*", re.IGNORECASE), _NAMED, _long_name),
)


def _check_dialect(words: list[str], name: FieldName, word: str) -> None:
    for pattern, names, explain in _DIALECTS:
        match = pattern.fullmatch(word) if name in names else None
        if match is not None:
            problem, instead, note = explain(name, match)
            remedy = _write(words, name, instead) + (f" ({note})" if note else "") if instead else note
            code = _lenient_code(name, word)
            raise InvalidTriggerError(" ".join(words), f"{name.words} {word!r}: {problem}", remedy, code=code)


def _lenient_code(name: FieldName, word: str) -> str:
    if "~" in word and not word.startswith("~"):
        return "random-range"
    return "field-junk" if name is FieldName.WEEKDAY and "#" in word else name.code


def _write(words: list[str], name: FieldName, instead: str) -> str:
    """Return the advice to write `instead` in a field, as a whole expression where the rest can be read."""
    whole = [_translated(n, word) for n, word in zip(FIELD_NAMES, words, strict=True)]
    whole[FIELD_NAMES.index(name)] = instead
    try:
        expression = CronExpression.parse(" ".join(whole))
    except InvalidTriggerError:
        return f"write {instead!r}"
    return f"write {expression.text!r}" if not any(f.dropped for f in expression.fields) else f"write {instead!r}"


# --- what cron tolerates ---


def _check_tolerated(expression: CronExpression, field: CronField) -> None:
    text, words = expression.text, expression.text.split()
    where = f"{field.name.words} {field.text!r}"
    if "~" in field.text:
        problem = f"{where}: '~' is cronie's and OpenBSD's; Debian's cron drops what follows it"
        raise InvalidTriggerError(text, problem, "write one value", code="random-range")
    if field.dropped:
        kept = field.text[: -len(field.dropped)]
        problem = f"{where}: cron would drop {field.dropped!r} without a word"
        raise InvalidTriggerError(
            text, problem, _write(words, field.name, kept) + " if that is meant", code="field-junk"
        )
    for element, part in zip(field.elements, field.text.split(","), strict=True):
        if element.is_reversed:
            problem = f"{where}: the range {part!r} ends before it starts and matches nothing"
            instead = field.text.replace(part, _wrapped(field.name, element))
            raise InvalidTriggerError(text, problem, _write(words, field.name, instead), code="reversed-range")


def _wrapped(name: FieldName, element: CronElement) -> str:
    """Return the ranges that say what a reversed range seems to mean."""
    size = 7 if name is FieldName.WEEKDAY else name.high - name.low + 1
    if name is FieldName.WEEKDAY and element.first == 7:
        return _span(name, 0, element.last)
    if element.step > 1:
        count = element.last - element.first + size
        values = [(element.first - name.low + i) % size + name.low for i in range(0, count + 1, element.step)]
        return ",".join(str(value) for value in sorted(values))
    if name is FieldName.WEEKDAY and element.last == 0:
        return f"{_named(name, element.first)}-7"
    upper = _span(name, element.first, _last(name))
    return f"{upper},{_span(name, name.low, element.last)}"


def _span(name: FieldName, first: int, last: int) -> str:
    return _named(name, first) if first == last else f"{_named(name, first)}-{_named(name, last)}"


def _named(name: FieldName, value: int) -> str:
    return str(value % 7 if name is FieldName.WEEKDAY else value)


def _never_remedy(expression: CronExpression) -> str:
    days = expression.field(FieldName.DAY).text
    months = expression.field(FieldName.MONTH).text
    return f"no month of {months!r} has a day {days!r}: choose a day that exists in one of them"
