"""Run checks on a repository and report what each said."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Literal, TypedDict

from mahavishnu.errors import CommandError, ConfigurationError
from mahavishnu.workflows.builtin.checks import Check, suggested_checks
from mahavishnu.workflows.process import minimal_environment, run_command
from mahavishnu.workflows.repos import Repo, commit_sha, git, verify

if TYPE_CHECKING:
    from pathlib import Path

    from mahavishnu.workflows.process import CommandResult

__all__ = ["Check", "CheckOutcome", "SweepReport", "code_sweep"]

_MAX_OUTPUT_BYTES = 32_000  # per stream and check: the report is kept in the ledger
_NOT_FOUND_BY_SHELL = 127
_NOT_FOUND = re.compile(r"(?P<program>[^\s:]+): (?:command )?not found\s*$")  # how dash, bash and others put it


class CheckOutcome(TypedDict):
    """What one check said.

    `state` is `"passed"`, `"failed"`, `"timed_out"` or `"skipped"`, the last with `reason`. `exit_code` is `None`
    where it did not run. `allowed` says that its failure does not count.
    """

    name: str
    command: str
    state: Literal["passed", "failed", "timed_out", "skipped"]
    allowed: bool
    reason: str | None
    exit_code: int | None
    duration_seconds: float
    stdout: str
    stderr: str
    truncated: bool


class SweepReport(TypedDict):
    """What all checks of one repository said.

    `commit` is `None` where nothing is committed yet; `dirty` (are there changes beside that commit?) is `None`
    in a bare repository. `passed` is true when `failed`, the names of the checks that count against it, is empty.
    """

    repository: str
    path: str
    commit: str | None
    dirty: bool | None
    passed: bool
    failed: list[str]
    checks: list[CheckOutcome]


async def code_sweep(repo: Repo | str, checks: list[Check] | None = None) -> SweepReport:
    """Run `checks` on one repository, one after the other, and report each.

    A check that finds something wrong is part of the report, not a failure of the job: running it again
    would find the same. A check whose program is not installed is skipped. The programs in the
    repository's own `.venv/bin` and `node_modules/.bin` come first.

    Args:
        repo: The repository, or its path.
        checks: What to run, those that suit the repository; `None` (default): what its files suggest, always
            `git fsck`.

    Raises:
        ConfigurationError: It is no git repository, two checks have one name, or one has no command.
        CommandError: git is not installed.
    """
    repo = Repo.at(repo)
    await asyncio.to_thread(verify, repo)
    is_bare = (await git(repo, "rev-parse", "--is-bare-repository")).stdout.strip() == "true"
    chosen = (
        await asyncio.to_thread(suggested_checks, repo.path) if checks is None else [c for c in checks if c.suits(repo)]
    )
    _refuse_unusable(chosen)
    commit, dirty = await commit_sha(repo), None if is_bare else await _is_dirty(repo)
    outcomes = [await _run(check, repo) for check in chosen]
    failed = [one["name"] for one in outcomes if one["state"] in ("failed", "timed_out") and not one["allowed"]]
    return {
        "repository": repo.name,
        "path": os.fspath(repo),
        "commit": commit,
        "dirty": dirty,
        "passed": not failed,
        "failed": failed,
        "checks": outcomes,
    }


def _refuse_unusable(checks: list[Check]) -> None:
    names = [check.name for check in checks]
    for check in checks:
        if not check.command:
            raise ConfigurationError(f"check {check.name!r} has no command; give it one")
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two checks are called {name!r}; give each its own name")


async def _is_dirty(repo: Repo) -> bool | None:
    answer = await git(repo, "status", "--porcelain")
    return bool(answer.stdout.strip()) if answer.ok else None


async def _run(check: Check, repo: Repo) -> CheckOutcome:
    search_path = _search_path(repo.path)
    outcome = CheckOutcome(
        name=check.name, command=_shown(check), state="skipped", allowed=check.allow_failure, reason=None,
        exit_code=None, duration_seconds=0.0, stdout="", stderr="", truncated=False,
    )  # fmt: skip
    if not isinstance(check.command, str) and _is_missing(check.command[0], search_path, repo.path):
        outcome["reason"] = f"{check.command[0]} not installed"
        return outcome
    try:
        result = await run_command(
            check.command,
            cwd=repo.path,
            env={"PATH": search_path, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
            timeout=check.timeout,
            max_output_bytes=_MAX_OUTPUT_BYTES,
        )
    except CommandError as exc:
        outcome.update(state="failed", reason=str(exc))
        return outcome
    _record(outcome, result, check)
    missing = _NOT_FOUND.search(result.stderr) if result.exit_code == _NOT_FOUND_BY_SHELL else None
    if missing is not None and _is_missing(missing["program"], search_path, repo.path):
        outcome.update(state="skipped", reason=f"{missing['program']} not installed")
    return outcome


def _is_missing(program: str, search_path: str, folder: Path) -> bool:
    if os.path.dirname(program):  # a path, for the program as seen from the folder it runs in
        return not (folder / program).exists()
    return shutil.which(program, path=search_path) is None


def _record(outcome: CheckOutcome, result: CommandResult, check: Check) -> None:
    outcome.update(
        state="timed_out" if result.timed_out else "passed" if result.ok else "failed",
        exit_code=result.exit_code,
        duration_seconds=result.duration.total_seconds(),
        stdout=result.stdout,
        stderr=result.stderr,
        truncated=result.truncated,
    )
    if result.timed_out:
        outcome["reason"] = f"stopped after its {check.timeout.total_seconds():g} s"


def _search_path(folder: Path) -> str:
    own = [folder / ".venv" / "bin", folder / "node_modules" / ".bin"]
    return os.pathsep.join([*(str(path) for path in own if path.is_dir()), minimal_environment()["PATH"]])


def _shown(check: Check) -> str:
    shown = check.command if isinstance(check.command, str) else shlex.join(check.command)
    return shown.strip().partition("\n")[0]
