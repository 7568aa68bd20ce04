"""Tests of the option types that several commands share."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import click
import pytest

from mahavishnu.cli import options


def test_instants_are_iso_8601_or_a_distance():
    """`--at` looks ahead and `--since` looks back; both also take an exact instant."""
    exact = datetime(2026, 3, 8, 2, 30, tzinfo=UTC)
    assert options.ahead("2026-03-08T03:30:00+01:00") == options.back("2026-03-08T02:30:00Z") == exact
    now = datetime.now(UTC)
    assert timedelta(minutes=9) < options.ahead("10m") - now < timedelta(minutes=11)
    assert timedelta(minutes=9) < options.ahead("+10m") - now < timedelta(minutes=11)
    assert timedelta(hours=1) < now - options.back("2h") < timedelta(hours=3)


@pytest.mark.parametrize("text", ["soon", "2026-03-08T02:30:00", "99999999w"])
def test_what_is_no_instant_is_refused(text):
    """Words, times without an offset, and what lies beyond the calendar are wrong use."""
    with pytest.raises(click.BadParameter, match=r"offset|too far|longer"):
        options.ahead(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keep=3", ("keep", 3)),
        ("repos=[1, 2]", ("repos", [1, 2])),
        ("target=backups", ("target", "backups")),
        ("command=a=b", ("command", "a=b")),
        ('name="3"', ("name", "3")),
        ("empty=", ("empty", "")),
    ],
)
def test_pairs_hold_json_or_text(text, expected):
    """Numbers and lists need no quoting, and neither does text; quoting makes text of a number."""
    assert options.pair(text) == expected


def test_labels_stay_text():
    """A label that looks like a number is still text."""
    assert options.text_pair("build=3") == ("build", "3")


@pytest.mark.parametrize("text", ["keep", "=3", ""])
def test_what_is_no_pair_is_refused(text):
    """A name and an equals sign are needed."""
    with pytest.raises(click.BadParameter, match="write name=value"):
        options.pair(text)


def test_context_comes_from_the_line_a_file_or_standard_input(tmp_path, monkeypatch):
    """The three ways of giving a JSON object lead to the same arguments."""
    file = tmp_path / "context.json"
    file.write_text('{"keep": 3}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"keep": 3}')))
    assert options.context('{"keep": 3}') == options.context(f"@{file}") == options.context("-") == {"keep": 3}


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "not JSON"), ("[1]", "expected a JSON object"), ("@missing.json", "cannot be read")]
)
def test_what_is_no_context_is_refused(text, problem):
    """The message says what is wrong with it."""
    with pytest.raises(click.BadParameter, match=problem):
        options.context(text)
