"""Tests of tables, pairs and JSON as they are printed."""

from __future__ import annotations

import json

import click
import pytest

from mahavishnu.cli import output


def test_table_is_aligned_text_where_no_terminal_is(capsys):
    """A pipe gets plain columns that `awk` and `grep` can work with: no frames, no colours, one line per row."""
    rows = [["backup", ("failed", "red"), "two\nlines"], ["x", "ok", ""]]
    output.print_table(["task", "state", "error"], rows, empty="none")
    assert capsys.readouterr().out == "TASK    STATE   ERROR\nbackup  failed  two lines\nx       ok\n"


def test_empty_table_says_so_on_stderr(capsys):
    """A pipe sees no row, a person sees why."""
    output.print_table(["task"], [], empty="no tasks")
    assert capsys.readouterr() == ("", "no tasks\n")


def test_pairs_without_a_value_are_left_out(capsys):
    """What is not known takes no line."""
    output.print_pairs([("task", "backup"), ("error", ""), ("id", ("1", "bold"))])
    assert capsys.readouterr().out == "task: backup\nid:   1\n"


def test_json_is_readable_or_one_line(capsys):
    """Listings are indented; streams have one object per line."""
    output.print_json([{"name": "café"}])
    output.print_json({"a": 1}, line=True)
    out = capsys.readouterr().out
    assert json.loads(out.rpartition("]")[0] + "]") == [{"name": "café"}]
    assert "café" in out
    assert out.endswith('\n{"a": 1}\n')


def test_destruction_needs_yes_where_nobody_can_be_asked():
    """A script that forgot --yes changes nothing and exits with 2; with it, nothing is asked."""
    output.confirm_destruction("Delete?", yes=True)
    with pytest.raises(click.UsageError, match="--yes") as raised:
        output.confirm_destruction("Delete?", yes=False)
    assert raised.value.exit_code == 2
