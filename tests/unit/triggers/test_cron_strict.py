"""The strict reading: refusals name the dialect and say what to write."""

import pytest

from mahavishnu.errors import InvalidTriggerError
from mahavishnu.triggers import CronExpression, strict_expression

REFUSED = [
    # expression, code, words the message must have
    ("0/15 * * * *", "bad-minute", ["Quartz", "Kubernetes", "'*/15 * * * *'"]),
    ("5/15 * * * *", "bad-minute", ["'5-59/15 * * * *'"]),
    ("0 0 1/1 * ?", "bad-day-of-month", ["'0 0 * * *'"]),
    ("0 0 * * 2/2", "bad-day-of-week", ["'0 0 * * 2-6/2'"]),
    ("0 0 ? * *", "bad-day-of-month", ["Quartz", "Spring", "'0 0 * * *'"]),
    ("0 0 L * *", "bad-day-of-month", ["'L'", "Quartz", "'0 0 28-31 * *'", "Cancel"]),
    ("0 0 * * 5L", "bad-day-of-week", ["'L'", "Quartz", "Cancel"]),
    ("0 0 15W * *", "bad-day-of-month", ["'W'", "Quartz", "'0 0 15 * *'"]),
    ("0 0 * * 1#2", "field-junk", ["'#'", "second", "Spring", "'8-14'"]),
    ("H * * * *", "bad-minute", ["Jenkins", "'17 * * * *'"]),
    ("H/20 * * * *", "bad-minute", ["Jenkins", "'*/20 * * * *'"]),
    ("5~10 * * * *", "random-range", ["cronie", "'5 * * * *'"]),
    ("~ * * * *", "bad-minute", ["cronie"]),
    ("1,5~10 * * * *", "random-range", ["cronie"]),
    ("0 0 2 * * *", "wrong-field-count", ["6 fields", "Quartz", "Spring", "'0 2 * * *'"]),
    ("*/30 * * * * *", "wrong-field-count", ["seconds", "every=timedelta(seconds="]),
    ("0 0 12 ? * 2-6", "wrong-field-count", ["'0 12 * * 2-6'", "1 = Sunday"]),
    ("0 0/5 12 1/1 * ? 2026", "wrong-field-count", ["7 fields", "year", "'*/5 12 * * *'"]),
    ("0 5 * * * /usr/bin/true", "wrong-field-count", ["command", "'0 5 * * *'"]),
    ("0 5 * *", "wrong-field-count", ["4 fields"]),
    ("", "wrong-field-count", ["empty"]),
    ("@every 1h30m", "bad-time-specifier", ["Kubernetes", "every=timedelta"]),
    ("@Daily", "bad-time-specifier", ["'@daily'", "lower case"]),
    ("@noon", "bad-time-specifier", ["@hourly"]),
    ("@daily x", "wrong-field-count", ["'@daily' alone"]),
    ("@reboot", "reboot", ["not a time"]),
    ("CRON_TZ=Europe/Paris 0 5 * * *", "bad-minute", ["timezone='Europe/Paris'", "'0 5 * * *'"]),
    ("0 24 * * *", "bad-hour", ["24", "0 and 23"]),
    ("0 0 * * monday", "bad-day-of-week", ["'0 0 * * mon'"]),
    ("0 0 1 january,sept *", "bad-month", ["'0 0 1 jan,sep *'"]),
    ("0 22-2 * * *", "reversed-range", ["'0 22-23,0-2 * * *'"]),
    ("0 0 * * fri-mon", "reversed-range", ["'0 0 * * 5-6,0-1'"]),
    ("0 0 * * sat-sun", "reversed-range", ["'0 0 * * 6-7'"]),
    ("0 0 * * 7-2", "reversed-range", ["'0 0 * * 0-2'"]),
    ("0 23-3/2 * * *", "reversed-range", ["'0 1,3,23 * * *'"]),
    ("0 0 30 2 *", "never-fires", ["'2'", "'30'"]),
    ("*5 * * * *", "field-junk", ["drop", "'5'"]),
    ("*/5/2 * * * *", "field-junk", ["'*/5 * * * *'"]),
    ("1, * * * *", "bad-minute", ["minute '1,'"]),
]


@pytest.mark.parametrize(("text", "code", "words"), REFUSED, ids=[case[0] or "empty" for case in REFUSED])
def test_refusals_name_the_field_and_the_remedy(text: str, code: str, words: list[str]) -> None:
    """Each refusal is one line with its code, the culprit and what to write."""
    with pytest.raises(InvalidTriggerError) as caught:
        strict_expression(text)
    message = str(caught.value)
    assert caught.value.code == code
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "*/30 * * * *",
        "0 0 * * mon-fri/2",
        "1-7 0 1,15 * 5",
        "@hourly",
        "@midnight",
        "0 0 29 2 *",
        "0 0 30 2 1",
        "* * * may,Jun sun",
    ],
)
def test_what_means_what_it_says_is_accepted(text: str) -> None:
    """Expressions without anything dropped or reversed pass and read as in the lenient way."""
    assert strict_expression(text) == CronExpression.parse(text)


def test_something_that_is_not_text_is_refused() -> None:
    """A number instead of an expression is named as such."""
    with pytest.raises(InvalidTriggerError, match="text, not int"):
        strict_expression(5)
