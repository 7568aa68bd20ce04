"""Tests of durations typed on a command line."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest
from click.testing import CliRunner

from mahavishnu.cli.durations import duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("30m1h", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(days=7)),
        ("250ms", timedelta(milliseconds=250)),
        ("0.5 s", timedelta(milliseconds=500)),
        (" 1H ", timedelta(hours=1)),
        ("0s", timedelta(0)),
    ],
)
def test_numbers_with_units_add_up(text, expected):
    """Each part counts in its own unit."""
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "five minutes", "5m5m", "-5m", "5y", "1h30", "5m!", "\u0665m"])
def test_what_is_not_a_duration_is_refused_with_an_example(text):
    """A missing unit, an unknown or repeated one, and any other character are errors."""
    with pytest.raises(click.BadParameter, match="not a duration; write it like 90s"):
        duration(text)


def test_duration_beyond_representation_is_refused():
    """A number too large for a duration is an error of its own, not a traceback."""
    with pytest.raises(click.BadParameter, match="longer than any"):
        duration("9999999999999w")


def test_default_that_is_a_duration_stays_as_it_is():
    """Options may have a duration as their default."""
    assert duration(timedelta(1)) == timedelta(1)


def test_error_names_the_option_it_came_from():
    """As the type of an option, the message says which option was wrong."""
    command = click.Command("wait", params=[click.Option(["--every"], type=duration)])
    result = CliRunner().invoke(command, ["--every", "soon"])
    assert result.exit_code == 2
    assert "--every': 'soon' is not a duration" in result.stderr
