"""Run one command: bounded in time and output, with everything it started, and always reaped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

__all__ = ["DEFAULT_GRACE", "CommandResult", "minimal_environment", "redact", "run_command"]

DEFAULT_GRACE = timedelta(seconds=5)
"""How long a command has between the request to end and the kill."""

_INHERITED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSH_AUTH_SOCK",
    # Where a network is reached only through these, a command without them does not work at all.
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
})  # fmt: skip
_SECRET_NAME = re.compile(r"(?i)token|secret|passw|credential|api_?key|private_?key|access_?key|auth(?!or)")
_SHORTEST_SECRET = 4  # hiding "1" or "on" wherever they occur would hide everything
_KILL_LIMIT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended and what it wrote.

    Attributes:
        exit_code: Its exit status; `-n` where signal n ended it.
        stdout: What it wrote, as UTF-8 with undecodable bytes replaced; the middle left out where it was too much.
        stderr: Likewise.
        duration: From its start to its end.
        truncated: Whether anything was left out of `stdout` or `stderr`.
        timed_out: Whether it was stopped because its time was up.
    """

    exit_code: int
    stdout: str
    stderr: str
    duration: timedelta
    truncated: bool = False
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.exit_code == 0 and not self.timed_out


def minimal_environment() -> dict[str, str]:
    """Return the part of our environment that commands inherit: paths, locale, proxies; never our own settings."""
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
    kept.setdefault("PATH", os.defpath)
    return kept


def redact(text: str, env: Mapping[str, str] | None) -> str:
    """Return `text` without the values of those variables of `env` whose names say they are secret."""
    for name, value in (env or {}).items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text


async def run_command(
    command: Sequence[str] | str,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    timeout: timedelta | None = None,
    max_output_bytes: int = 1_000_000,
    grace: timedelta = DEFAULT_GRACE,
    shell: str = "/bin/sh",
) -> CommandResult:
    """Run `command` in a session of its own and wait for it to end.

    When its time is up, or this call is cancelled, SIGTERM goes to the command and all it started, then
    SIGKILL to what is left after `grace`. A command that ends while something it started still holds its
    output open is waited for another `grace`; that process is then left running, and its output ignored.

    Args:
        command: Program and arguments, or one line for `shell`.
        cwd: Working folder; `None`: ours.
        env: Variables on top of `minimal_environment()`. Values are never logged.
        stdin: What it reads; `None`: nothing.
        timeout: How long it may run; `None`: for ever.
        max_output_bytes: How much of each of stdout and stderr is kept: half from the beginning, half from the end.
        grace: Time between SIGTERM and SIGKILL, default 5 s.
        shell: The shell for a one-line command, default `/bin/sh`.

    Returns:
        How it ended, also where that was badly or by timeout.

    Raises:
        CommandError: It cannot be started: no such program, folder or permission.
    """
    argv = [shell, "-c", command] if isinstance(command, str) else list(command)
    if not argv:
        raise CommandError("", "the list of program and arguments is empty")
    started = time.monotonic()
    running = await _start(argv, cwd, {**minimal_environment(), **(env or {})}, max_output_bytes, stdin is not None)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    timed_out = await _wait_or_stop(running, data, timeout, grace.total_seconds())
    return CommandResult(
        exit_code=_exit_code(running),
        stdout=running.stdout.text(),
        stderr=running.stderr.text(),
        duration=timedelta(seconds=time.monotonic() - started),
        truncated=bool(running.stdout.left_out or running.stderr.left_out),
        timed_out=timed_out,
    )


class _Capture(asyncio.Protocol):
    """One output stream: its beginning and its end are kept, the middle is counted."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0
        self.transport: asyncio.BaseTransport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._half:  # cut seldom, so that each byte is moved about once
            del self._tail[: -self._half]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    @property
    def left_out(self) -> int:
        return max(self._total - 2 * self._half, 0)

    def text(self) -> str:
        if not self.left_out:
            return (self._head + self._tail).decode("utf-8", "replace")
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail[-self._half :]))
        return f"{head}\n[... {self.left_out} bytes left out ...]\n{tail}"


@dataclass(slots=True, kw_only=True)
class _Running:
    process: asyncio.subprocess.Process
    stdout: _Capture
    stderr: _Capture

    async def ended(self) -> None:
        await self.process.wait()

    async def silent(self) -> None:
        await self.stdout.closed.wait()
        await self.stderr.closed.wait()

    def signal_all(self, number: signal.Signals) -> None:
        # PermissionError: macOS says so where only zombies are left in the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        for capture in (self.stdout, self.stderr):
            if capture.transport is not None:
                capture.transport.close()


async def _start(
    argv: Sequence[str],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str],
    limit: int,
    has_input: bool,
) -> _Running:
    # The pipes are our own: whether `Process.wait` also waits for asyncio's pipes differs between Python
    # releases, and a background process holding one open must not keep us from seeing the command end.
    stdout, stdout_end = await _open_pipe(limit)
    stderr, stderr_end = await _open_pipe(limit)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
            stdout=stdout_end,
            stderr=stderr_end,
            start_new_session=True,
        )
    except BaseException as exc:
        for capture in (stdout, stderr):
            if capture.transport is not None:
                capture.transport.close()
        if isinstance(exc, OSError | ValueError):
            raise CommandError(argv[0], _why_not_started(exc, argv[0], cwd)) from exc
        raise
    finally:
        os.close(stdout_end)
        os.close(stderr_end)
    return _Running(process=process, stdout=stdout, stderr=stderr)


async def _open_pipe(limit: int) -> tuple[_Capture, int]:
    read_end, write_end = os.pipe()
    _transport, capture = await asyncio.get_running_loop().connect_read_pipe(
        lambda: _Capture(limit), os.fdopen(read_end, "rb", 0)
    )
    return capture, write_end


def _why_not_started(exc: OSError | ValueError, program: str, cwd: str | os.PathLike[str] | None) -> str:
    if cwd is not None and not Path(cwd).is_dir():
        return f"its working folder {os.fspath(cwd)} does not exist; create it or correct `cwd`"
    if isinstance(exc, FileNotFoundError):
        return "there is no such program; install it, or give its full path"
    if isinstance(exc, PermissionError):
        return "it may not be executed; check its permissions"
    return str(exc)


async def _wait_or_stop(running: _Running, data: bytes | None, timeout: timedelta | None, grace: float) -> bool:
    """Wait for the end, return whether it had to be brought about."""
    feeding = asyncio.create_task(_feed(running.process, data), name="command-stdin")
    try:
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            await running.ended()
            await _until(running.silent(), grace)
    except TimeoutError:
        await _shielded(_stop(running, grace))
        return True
    except BaseException:
        await _shielded(_stop(running, grace))
        raise
    finally:
        feeding.cancel()
        running.close()
    return False


async def _feed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    """Write the input and close it; a command that does not want it may end or close it first."""
    if process.stdin is None:
        return
    with suppress(ConnectionError):
        process.stdin.write(data or b"")
        await process.stdin.drain()
    process.stdin.close()


async def _stop(running: _Running, grace: float) -> None:
    """End the command and all it started; a cancellation only shortens the grace."""
    try:
        running.signal_all(signal.SIGTERM)
        await _until(_ended_and_silent(running), grace)
    finally:
        running.signal_all(signal.SIGKILL)
        # Bounded, for a process stuck in the kernel cannot be killed; the loop's child watcher reaps it later.
        await _until(running.ended(), _KILL_LIMIT_SECONDS)


async def _ended_and_silent(running: _Running) -> None:
    await running.ended()
    await running.silent()


async def _until(waiting: Coroutine[object, object, None], seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await waiting


async def _shielded(cleaning: Coroutine[object, object, None]) -> None:
    """Finish `cleaning` although we are cancelled meanwhile, then let the cancellation go on."""
    task = asyncio.create_task(cleaning, name="command-stop")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled


def _exit_code(running: _Running) -> int:
    # `None` only for a process that outlived SIGKILL: what a shell reports for a killed command.
    code = running.process.returncode
    return -signal.SIGKILL if code is None else code
