"""Git repositories to work on."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    **{f"GIT_{role}_{part}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")},
}


def run_git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return what it wrote."""
    command = ["git", "-C", str(folder), "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout


def commit_file(folder: Path, name: str, text: str) -> str:
    """Write a file, commit it, and return the commit's id."""
    (folder / name).write_text(text, encoding="utf-8")
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "--message", f"change {name}")
    return run_git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def git() -> Callable[..., str]:
    """Return a function that runs git: `git(folder, *arguments)`."""
    return run_git


@pytest.fixture
def commit() -> Callable[[Path, str, str], str]:
    """Return a function that writes and commits a file: `commit(folder, name, text)`."""
    return commit_file


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a repository with one commit below the test's folder."""

    def make(name: str, *, empty: bool = False) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        run_git(folder, "init", "--quiet")
        if not empty:
            commit_file(folder, "README", f"this is {name}\n")
        return folder

    return make
