"""Which checks suit a repository, judging by the files in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mahavishnu.workflows.repos import Repo

__all__ = ["Check", "suggested_checks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One command that says whether a repository is in order: status 0 means yes.

    Attributes:
        name: Unique among the checks of a sweep.
        command: Program and arguments, or one line for `/bin/sh`; it runs in the repository's folder.
        timeout: How long it may take, default 5 min.
        allow_failure: Whether its failure is reported without failing the sweep, default false.
        repos: Only in repositories of these names; empty, the default: of any.
        tags: Only in repositories with one of these tags; empty, the default: with any.
    """

    name: str
    command: str | tuple[str, ...]
    timeout: timedelta = timedelta(minutes=5)
    allow_failure: bool = False
    repos: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def suits(self, repo: Repo) -> bool:
        """Return whether this check is to run in a repository, by its name and tags."""
        named = not self.repos or repo.name in self.repos
        return named and (not self.tags or not set(self.tags).isdisjoint(repo.tags))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suggestion:
    """A check, and the files that suggest it: any one that exists, and all of `needs`. No files: always."""

    check: Check
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


# Compiles in memory: unlike `python -m compileall`, this leaves no files behind. Bytes, for the encoding
# declared in a file counts.
_SYNTAX = """\
import subprocess, sys
listed = subprocess.run(["git", "ls-files", "-z", "--", "*.py"], stdout=subprocess.PIPE, check=True).stdout
bad = 0
for name in filter(None, listed.split(b"\\0")):
    try:
        with open(name, "rb") as file:
            compile(file.read(), name.decode(errors="replace"), "exec", dont_inherit=True)
    except FileNotFoundError:
        pass
    except (SyntaxError, ValueError) as exc:
        bad += 1
        print(f"{name.decode(errors='replace')}: {exc}", file=sys.stderr)
sys.exit(bad > 0)
"""

# In the order they run. All leave the working tree as it is and need no network.
_SUGGESTIONS = (
    _Suggestion(
        check=Check(
            name="git-fsck",
            command=("git", "fsck", "--no-progress", "--no-dangling"),
            timeout=timedelta(minutes=30),
        )
    ),
    _Suggestion(
        check=Check(name="python-syntax", command=(sys.executable, "-W", "ignore", "-c", _SYNTAX)),
        files=("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "*.py"),
    ),
    _Suggestion(
        check=Check(name="ruff", command=("ruff", "check", "--no-cache", ".")),
        files=("pyproject.toml", "ruff.toml", ".ruff.toml", "setup.py", "*.py"),
    ),
    _Suggestion(
        check=Check(name="npm-lint", command=("npm", "run", "--silent", "--if-present", "lint")),
        files=("package.json",),
        needs=("node_modules",),
    ),
    _Suggestion(check=Check(name="cargo-fmt", command=("cargo", "fmt", "--check")), files=("Cargo.toml",)),
    # The first call is there to fail where gofmt is missing; its list of files alone does not change its status.
    _Suggestion(check=Check(name="gofmt", command='gofmt -l . && test -z "$(gofmt -l .)"'), files=("go.mod",)),
    _Suggestion(check=Check(name="shellcheck", command="shellcheck -- *.sh"), files=("*.sh",)),
)


def suggested_checks(folder: Path) -> list[Check]:
    """Return the checks that suit what lies in `folder`, the top of a repository.

    Always `git fsck`; a syntax check and ruff for Python, `npm run lint` where packages are installed,
    formatting for Rust and Go, shellcheck for shell scripts.
    """
    return [suggestion.check for suggestion in _SUGGESTIONS if _suits(suggestion, folder)]


def _suits(suggestion: _Suggestion, folder: Path) -> bool:
    present = not suggestion.files or any(next(folder.glob(file), None) for file in suggestion.files)
    return present and all((folder / need).exists() for need in suggestion.needs)
