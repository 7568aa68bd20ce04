"""Back up git repositories: one verified, self-contained bundle per run, the newest ones kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import BackupFailedError, ConfigurationError, MahavishnuError, WorkflowError
from mahavishnu.workflows.builtin.bundle import check_bundle, digest_bundle
from mahavishnu.workflows.repos import Repo, git, verify

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mahavishnu.workflows.process import CommandResult

__all__ = ["BackupOutcome", "BackupReport", "daily_backup"]

_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
_SHORT_SHA = 12
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0


class BackupOutcome(TypedDict):
    """What became of one repository.

    `state` is `"saved"`, `"empty"` (it has no commit yet, so there is nothing to save) or `"failed"`. Where it
    is not `"saved"`, `bundle`, `bytes`, `sha` and `sha256` are `None`. `rotated` names the bundles deleted.
    """

    name: str
    path: str
    state: Literal["saved", "empty", "failed"]
    bundle: str | None
    bytes: int | None
    sha: str | None
    sha256: str | None
    rotated: list[str]
    error: str | None


class BackupReport(TypedDict):
    """What became of all repositories, in the order they were given."""

    target: str
    repositories: list[BackupOutcome]


async def daily_backup(repos: list[Repo | str], target: str, keep: int = 7) -> BackupReport:
    """Save every commit that a ref of each repository reaches, as `<target>/<name>/<name>-<UTC time>-<sha>.bundle`.

    A bundle appears under its name only when it is complete, verified and on the disk; restore one with
    `git clone --mirror <bundle>`. Configuration, hooks, LFS files and uncommitted work are not part of it. Runs
    on one repository wait for each other, in whatever process they are.

    Args:
        repos: The repositories, or their paths.
        target: Folder for the bundles; created where it is missing.
        keep: How many bundles of each repository stay, at least 1, default 7. Older ones are deleted only
            after a new one was saved.

    Raises:
        ConfigurationError: `keep` is below 1, or two repositories would use one folder.
        BackupFailedError: Some repository could not be saved; the others were. It has the report.
    """
    if keep < 1:
        raise ConfigurationError(f"keep is {keep}; at least 1 bundle of each repository must stay")
    chosen = list({os.fspath(repo): repo for repo in map(Repo.at, repos)}.values())
    _refuse_shared_folders(chosen)
    folder = _absolute(target)
    outcomes = [await _save(repo, folder / _folder_name(repo), keep) for repo in chosen]
    report = BackupReport(target=str(folder), repositories=outcomes)
    problems = {outcome["name"]: outcome["error"] for outcome in outcomes if outcome["error"] is not None}
    if problems:
        raise BackupFailedError(problems, report)
    return report


def _folder_name(repo: Repo) -> str:
    """Return the repository's name in a form that is one harmless step of a path."""
    return re.sub(r"[^\w.-]+", "_", repo.name).lstrip(".") or "_"


def _refuse_shared_folders(repos: list[Repo]) -> None:
    for name, count in Counter(map(_folder_name, repos)).items():
        if count > 1:
            paths = ", ".join(os.fspath(repo) for repo in repos if _folder_name(repo) == name)
            raise ConfigurationError(f"{count} repositories would use the folder {name!r} ({paths}); rename one")


async def _save(repo: Repo, folder: Path, keep: int) -> BackupOutcome:
    outcome = BackupOutcome(
        name=repo.name, path=os.fspath(repo), state="failed", bundle=None, bytes=None, sha=None, sha256=None,
        rotated=[], error=None,
    )  # fmt: skip
    try:
        await asyncio.to_thread(verify, repo)
        sha = await _tip(repo)
        if sha is None:
            outcome["state"] = "empty"
            return outcome
        await _refuse_shallow(repo)
        async with _locked(folder):
            await _write_and_rotate(repo, folder, sha, keep, outcome)
    except (MahavishnuError, OSError) as exc:
        outcome["error"] = str(exc)
    return outcome


async def _tip(repo: Repo) -> str | None:
    """Return the commit that is checked out, else what the first ref points to; `None` where there is no ref."""
    head = await git(repo, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.ok:
        return head.stdout.strip()
    refs = _succeeded(repo, await git(repo, "for-each-ref", "--count=1", "--format=%(objectname)"))
    return refs.stdout.strip() or None


async def _refuse_shallow(repo: Repo) -> None:
    answer = _succeeded(repo, await git(repo, "rev-parse", "--is-shallow-repository"))
    if answer.stdout.strip() == "true":
        raise WorkflowError(
            f"{os.fspath(repo)} is a shallow clone and a bundle of it could not be restored;"
            " run `git fetch --unshallow` in it"
        )


async def _write_and_rotate(repo: Repo, folder: Path, sha: str, keep: int, outcome: BackupOutcome) -> None:
    _remove_leftovers(folder)
    bundle = folder / _bundle_name(folder.name, sha)
    partial = folder / f".{bundle.name}.partial"
    try:
        _succeeded(repo, await git(repo, "bundle", "create", "--quiet", str(partial), "--all"))
        await check_bundle(repo, partial)
        digest, size = await asyncio.to_thread(digest_bundle, partial)
        await asyncio.to_thread(_publish, partial, bundle)
    finally:
        partial.unlink(missing_ok=True)
    outcome.update(state="saved", bundle=str(bundle), bytes=size, sha=sha, sha256=digest)
    outcome["rotated"] = _rotate(folder, bundle, keep)


def _absolute(target: str) -> Path:
    return Path(target).expanduser().absolute()


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed run left half-written; we hold the lock, so nobody is writing it."""
    for leftover in folder.glob(".*.partial"):
        leftover.unlink()


def _bundle_name(name: str, sha: str) -> str:
    stamp = SYSTEM_CLOCK.now().strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return f"{name}-{stamp}Z-{sha[:_SHORT_SHA]}.bundle"


def _publish(partial: Path, bundle: Path) -> None:
    """Give the file its name such that after a power cut it is there as a whole, or not at all."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(bundle)
    directory = os.open(bundle.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _rotate(folder: Path, newest: Path, keep: int) -> list[str]:
    """Delete all but the `keep` newest bundles; files of any other name are not ours, and stay."""
    ours = re.compile(rf"{re.escape(folder.name)}-{_STAMP.pattern}-[0-9a-f]+\.bundle")
    # The newest is set apart, for a clock that was set back may have dated it before the others.
    others = sorted(path for path in folder.iterdir() if ours.fullmatch(path.name) and path != newest)
    surplus = others[: len(others) - (keep - 1)] if len(others) >= keep else []
    for path in surplus:
        path.unlink()
    return [path.name for path in surplus]


@asynccontextmanager
async def _locked(folder: Path) -> AsyncGenerator[None]:
    """Hold the lock of `folder`, made if missing. The system frees it when its holder dies, however that happens."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # as quick as the `open` below
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        await _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


async def _lock(descriptor: int) -> None:
    # No event tells of a lock freed by another process, and a thread blocked in flock cannot be cancelled.
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        else:
            return


def _succeeded(repo: Repo, result: CommandResult) -> CommandResult:
    if not result.ok:
        said = result.stderr.strip().rpartition("\n")[2]
        raise WorkflowError(f"git failed in {os.fspath(repo)} with status {result.exit_code}: {said}")
    return result
