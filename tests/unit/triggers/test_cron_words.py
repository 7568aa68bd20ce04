"""Expressions in plain words."""

import pytest

from mahavishnu.triggers import CronExpression, in_words

WORDS = {
    "* * * * *": "every minute",
    "*/30 * * * *": "every 30 minutes, at :00 and :30",
    "*/5 * * * *": "every 5 minutes from :00 to :55",
    "*/40 * * * *": "every hour, at :00 and :40",
    "17 * * * *": "every hour, at :17",
    "1-7 * * * *": "every hour, at :01 to :07",
    "*/7 0-5 * * *": "every 7 minutes from :00 to :56, in hours 00 to 05",
    "1,2,4,8,16,32,48,59 * * * *": "every hour, 8 times from :01 to :59",
    "* 3 * * *": "every minute of hour 03",
    "* 9-17 * * *": "every minute of hours 09 to 17",
    "30 4 * * *": "every day at 04:30",
    "0 */6 * * *": "every day at 00:00, 06:00, 12:00 and 18:00",
    "0 8-18 * * *": "every hour, at :00, in hours 08 to 18",
    "0 */2 * * *": "every 2 hours, at :00, in hours 00, 02, 04, 06, 08, 10, 12, 14, 16, 18, 20 and 22",
    "0 9 * * 1-5": "at 09:00, on Monday to Friday",
    "0 9 * * sat,sun": "at 09:00, on Sundays and Saturdays",
    "0 0 1 1 *": "at 00:00, on day 1 of the month, in January",
    "0 0 1,15 * 5": "at 00:00, on days 1 and 15 of the month and also on Fridays",
    "0 0 1-7 6-8 *": "at 00:00, on days 1 to 7 of the month, in June to August",
    "0 0 */10 * 1": "at 00:00, on Mondays whose date is 1, 11, 21 and 31",
    "0 0 1-31 * 1": "every day at 00:00",
    "0 0 * 2 *": "every day at 00:00, in February",
    "0 22-2 * * *": "never",
    "@reboot": "when the machine starts",
    "@weekly": "at 00:00, on Sundays",
}


@pytest.mark.parametrize(("text", "words"), WORDS.items(), ids=WORDS.keys())
def test_expressions_in_words(text: str, words: str) -> None:
    """The words say minutes where minutes are meant, and which days, as cron combines them."""
    assert in_words(CronExpression.parse(text)) == words
