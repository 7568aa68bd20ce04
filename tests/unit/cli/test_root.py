"""Tests of the command itself: its start, its exit codes, and how errors are told."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mahavishnu.cli import root
from mahavishnu.cli.session import Session
from mahavishnu.errors import MahavishnuError

SLOW = ("prefect", "apscheduler", "rich", "asyncio", "sqlite3", "msgspec")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("APP", "CONFIG", "STATE_DIR"):  # set by global options, put back after each test
        monkeypatch.setenv(f"MAHAVISHNU_{name}", "")
        monkeypatch.delenv(f"MAHAVISHNU_{name}")


def _python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_imports_nothing_slow():
    """The list of commands costs neither an engine nor an event loop."""
    code = (
        "import sys; from mahavishnu.cli.root import run\n"
        f"run(['--help']); print([name for name in {SLOW} if name in sys.modules])"
    )
    assert _python(code).splitlines()[-1] == "[]"


def test_help_is_quick():
    """`mahavishnu --help` answers in less than 0.4 s; the fastest of five counts on a busy machine."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mahavishnu", "--help"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.4


def test_every_command_has_help(capsys):
    """Each command of the list can be imported, and says what it is for."""
    for name in root.command.list_commands(None):
        assert root.run([name, "--help"]) == 0
        assert f"mahavishnu {name}" in capsys.readouterr().out


def test_version_is_printed(capsys):
    """`--version` prints one line."""
    assert root.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mahavishnu")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["schedule"], "Did you mean 'schedules'?"),
        (["runs", "shwo"], "Did you mean 'show'?"),
        (["zzz"], "There are: init, up"),
        (["--confg", "x"], "--config"),
        (["runs", "--jsn"], "--json"),
        (["runs", "--state", "faild"], "'failed'"),
        (["up", "--app", "app"], "write module:attribute"),
        (["up", "--config", "missing.toml"], "missing.toml"),
        (["up", "--for", "soon"], "write it like 90s"),
        (["up", "--workers", "2", "--no-worker"], "not both"),
        (["enqueue"], "KEY"),
        (["dead-letters", "discard", "--yes"], "say which"),
        (["dead-letters", "redrive", "some-id", "--all"], "not both"),
        (["queues", "purge", "default"], "--yes"),
        (["repos", "run", "sweep", "--repos", "a", "--tag", "b"], "not both"),
    ],
)
def test_wrong_use_exits_with_2_and_names_the_nearest(arguments, hint, capsys):
    """A typing error is told with what would have been right."""
    assert root.run(arguments) == 2
    assert hint in capsys.readouterr().err


def test_our_errors_are_one_line_and_exit_1(capsys):
    """What went wrong and what to do, without a traceback."""
    assert root.run(["up"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no app to run: there is no mahavishnu.toml; ")
    assert "mahavishnu init" in err
    assert err.count("\n") == 1


def test_traceback_shows_the_rest_before_or_after_the_command(capsys):
    """The option works in both places."""
    for arguments in (["--traceback", "up"], ["up", "--traceback"]):
        assert root.run(arguments) == 1
        err = capsys.readouterr().err
        assert "Traceback (most recent call last)" in err
        assert "\nerror: no app to run" in err


def test_settings_are_told_with_file_line_and_nearest_key(tmp_path, capsys):
    """A typing error in the settings file is as clear as one on the command line."""
    (tmp_path / "mahavishnu.toml").write_text("[worker]\nconcurency = 5\n")
    assert root.run(["runs"]) == 1
    err = capsys.readouterr().err
    assert f"{tmp_path}/mahavishnu.toml:2: worker.concurency" in err
    assert "did you mean 'worker.concurrency'?" in err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (MahavishnuError("x: y; do z"), 1, "error: x: y; do z\n"),
        (KeyboardInterrupt(), 130, ""),
        (ValueError("odd"), 1, f"error: ValueError: odd (raised by {__file__}:"),
    ],
)
def test_ends_of_a_command(raised, code, said, monkeypatch, capsys):
    """Errors, interruptions and exceptions of the app's own code each have their exit code and their line."""

    def fail(*_arguments, **_options):
        raise raised

    monkeypatch.setattr(Session, "app", fail)
    assert root.run(["runs"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_bug_of_ours_is_called_so(monkeypatch, capsys):
    """An exception that no code of the app raised is ours, and the line says how to see where."""
    monkeypatch.setattr(Session, "app", int)  # which knows no `required=`
    assert root.run(["runs"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: TypeError: ")
    assert "(a bug in mahavishnu; --traceback shows where, please report it)" in err


def test_reader_that_goes_away_is_no_error():
    """`mahavishnu --help | head -0` says nothing on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "mahavishnu", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert process.stderr == ""


def test_global_options_reach_the_app_and_what_it_starts(tmp_path, capsys):
    """They are set in the environment, so that worker processes and flow runs come to the same settings."""
    (tmp_path / "other.toml").write_text('state_dir = "elsewhere"\n')
    (tmp_path / "global_app.py").write_text(
        "from mahavishnu.scheduler.app import MahavishnuApp\nthe_app = MahavishnuApp()\n"
    )
    options = ["--config", "other.toml", "--state-dir", "here", "--app", "global_app:the_app"]
    assert root.run(["doctor", "--json", *options]) == 0
    assert os.environ["MAHAVISHNU_CONFIG"] == str(tmp_path / "other.toml")
    assert os.environ["MAHAVISHNU_STATE_DIR"] == str(tmp_path / "here")
    assert os.environ["MAHAVISHNU_APP"] == "global_app:the_app"
    assert f'"path": "{tmp_path}/here"' in capsys.readouterr().out
    sys.modules.pop("global_app", None)
