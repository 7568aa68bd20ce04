"""Commands end when told, leave nothing running, and never flood the memory."""

# ruff: noqa: ASYNC240  # looking at a small local file needs no thread

from __future__ import annotations

import asyncio
import os
import sys
import tracemalloc
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.errors import CommandError
from mahavishnu.workflows.process import CommandResult, minimal_environment, redact, run_command

if TYPE_CHECKING:
    from pathlib import Path

SHORT = timedelta(seconds=0.5)
LONG = timedelta(seconds=30)


class Witness:
    """A pipe with a name: it can be read to its end only when every process that has it open is gone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "witness"
        os.mkfifo(self.path)

    async def opened(self) -> int:
        """Wait until somebody opened it, and return our end."""
        return await asyncio.wait_for(asyncio.to_thread(os.open, self.path, os.O_RDONLY), 10)

    async def gone(self, descriptor: int) -> None:
        """Wait until all who had it open are gone."""
        while await asyncio.wait_for(asyncio.to_thread(os.read, descriptor, 100), 10):
            pass
        os.close(descriptor)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Return a pipe that tells when processes are gone."""
    return Witness(tmp_path)


async def test_a_command_gives_its_status_and_output() -> None:
    """Status, both streams and the duration come back; a bad status is no exception."""
    result = await run_command("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert timedelta() < result.duration < LONG
    assert (result.ok, result.truncated, result.timed_out) == (False, False, False)


async def test_a_list_of_words_meets_no_shell() -> None:
    """A program with arguments is run as it is."""
    result = await run_command(["printf", "%s|", "a b", "$HOME"])
    assert result.stdout == "a b|$HOME|"
    assert result.ok


async def test_input_reaches_the_command() -> None:
    """Text and bytes arrive, more than a pipe holds; without input there is nothing to read."""
    big = "x" * 300_000
    assert (await run_command(["cat"], stdin=big)).stdout == big
    assert (await run_command(["wc", "-c"], stdin=b"\xff\xfe")).stdout.strip() == "2"
    assert (await run_command(["cat"])).stdout == ""


async def test_a_command_may_ignore_its_input() -> None:
    """A command that ends without reading what it was given is no error."""
    assert (await run_command(["true"], stdin="x" * 1_000_000)).ok


async def test_it_runs_where_it_is_told(tmp_path: Path) -> None:
    """The working folder is the one given."""
    assert (await run_command(["pwd", "-P"], cwd=tmp_path)).stdout.strip() == os.path.realpath(tmp_path)


async def test_only_the_minimal_environment_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own variables stay with us; those given are added, or replace."""
    monkeypatch.setenv("DATABASE_PASSWORD", "s3cret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("LC_TIME", "C")
    lines = (await run_command(["env"], env={"MODE": "fast", "HOME": "/h"})).stdout.splitlines()
    assert {"MODE=fast", "HOME=/h", "LC_TIME=C"} <= set(lines)
    assert not any(line.startswith(("DATABASE_", "GIT_DIR")) for line in lines)
    monkeypatch.delenv("PATH")
    assert minimal_environment()["PATH"] == os.defpath


async def test_output_beyond_the_bound_keeps_head_and_tail() -> None:
    """Of much output the beginning and the end stay, with a note of how much is missing."""
    script = "import sys; sys.stdout.write('A' * 500 + 'x' * 5_000_000 + 'Z' * 500)"
    result = await run_command([sys.executable, "-c", script], max_output_bytes=1000)
    assert result.stdout == "A" * 500 + "\n[... 5000000 bytes left out ...]\n" + "Z" * 500
    assert result.truncated
    assert result.stderr == ""


async def test_memory_does_not_grow_with_the_output() -> None:
    """What is beyond the bound is let go of while the command still writes."""
    tracemalloc.start()
    try:
        result = await run_command("yes | head -c 30000000", max_output_bytes=1000)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.truncated
    assert peak < 5_000_000


async def test_output_of_exactly_the_bound_is_whole() -> None:
    """Nothing is left out where everything fits."""
    result = await run_command(["printf", "%01000d", "7"], max_output_bytes=1000)
    assert len(result.stdout) == 1000
    assert not result.truncated


async def test_bytes_that_are_no_text_are_tolerated() -> None:
    """Undecodable bytes become replacement characters."""
    assert (await run_command(r"printf 'a\377b'")).stdout == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("command", "cwd", "message"),
    [
        (["no-such-program-here"], None, "'no-such-program-here' cannot be started: there is no such program; install"),
        (["true"], "/no/such/folder", "its working folder /no/such/folder does not exist"),
        (["/etc/passwd"], None, "it may not be executed"),
        (["echo", "a\0b"], None, "null byte"),
        ([], None, "is empty"),
    ],
)
async def test_what_cannot_start_says_why(command: list[str], cwd: str | None, message: str) -> None:
    """A missing program or folder is told apart, and named with the remedy; nothing is left open."""
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(CommandError) as caught:
        await run_command(command, cwd=cwd)
    assert message in str(caught.value)
    await asyncio.sleep(0)  # the loop closes the pipes in its next round
    assert len(os.listdir("/dev/fd")) <= before


async def test_timeout_ends_everything_the_command_started(witness: Witness) -> None:
    """At the timeout the command and its children get SIGTERM; the output so far is kept."""
    command = f"echo begun; sleep 300 3>{witness.path} & sleep 300"
    opened = asyncio.create_task(witness.opened())
    result = await run_command(command, timeout=SHORT, grace=LONG)
    assert (result.timed_out, result.exit_code, result.stdout) == (True, -15, "begun\n")
    assert result.duration < timedelta(seconds=10)
    await witness.gone(await opened)


async def test_what_ignores_sigterm_is_killed(witness: Witness) -> None:
    """Who does not end in the grace is killed, children included."""
    command = f"trap '' TERM; sleep 300 3>{witness.path} & while :; do sleep 1; done"
    opened = asyncio.create_task(witness.opened())
    result = await run_command(command, timeout=SHORT, grace=SHORT)
    assert (result.timed_out, result.exit_code) == (True, -9)
    await witness.gone(await opened)


async def test_a_command_that_ends_well_after_sigterm_is_still_not_ok() -> None:
    """Status 0 does not hide that the time was up."""
    result = await run_command("trap 'exit 0' TERM; sleep 300 & wait", timeout=SHORT)
    assert (result.exit_code, result.timed_out, result.ok) == (0, True, False)


async def test_cancellation_ends_the_command_and_goes_on(witness: Witness) -> None:
    """A cancelled call leaves nothing running and raises `CancelledError`, also when cancelled twice."""
    command = f"trap '' TERM; sleep 300 3>{witness.path} & while :; do sleep 1; done"
    running = asyncio.create_task(run_command(command, grace=SHORT))
    descriptor = await witness.opened()
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await witness.gone(descriptor)


async def test_cancellation_after_the_timeout_is_not_lost(witness: Witness) -> None:
    """Cancelled while the command is being stopped for its timeout, the call still raises `CancelledError`."""
    command = f"trap 'echo >{witness.path}' TERM; while :; do sleep 0.1; done"
    opened = asyncio.create_task(witness.opened())
    running = asyncio.create_task(run_command(command, timeout=SHORT, grace=timedelta(seconds=1)))
    descriptor = await opened  # so SIGTERM has come
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await witness.gone(descriptor)


def test_closing_the_loop_ends_the_command(tmp_path: Path) -> None:
    """When the whole event loop is torn down, the command does not outlive it."""
    witness = Witness(tmp_path)
    kept: list[int] = []

    async def begin() -> None:
        task = asyncio.create_task(run_command(f"sleep 300 3>{witness.path}"), name="left")
        kept.append(await witness.opened())
        assert not task.done()

    asyncio.run(begin())
    asyncio.run(witness.gone(kept[0]))


async def test_a_background_process_does_not_hold_up_the_result(witness: Witness) -> None:
    """A daemon that keeps the output open is waited for one grace, then left running."""
    opened = asyncio.create_task(witness.opened())
    result = await run_command(f"sleep 300 3>{witness.path} & echo $!", grace=SHORT)
    assert result.ok
    pid = int(result.stdout)
    os.kill(pid, 15)  # it is there
    await witness.gone(await opened)


async def test_late_output_of_the_background_counts() -> None:
    """What a background process writes soon after the command ended is still captured."""
    result = await run_command("(sleep 0.2; echo late) & echo early", grace=LONG)
    assert result.stdout == "early\nlate\n"


async def test_many_at_once_do_not_disturb_each_other() -> None:
    """Commands side by side keep their outputs apart."""
    results = await asyncio.gather(*(run_command(["echo", str(n)]) for n in range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(12)]


def test_only_secrets_are_redacted() -> None:
    """Values of variables named like secrets vanish; ordinary ones stay, as do those too short to tell."""
    env = {"API_TOKEN": "abcdef", "MODE": "production", "PASSWORD": "on", "GIT_AUTHOR_NAME": "Ann Other"}
    assert redact("abcdef production on Ann Other", env) == "*** production on Ann Other"
    assert redact("abcdef", None) == "abcdef"


def test_ok_needs_both() -> None:
    """A result is fine when the status is 0 and the time was not up."""
    result = CommandResult(exit_code=0, stdout="", stderr="", duration=SHORT)
    assert result.ok
