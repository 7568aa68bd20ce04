"""The guard and the programs under it: how they end, and what they leave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.engines.prefect.process import GuardedProcess, process_identity, read_tail, stop_process

if TYPE_CHECKING:
    from pathlib import Path

GRACE = timedelta(seconds=0.5)


def _process(tmp_path: Path, code: str, grace: timedelta = GRACE) -> GuardedProcess:
    return GuardedProcess(
        [sys.executable, "-c", code],
        environment=dict(os.environ),
        directory=tmp_path,
        log_path=tmp_path / "log",
        grace=grace,
    )


async def _line(path: Path, start: str) -> str:
    """Wait until a line beginning so is in the log."""
    async with asyncio.timeout(20):
        while True:
            for line in read_tail(path).splitlines():
                if line.startswith(start):
                    return line.removeprefix(start).strip()
            await asyncio.sleep(0.02)


async def _gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while process_identity(pid) is not None:  # noqa: ASYNC110 - another process's end raises no event
            await asyncio.sleep(0.02)


async def test_exit_code_and_output_are_known(tmp_path: Path) -> None:
    """A command that ends by itself is noticed, with its code; its output is in the log."""
    process = _process(tmp_path, "print('out'); raise SystemExit(3)")
    await process.start()
    assert await asyncio.wait_for(process.wait(), 20) == 3
    assert not process.is_running
    assert read_tail(tmp_path / "log") == "out"
    await process.stop()


async def test_stop_is_polite_first_and_can_be_called_twice(tmp_path: Path) -> None:
    """The command gets SIGTERM and may finish what it is doing."""
    code = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(7))\nprint('ready', flush=True)\nsignal.pause()"
    process = _process(tmp_path, code, timedelta(seconds=20))
    await process.start()
    await _line(tmp_path / "log", "ready")
    await process.stop()
    await process.stop()
    assert process.exit_code == 7


async def test_stop_without_start_is_fine(tmp_path: Path) -> None:
    """There is nothing to stop, and no error."""
    await _process(tmp_path, "").stop()


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(15, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"],
                         start_new_session=True)
print("child", child.pid, flush=True)
signal.pause()
"""


async def test_what_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """After the grace the command and a child in a session of its own are gone."""
    process = _process(tmp_path, STUBBORN)
    await process.start()
    child = int(await _line(tmp_path / "log", "child"))
    await process.stop()
    assert process.exit_code == -signal.SIGKILL
    assert process.pid is not None
    assert process_identity(process.pid) is None
    await _gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not hand orphans to the guard")
async def test_a_killed_command_leaves_no_children(tmp_path: Path) -> None:
    """After `kill -9` of the command alone its child ends too, before the end is told."""
    process = _process(tmp_path, STUBBORN)
    await process.start()
    child = int(await _line(tmp_path / "log", "child"))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
    await _gone(child)
    await process.stop()


async def test_a_killed_guard_does_not_save_the_command(tmp_path: Path) -> None:
    """With the guard dead, stop still ends the command itself."""
    process = _process(tmp_path, "import time; time.sleep(600)")
    await process.start()
    assert process._guard is not None
    assert process.pid is not None
    process._guard.kill()
    assert await asyncio.wait_for(process.wait(), 20) is None
    await process.stop()
    await _gone(process.pid)


async def test_sigint_works_in_the_child_of_a_background_job(tmp_path: Path) -> None:
    """A parent that ignores SIGINT, as a shell's background job does, does not pass that on."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = _process(tmp_path, "import signal; print('handler', signal.getsignal(2).__name__)")
        await process.start()
        assert await _line(tmp_path / "log", "handler") == "default_int_handler"
        await process.stop()
    finally:
        signal.signal(signal.SIGINT, previous)


async def test_a_long_log_is_set_aside(tmp_path: Path) -> None:
    """Over 5 MB the old log is renamed, so that it never fills the disk."""
    (tmp_path / "log").write_bytes(b"x" * 5_000_001)
    process = _process(tmp_path, "print('new')")
    await process.start()
    await process.wait()
    await process.stop()
    assert (tmp_path / "log").read_text() == "new\n"
    assert (tmp_path / "log.1").stat().st_size == 5_000_001


async def test_a_process_of_another_identity_is_left_alone(tmp_path: Path) -> None:
    """An id that was given to another process since is not touched; the right one is stopped."""
    process = _process(tmp_path, "import time; time.sleep(600)")
    await process.start()
    assert process.pid is not None
    identity = process_identity(process.pid)
    assert identity is not None
    await stop_process(process.pid, "0:earlier", GRACE)
    assert process_identity(process.pid) == identity
    await stop_process(process.pid, identity, timedelta(seconds=20))
    assert process_identity(process.pid) is None
    await process.stop()
