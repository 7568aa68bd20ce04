"""Run a shell command as a job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from mahavishnu.errors import CommandFailedError
from mahavishnu.workflows.process import redact, run_command

if TYPE_CHECKING:
    from mahavishnu.workflows.process import CommandResult

__all__ = ["ShellResult", "shell"]

_MAX_OUTPUT_BYTES = 64_000  # the result is kept in the ledger
_TAIL_CHARACTERS = 2_000
_LABEL_CHARACTERS = 80


class ShellResult(TypedDict):
    """What a command did. `stdout` and `stderr` keep 64,000 bytes each; `truncated` says that more was written."""

    exit_code: int
    stdout: str
    stderr: str
    duration_seconds: float
    truncated: bool
    timed_out: bool


async def shell(
    command: str,
    *,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    timeout_seconds: float | None = None,
    shell: str = "/bin/sh",
    check: bool = True,
) -> ShellResult:
    """Run one shell command and return what it wrote.

    Args:
        command: The command line.
        cwd: Working folder; `None` (default): that of the process running the job.
        env: Variables on top of PATH, HOME, the locale and the like. The values of those named like a
            secret (token, password, ...) are replaced by `***` in what is returned or raised.
        stdin: What the command reads; `None` (default): nothing.
        timeout_seconds: When to stop it, with all it started; `None` (default): never.
        shell: The shell, default `/bin/sh`.
        check: Whether a status other than 0, or the timeout, is a failure of the job, default true.

    Raises:
        CommandError: The shell or the working folder does not exist.
        CommandFailedError: `check` is true and the command failed; retried as the job's options say.
    """
    result = await run_command(
        command,
        cwd=cwd,
        env=env,
        stdin=stdin,
        timeout=None if timeout_seconds is None else timedelta(seconds=timeout_seconds),
        max_output_bytes=_MAX_OUTPUT_BYTES,
        shell=shell,
    )
    stderr = redact(result.stderr, env)
    if check and not result.ok:
        raise CommandFailedError(
            redact(_label(command), env),
            _ending(result, timeout_seconds),
            exit_code=result.exit_code,
            stderr_tail=stderr[-_TAIL_CHARACTERS:],
        )
    return {
        "exit_code": result.exit_code,
        "stdout": redact(result.stdout, env),
        "stderr": stderr,
        "duration_seconds": result.duration.total_seconds(),
        "truncated": result.truncated,
        "timed_out": result.timed_out,
    }


def _label(command: str) -> str:
    """Return the command's first line, shortened."""
    line = command.strip().partition("\n")[0]
    return line if len(line) <= _LABEL_CHARACTERS else f"{line[: _LABEL_CHARACTERS - 3]}..."


def _ending(result: CommandResult, timeout_seconds: float | None) -> str:
    if result.timed_out:
        return f"was stopped after its {timeout_seconds:g} s"
    if result.exit_code < 0:
        return f"was ended by signal {-result.exit_code}"
    return f"exited with status {result.exit_code}"
