"""`mahavishnu init`: write a small project that runs at once."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import click

from mahavishnu.cli.sample import APP, GITIGNORE, REPOSITORIES, settings_text
from mahavishnu.errors import ConfigurationError

__all__ = ["command"]

_GIT_SECONDS = 30.0
_AUTHOR = {
    "GIT_AUTHOR_NAME": "Sample",
    "GIT_AUTHOR_EMAIL": "sample@example.org",
    "GIT_COMMITTER_NAME": "Sample",
    "GIT_COMMITTER_EMAIL": "sample@example.org",
    # The user's own settings (signing, hooks, another first branch) are not for these.
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@click.command("init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--sample-repos", is_flag=True, help="Also make three small git repositories to work on.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def command(folder: Path, *, sample_repos: bool, force: bool) -> None:
    """Write mahavishnu.toml, app.py and .gitignore into DIR (default: here)."""
    has_prefect = importlib.util.find_spec("prefect") is not None
    files = {
        "mahavishnu.toml": settings_text(prefect=has_prefect, repositories=sample_repos),
        "app.py": APP,
        ".gitignore": GITIGNORE,
    }
    if sample_repos and shutil.which("git") is None:
        raise ConfigurationError("--sample-repos needs git, which is not installed; install it or leave the option out")
    _refuse_to_overwrite(folder, list(files), force=force)
    _write(folder, files)
    if sample_repos:
        for name, (_, words) in REPOSITORIES.items():
            _make_repository(folder / "repos" / name, words)
    _say_what_is_next(folder, has_prefect=has_prefect, has_repos=sample_repos)


def _refuse_to_overwrite(folder: Path, names: list[str], *, force: bool) -> None:
    present = [name for name in names if (folder / name).exists()]
    if present and not force:
        raise ConfigurationError(
            f"{folder.absolute()} has {', '.join(present)} already; nothing was written: give another folder,"
            " or --force to overwrite"
        )


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(f"wrote {folder / name}")
    except OSError as exc:
        raise ConfigurationError(
            f"{folder.absolute()} cannot be written: {exc.strerror}; choose another folder"
        ) from exc


def _make_repository(path: Path, words: str) -> None:
    """Make a repository with two commits; one that is there already stays as it is."""
    if (path / ".git").exists():
        click.echo(f"kept {path}, which is there already")
        return
    path.mkdir(parents=True, exist_ok=True)
    _git(path, "init", "--quiet", "--initial-branch=main")
    (path / "README.md").write_text(f"# {path.name}\n\nThis is {words}.\n", encoding="utf-8")
    _git(path, "add", "--all")
    _git(path, "commit", "--quiet", "--message", "Say what this is")
    (path / "main.py").write_text(f'"""The program of {path.name}."""\n\nprint("hello from {path.name}")\n')
    _git(path, "add", "--all")
    _git(path, "commit", "--quiet", "--message", "Say hello")
    click.echo(f"made {path} with two commits")


def _git(path: Path, *arguments: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    answer = subprocess.run(
        ["git", *arguments],
        cwd=path,
        env={**inherited, **_AUTHOR},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GIT_SECONDS,
        check=False,
    )
    if answer.returncode != 0:
        said = answer.stderr.strip().partition("\n")[0]
        raise ConfigurationError(
            f"git {arguments[0]} in {path} failed: {said}; correct that, then try again with --force"
        )


def _say_what_is_next(folder: Path, *, has_prefect: bool, has_repos: bool) -> None:
    click.echo()
    if has_prefect:
        click.echo("Prefect is installed, so it is enabled in mahavishnu.toml.")
    else:
        click.echo("Prefect is not installed, so it is off in mahavishnu.toml; the other two engines need nothing.")
    if not has_repos:
        click.echo("List your git repositories under [[repos]] in mahavishnu.toml to have them backed up and swept.")
    click.echo("\nNext:")
    if folder.absolute() != Path.cwd():
        click.echo(f"  cd {shlex.quote(str(folder))}")
    click.echo("  mahavishnu up           # run it; Ctrl-C stops")
    click.echo("  mahavishnu schedules    # in a second terminal: what runs when, and where")
    click.echo("  mahavishnu runs         # what has run")
    click.echo("  mahavishnu doctor       # what is installed, configured and reachable")
