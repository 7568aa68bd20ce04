"""Reading the five fields as cron does."""

import pytest

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers import CronExpression, CronField, FieldName


def values(name: FieldName, text: str) -> list[int]:
    """Return what a field matches."""
    return list(CronField.parse(name, text).values)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (FieldName.MINUTE, "*/40", [0, 40]),
        (FieldName.MINUTE, "*/90", [0]),
        (FieldName.MINUTE, "5-5/3", [5]),
        (FieldName.MINUTE, "10-20/5,3,3", [3, 10, 15, 20]),
        (FieldName.HOUR, "22-2", []),
        (FieldName.DAY, "*/2", list(range(1, 32, 2))),
        (FieldName.MONTH, "JAN,jul-Sep", [1, 7, 8, 9]),
        (FieldName.WEEKDAY, "5-7", [0, 5, 6]),
        (FieldName.WEEKDAY, "sat-sun", []),
        (FieldName.WEEKDAY, "mon-fri/2", [1, 3, 5]),
        (FieldName.WEEKDAY, "0,7", [0]),
        (FieldName.WEEKDAY, "*/7", [0]),
        (FieldName.MINUTE, "007", [7]),
    ],
)
def test_fields_match_the_values_cron_would(name: FieldName, text: str, expected: list[int]) -> None:
    """Lists, ranges, steps and names give cron's values; Sunday is 0 however it is written."""
    assert values(name, text) == expected


@pytest.mark.parametrize(
    ("text", "dropped", "expected"),
    [
        ("*5", "5", list(range(60))),
        ("1#2", "#2", [1]),
        ("5~10", "~10", [5]),
        ("*/30/2", "/2", [0, 30]),
        ("1.5,7", ".5,7", [1]),
    ],
)
def test_a_dropped_tail_is_kept_as_data(text: str, dropped: str, expected: list[int]) -> None:
    """What cron drops after a complete element is reported and does not count."""
    field = CronField.parse(FieldName.MINUTE, text)
    assert (field.text, field.dropped, list(field.values)) == (text, dropped, expected)


def test_elements_keep_how_they_were_written() -> None:
    """Each part says whether it was a star, a range, stepped or reversed."""
    star, single, span, reversed_span = CronField.parse(FieldName.MINUTE, "*/5,7,10-20/3,30-20").elements
    assert star.is_star
    assert star.step == 5
    assert not star.is_range
    assert (single.first, single.last, single.is_range) == (7, 7, False)
    assert (span.is_range, span.step, span.is_reversed) == (True, 3, False)
    assert reversed_span.is_reversed
    assert list(reversed_span.values) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ",1",
        "1,",
        "1,,2",
        "60",
        "5-64/30",
        "70-5",
        "1-",
        "-5",
        "0/15",
        "*/0",
        "*/",
        "*/x",
        "a",
        "1a",
        "?",
        "~",
        "L",
        "9" * 5000,
        "\u0661",
    ],
)
def test_what_cron_refuses_is_refused(text: str) -> None:
    """A field cron cannot read carries that field's error code."""
    with pytest.raises(InvalidTriggerError) as caught:
        CronField.parse(FieldName.MINUTE, text)
    assert caught.value.code == "bad-minute"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("60 99 * * *", "bad-minute"),
        ("0 24 0 * *", "bad-hour"),
        ("0 0 32 13 *", "bad-day-of-month"),
        ("0 0 1 13 9", "bad-month"),
        ("0 0 1 1 8", "bad-day-of-week"),
        ("0 0 * * monday", "bad-day-of-week"),
        ("@every_minute", "bad-time-specifier"),
        ("@Daily", "bad-time-specifier"),
        ("0 */10 * * * *", "wrong-field-count"),
        ("0 0 * *", "wrong-field-count"),
        ("", "wrong-field-count"),
        ("@daily x", "wrong-field-count"),
    ],
)
def test_the_first_error_gives_the_code(text: str, code: str) -> None:
    """Fields are read from the left and the first bad one decides the code."""
    with pytest.raises(InvalidTriggerError) as caught:
        CronExpression.parse(text)
    assert caught.value.code == code


def test_words_of_a_line_may_be_too_few_or_too_many() -> None:
    """A crontab's line: the command is not looked at, a missing field is a bad field."""
    assert CronExpression.from_words(["0", "5", "*", "*", "*", "60", "x"]).text == "0 5 * * *"
    assert CronExpression.from_words(["@daily", "x"]).macro == "@daily"
    with pytest.raises(InvalidTriggerError) as caught:
        CronExpression.from_words(["0", "5", "*"])
    assert caught.value.code == "bad-month"


def test_text_is_normalised_to_single_blanks() -> None:
    """Blanks and tabs separate fields; the stored text has single blanks."""
    assert CronExpression.parse("  0\t5   * * mon \n").text == "0 5 * * mon"


@pytest.mark.parametrize(
    ("text", "is_wildcard", "needs_both_days"),
    [
        ("0 0 * * *", False, True),
        ("*/60 3 * * *", True, True),
        ("0 */2 1 * 1", True, False),
        ("0 0 */2 * 1", False, True),
        ("0 0 *,1 * 1", False, True),
        ("0 0 1,* * 1", False, False),
        ("@hourly", True, True),
        ("@daily", False, True),
    ],
)
def test_a_leading_star_decides_the_day_rule_and_the_clock_rule(
    text: str, is_wildcard: bool, needs_both_days: bool
) -> None:
    """The text's first character counts, not what the field matches."""
    expression = CronExpression.parse(text)
    assert (expression.is_wildcard, expression.needs_both_days) == (is_wildcard, needs_both_days)


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("0 0 30 2 *", True),
        ("0 0 31 4,6,9,11 *", True),
        ("0 0 31 2,3 *", False),
        ("0 0 29 2 *", False),
        ("0 0 30 2 1", False),
        ("0 0 */30 2 1", False),
        ("0 22-2 * * *", True),
        ("0 0 * * fri-mon", True),
        ("@reboot", True),
        ("* * * * *", False),
    ],
)
def test_whether_any_date_matches_is_known_without_searching(text: str, never: bool) -> None:
    """Dates that do not exist and empty fields never fire."""
    assert CronExpression.parse(text).never_fires is never


def test_reboot_is_understood_but_has_no_fields() -> None:
    """`@reboot` is a valid line without times."""
    expression = CronExpression.parse("@reboot")
    assert expression.is_reboot
    assert expression.fields == ()
