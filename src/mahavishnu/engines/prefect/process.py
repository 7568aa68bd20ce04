"""A Prefect program (server or worker) as a child that never outlives this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

__all__ = ["GuardedProcess", "process_identity", "read_tail", "stop_process"]

_GUARD = Path(__file__).with_name("guard.py")
_LOG_LIMIT_BYTES = 5_000_000
_TAIL_BYTES = 4_000
# On top of the grace: the guard's own last waits, and a slow machine.
_GUARD_MARGIN_SECONDS = 10.0


class GuardedProcess:
    """One command, run under the guard.

    The command is stopped by `stop`, and also when this process ends without calling it, `kill -9` included.
    Start and stop belong to one event loop.

    Args:
        command: Program and arguments.
        environment: The child's whole environment.
        directory: Its working directory.
        log_path: Where its output goes, appended; a file over 5 MB is first renamed to `NAME.1`.
        grace: How long it may take to stop before it is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        log_path: Path,
        grace: timedelta,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._directory = directory
        self._log_path = log_path
        self._grace_seconds = grace.total_seconds()
        self._guard: subprocess.Popen[bytes] | None = None
        self._reports: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.pid: int | None = None
        self.exit_code: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether the command was started and has not ended."""
        return self.pid is not None and not self._ended.is_set()

    async def start(self) -> None:
        """Start the command and return once it has a process id."""
        _rotate(self._log_path)
        self._guard = self._spawn()
        await self._listen(self._guard)
        self.pid = (await self._report()).get("pid")
        self._watch = asyncio.create_task(self._watch_end(), name="prefect-process-watch")

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Not asyncio's own subprocesses: those are killed when their loop is closed, and the guard must not be.
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", str(_GUARD), str(self._grace_seconds), *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
            )

    async def _listen(self, guard: subprocess.Popen[bytes]) -> None:
        self._reports = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(self._reports)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: protocol, guard.stdout)

    async def _report(self) -> dict[str, Any]:
        """Return the guard's next message; nothing when the guard itself is gone."""
        assert self._reports is not None
        line = await self._reports.readline()
        return json.loads(line) if line else {}

    async def _watch_end(self) -> None:
        self.exit_code = (await self._report()).get("exit")
        self._ended.set()

    async def wait(self) -> int | None:
        """Return the exit code once the command has ended (negative: by that signal); `None` if nobody knows.

        Safe to cancel, to call again and from several tasks.
        """
        await self._ended.wait()
        return self.exit_code

    async def stop(self) -> None:
        """Stop the command within its grace, by force after it. Idempotent; fine without `start`."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        guard.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace_seconds + _GUARD_MARGIN_SECONDS):
                    await self._ended.wait()
        finally:
            self._finish(guard)

    def _finish(self, guard: subprocess.Popen[bytes]) -> None:
        """Leave nothing behind, whatever the guard managed to do."""
        if self.exit_code is None:  # the guard died or hangs: it reports the end of all it started
            if self.pid is not None:
                _signal_group(self.pid, signal.SIGKILL)
            guard.kill()
        guard.wait()
        self._ended.set()
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.close()


def _rotate(log_path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > _LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_name(log_path.name + ".1"))


def read_tail(log_path: Path, lines: int = 12) -> str:
    """Return the last lines of a log, joined by newlines; empty when there is none."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def process_identity(pid: int) -> str | None:
    """Return what tells this process from every other that ever had its id; `None` when there is none.

    Two equal answers mean the same process: the id together with its time of start (and the boot, on Linux).
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] == "Z" else f"{pid}:{fields[19]}:{boot}"
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return f"{pid}:{listed.stdout.strip()}" if listed.stdout.strip() else None


async def stop_process(pid: int, identity: str, grace: timedelta) -> None:
    """Stop a process group that is not our child: SIGTERM, wait for `grace`, SIGKILL.

    Does nothing when `pid` no longer is the process of that identity.
    """
    if process_identity(pid) != identity:
        return
    _signal_group(pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace.total_seconds()):
            while process_identity(pid) == identity:  # noqa: ASYNC110 - the end of a stranger's child raises no event
                await asyncio.sleep(0.05)
            return
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
