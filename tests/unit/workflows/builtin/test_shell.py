"""The shell workflow: a command, its result, or a clear failure."""

# ruff: noqa: ASYNC240  # looking at a small local file needs no thread

from __future__ import annotations

import os

import msgspec
import pytest

from mahavishnu.errors import CommandError, CommandFailedError
from mahavishnu.workflows.builtin.shell import shell


async def test_all_options_reach_the_command(tmp_path) -> None:
    """Folder, variables and input arrive, and the result is plain data."""
    result = await shell("cat; echo $MODE; pwd -P", cwd=str(tmp_path), env={"MODE": "fast"}, stdin="in\n")
    assert result["stdout"] == f"in\nfast\n{os.path.realpath(tmp_path)}\n"
    assert (result["exit_code"], result["stderr"], result["truncated"], result["timed_out"]) == (0, "", False, False)
    assert 0 < result["duration_seconds"] < 30
    assert msgspec.json.decode(msgspec.json.encode(result)) == result


async def test_failure_is_raised_with_status_and_reason() -> None:
    """A bad status fails the job, retryably, with the last line of stderr in the message."""
    with pytest.raises(CommandFailedError, match=r"^command 'echo one >&2; .*' exited with status 7: two$") as caught:
        await shell("echo one >&2; echo two >&2; exit 7")
    assert caught.value.retryable
    assert (caught.value.exit_code, caught.value.stderr_tail) == (7, "one\ntwo\n")


async def test_failure_may_be_a_result() -> None:
    """Without `check` the status is only reported."""
    assert (await shell("exit 7", check=False))["exit_code"] == 7


async def test_timeout_and_signals_are_told_apart() -> None:
    """The message says whether time was up or a signal came."""
    with pytest.raises(CommandFailedError, match=r"'sleep 300' was stopped after its 0\.3 s$"):
        await shell("sleep 300", timeout_seconds=0.3)
    with pytest.raises(CommandFailedError, match=r"was ended by signal 9$"):
        await shell("kill -9 $$")
    assert (await shell("sleep 300", timeout_seconds=0.1, check=False))["timed_out"]


async def test_secrets_do_not_come_back() -> None:
    """A secret variable's value is in no result and no error."""
    env = {"DEPLOY_TOKEN": "tok-12345"}
    result = await shell('echo "$DEPLOY_TOKEN"; echo "$DEPLOY_TOKEN" >&2', env=env)
    assert (result["stdout"], result["stderr"]) == ("***\n", "***\n")
    with pytest.raises(CommandFailedError) as caught:
        await shell("echo tok-12345 >&2; exit 1", env=env)
    assert "tok-12345" not in f"{caught.value} {caught.value.stderr_tail}"


async def test_output_is_bounded() -> None:
    """A talkative command does not fill the ledger."""
    result = await shell("yes | head -c 5000000")
    assert len(result["stdout"]) < 65_000
    assert result["truncated"]


async def test_another_shell_may_be_chosen() -> None:
    """The command line is given to that shell; one that does not exist is named."""
    assert (await shell("echo $0", shell="/bin/bash"))["stdout"] == "/bin/bash\n"
    with pytest.raises(CommandError, match="'/bin/nosuch' cannot be started: there is no such program"):
        await shell("true", shell="/bin/nosuch")


async def test_a_long_command_is_shortened_in_messages() -> None:
    """Only the first line, of at most 80 characters, is quoted."""
    with pytest.raises(CommandFailedError) as caught:
        await shell(f": {'x' * 200}\nexit 1")
    assert len(caught.value.command) == 80
    assert "\n" not in str(caught.value)
