"""The repositories workflows run on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.errors import ConfigurationError, nearest
from mahavishnu.workflows.process import minimal_environment, run_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mahavishnu.workflows.process import CommandResult

__all__ = ["Repo", "RepoCatalogue", "commit_sha", "git", "verify"]

_GIT_ENVIRONMENT = {
    "LC_ALL": "C",  # its messages are quoted in ours
    "GIT_TERMINAL_PROMPT": "0",  # nobody is there to answer
    "GIT_OPTIONAL_LOCKS": "0",  # looking must not disturb a person working in the repository
}
_VERIFY_LIMIT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """One repository; usable wherever a path is.

    Attributes:
        name: Unique in its catalogue.
        path: The working tree, or the folder of a bare repository.
        tags: Free labels to select by, none by default.
        role: What it is for, such as `"service"`; `None` by default.
    """

    name: str
    path: Path
    tags: tuple[str, ...] = ()
    role: str | None = None

    def __fspath__(self) -> str:
        """Return the path as text."""
        return os.fspath(self.path)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Repo:
        """Return the repository at `path`, named after its folder; a `Repo` is returned unchanged.

        Args:
            path: Absolute, relative to the current folder, or beginning with `~`.
        """
        if isinstance(path, Repo):
            return path
        absolute = Path(path).expanduser().absolute()
        return cls(name=absolute.name.removesuffix(".git") or absolute.parent.name, path=absolute)


class RepoCatalogue:
    """The repositories of one project, in the order they were given.

    Args:
        repos: Any number, including none.

    Raises:
        ConfigurationError: Two of them have one name.
    """

    def __init__(self, repos: Iterable[Repo] = ()) -> None:
        given = list(repos)
        for name, count in Counter(repo.name for repo in given).items():
            if count > 1:
                paths = ", ".join(str(repo.path) for repo in given if repo.name == name)
                raise ConfigurationError(f"{count} repositories are called {name!r} ({paths}); give each its own name")
        self._repos = {repo.name: repo for repo in given}

    def __iter__(self) -> Iterator[Repo]:
        return iter(self._repos.values())

    def __len__(self) -> int:
        return len(self._repos)

    def get(self, name: str) -> Repo:
        """Return the repository called `name`.

        Raises:
            ConfigurationError: There is none; the message has the nearest name.
        """
        try:
            return self._repos[name]
        except KeyError:
            raise ConfigurationError(f"repository {name!r} is not configured{nearest(name, self._repos)}") from None

    def select(self, tag: str | None = None, role: str | None = None) -> list[Repo]:
        """Return the repositories that carry `tag` and have `role`, in order; `None` does not restrict."""
        return [repo for repo in self if (tag is None or tag in repo.tags) and (role is None or repo.role == role)]


async def git(repo: Repo, *arguments: str, config: tuple[str, ...] = ()) -> CommandResult:
    """Run git in `repo`, undisturbed by the environment of a surrounding git command.

    Args:
        repo: Where.
        *arguments: The subcommand and what follows it.
        config: Settings such as `"gc.auto=0"` for this call.

    Raises:
        CommandError: git is not installed, or the repository's folder is missing.
    """
    settings = [part for setting in config for part in ("-c", setting)]
    return await run_command(["git", "-C", str(repo.path), *settings, *arguments], env=_GIT_ENVIRONMENT)


def verify(repo: Repo) -> None:
    """Make sure that `repo` is a git repository: an ordinary or bare one, or a linked worktree.

    Blocks while git answers, some milliseconds.

    Raises:
        ConfigurationError: The path is missing, is no folder, is not a repository, or lies inside one; or
            git itself is missing or does not answer within 30 s.
    """
    where = f"repository {repo.name!r} at {repo.path}"
    if not repo.path.is_dir():
        problem = "is not a folder" if repo.path.exists() else "does not exist"
        raise ConfigurationError(f"{where} {problem}; correct its path in [[repos]], or clone it there")
    if shutil.which("git") is None:
        raise ConfigurationError(f"{where} cannot be checked: git is not installed; install it")
    answer = _ask_git(repo, where)
    if answer.returncode != 0:
        said = answer.stderr.strip().rpartition("\n")[2].removeprefix("fatal: ")
        raise ConfigurationError(f"{where} is not a git repository ({said}); correct its path, or run `git init` there")
    _git_dir, _newline, way_up = answer.stdout.partition("\n")
    if way_up.strip():
        top = Path(os.path.normpath(repo.path / way_up.strip()))
        raise ConfigurationError(f"{where} is a folder inside the repository {top}; give that path instead")


def _ask_git(repo: Repo, where: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(repo.path), "rev-parse", "--git-dir", "--show-cdup"]
    environment = {**minimal_environment(), **_GIT_ENVIRONMENT}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_VERIFY_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"{where} cannot be checked: git did not answer within {_VERIFY_LIMIT_SECONDS} s;"
            " check the disk or network folder it is on"
        ) from None


async def commit_sha(repo: Repo) -> str | None:
    """Return the full id of the commit `repo` has checked out; `None` where there is no commit to name.

    Raises:
        CommandError: git is not installed, or the repository's folder is missing.
    """
    answer = await git(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return answer.stdout.strip() if answer.ok else None
