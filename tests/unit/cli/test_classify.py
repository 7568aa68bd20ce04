"""Tests of `mahavishnu classify`, the interview on a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios

import pytest
from click.testing import CliRunner

from mahavishnu.cli.classify import command


def _run(*arguments):
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "100", "NO_COLOR": "1"})


def _json(*arguments):
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_defaults_apply_without_options_and_without_a_terminal():
    """A script that gives nothing gets the answer for the default characteristics, and no question."""
    answer = _json("task")
    assert answer["engine"] == "apscheduler"
    assert answer["characteristics"] == {
        "frequency": "medium",
        "visibility": "internal",
        "complexity": "simple",
        "durability": "ephemeral",
        "infrastructure": "local",
        "expected_duration_seconds": None,
    }
    assert "apscheduler" in _run("task").stdout


def test_each_option_reaches_its_characteristic():
    """No option is dropped on its way to the decision."""
    answer = _json(
        "sweep",
        *("--frequency", "high", "--visibility", "user-facing", "--complexity", "dag"),
        *("--durability", "persistent", "--infrastructure", "distributed", "--expected-duration", "1h30m"),
    )
    assert answer["name"] == "sweep"
    assert answer["engine"] == "prefect"
    assert answer["characteristics"] == {
        "frequency": "high",
        "visibility": "user-facing",
        "complexity": "dag",
        "durability": "persistent",
        "infrastructure": "distributed",
        "expected_duration_seconds": 5400.0,
    }


def test_json_holds_the_whole_explanation():
    """Path, reasons, warnings and alternatives are all there for a program to read."""
    answer = _json("backup", "--durability", "persistent", "--frequency", "high")
    assert [(step["field"], step["answer"], step["decided"]) for step in answer["path"]] == [
        ("visibility", "internal", False),
        ("complexity", "simple", False),
        ("durability", "persistent", True),
    ]
    assert len(answer["reasons"]) == 1
    assert [warning["code"] for warning in answer["warnings"]] == ["high-frequency-on-queue"]
    assert [it["engine"] for it in answer["alternatives"]] == ["apscheduler", "prefect"]
    assert answer["alternatives"][0]["changes"] == [
        {"field": "durability", "current": "persistent", "needed": "ephemeral"}
    ]
    assert [it["code"] for it in answer["alternatives"][0]["warnings"]] == ["persistent-in-process"]


def test_text_shows_engine_path_reason_warning_and_alternatives():
    """Everything in the explanation is printed for people too."""
    output = _run("scan", "--expected-duration", "6m").stdout
    assert output.startswith("scan: apscheduler\n")
    for expected in ("Who follows its runs?", "frequency: medium", "Why", "Warnings", "over 5 minutes", "Instead"):
        assert expected in output
    assert "prefect with visibility user-facing" in " ".join(output.split())


def test_warnings_have_no_heading_when_there_are_none():
    """A clean choice does not look like a doubtful one."""
    assert "Warnings" not in _run("task", "--durability", "persistent").stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["task", "--frequency", "often"], "'often' is not one of"),
        (["task", "--expected-duration", "soon"], "write it like 90s"),
        (["task", "--expected-duration", "0s"], "above zero"),
        ([], "NAME"),
        (["task", "--colour", "red"], "--colour"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_wrong(arguments, complaint):
    """Bad values and missing names are wrong use, told on stderr."""
    result = _run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_rich_is_imported_only_to_print_text():
    """The command line starts, and prints JSON, without the cost of the table printer."""
    code = (
        "import sys; from mahavishnu.cli.classify import command\n"
        "command(['task', '--json'], standalone_mode=False); assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_interview_on_a_terminal_asks_what_matters_and_no_more():
    """On a terminal, answers lead past the questions they settle; an empty answer takes the default."""
    session = _Terminal([sys.executable, "-c", "from mahavishnu.cli.classify import command; command()", "nightly"])
    session.expect("visibility (internal, user-facing) [internal]: ")
    session.type("")
    session.expect("complexity (simple, dag, complex) [simple]: ")
    session.type("simpel")
    session.expect("'simpel' is not one of")
    session.expect("[simple]: ")
    session.type("simple")
    session.expect("durability (ephemeral, persistent) [ephemeral]: ")
    session.type("persistent")
    session.expect("frequency (high, medium, low) [medium]: ")
    session.type("high")
    session.expect("nightly: oneiric")
    session.expect("Warnings")
    assert session.wait() == 0
    assert "infrastructure (" not in session.seen


class _Terminal:
    """A program on a pseudo-terminal, read until an expected text comes."""

    def __init__(self, arguments):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}
        self.process = subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.seen = ""
        self._position = 0

    def expect(self, text):
        while (found := self.seen.find(text, self._position)) < 0:
            chunk = self._read()
            assert chunk, f"{text!r} never came; got {self.seen!r}"
            self.seen += chunk
        self._position = found + len(text)

    def type(self, line):
        os.write(self.master, f"{line}\n".encode())

    def wait(self):
        while chunk := self._read():
            self.seen += chunk
        os.close(self.master)
        return self.process.wait()

    def _read(self):
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # Linux reports the end of the other side so
            return ""
