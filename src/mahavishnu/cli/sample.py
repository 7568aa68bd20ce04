"""The files of the project that `init` writes."""

from __future__ import annotations

__all__ = ["APP", "GITIGNORE", "REPOSITORIES", "settings_text"]

GITIGNORE = """\
.mahavishnu/
__pycache__/
/backups/
"""

REPOSITORIES = {
    "alpha": ("service", "a small service"),
    "beta": ("library", "a library that others use"),
    "gamma": ("library", "a library nobody has changed lately"),
}
"""Name of each sample repository, with its role and what its README says."""

_SETTINGS = """\
# Settings of this project. What is commented out shows its default. Environment variables win over this file:
# MAHAVISHNU_WORKER__CONCURRENCY=50 sets `concurrency` in [worker]. `mahavishnu doctor` shows what applies.

app = "app:app"  # module:attribute of the MahavishnuApp
# state_dir = ".mahavishnu"  # everything that is stored
# timezone = "Europe/London"  # of schedules that name none; the machine's
# queue_provider = "sqlite"  # of jobs that name none

[scheduler]
# misfire = "latest"  # which missed fire times still run: latest, skip, all or cap=3
# misfire_grace_seconds = 60  # how late is still on time
# overlap = "skip"  # while the previous occurrence runs: skip, queue_one or allow
# stop_grace_seconds = 30  # how long stopping may take

[worker]
# processes = 1
# concurrency = 100  # jobs at once per process
# threads = 32  # of which at most this many are synchronous functions

[jobs]
# max_attempts = 3
# timeout_seconds = 3600  # no limit

[retention]
# keep_days = 30  # finished runs
# keep_dead_letters_days = 90

[prefect]
enabled = {prefect}{prefect_note}
# api_url = ""  # a server of yours; by default `mahavishnu up` runs one for this project

[logging]
# level = "info"
# format = "console"  # or json

# What the built-in workflow code_sweep runs in each repository; without any, what its files suggest.
[[checks]]
name = "integrity"
command = ["git", "fsck", "--no-progress"]

[[checks]]
name = "whitespace"
command = ["git", "diff", "--check", "HEAD~1", "HEAD"]
allow_failure = true

{repos}"""

_NO_REPOS = """\
# Repositories that workflows run on. Relative paths start here.
# [[repos]]
# path = "../my-project"
# tags = ["python"]
# role = "service"
"""

_NOT_INSTALLED = "  # not installed: pip install 'mahavishnu-scheduler[prefect]', then true"

APP = '''\
"""A small project with one task on each engine. `mahavishnu up` runs it."""

import shutil
from datetime import timedelta

from mahavishnu import MahavishnuApp, TaskCharacteristics

app = MahavishnuApp()  # settings: mahavishnu.toml, the environment, arguments


def health_check() -> dict:
    """Look at the disk. An ordinary function: it needs no registration, and a sync one runs in a thread."""
    usage = shutil.disk_usage(app.settings.project_dir)
    return {"disk_used_percent": round(100 * usage.used / usage.total)}


@app.workflow("sweep", timeout=timedelta(minutes=10))
async def sweep() -> dict:
    """Run the checks of mahavishnu.toml on every repository, as tasks of the flow, side by side."""
    result = await app.execute_workflow({"type": "code_sweep"}, "prefect", app.get_repos())
    return {run.repo: run.error or ("clean" if run.result["passed"] else "has problems") for run in result.runs}


@app.on_start
async def make_schedules(scheduler) -> None:
    """Say what runs when. Scheduling an id again replaces it, so a restart never makes a second copy."""
    # Every few seconds and in this process: nothing is lost if one is missed.
    await scheduler.schedule(
        health_check,
        id="health_check",
        every=timedelta(seconds=5),
        characteristics=TaskCharacteristics(frequency="high"),
    )
    repos = [str(repo.path) for repo in app.get_repos()]
    if not repos:
        return  # the other two work on the repositories of mahavishnu.toml
    # Must happen even if this process stops: a durable job, run by a worker. "daily_backup" is built in.
    await scheduler.schedule(
        "daily_backup",
        every=timedelta(seconds=30),  # in earnest: cron="30 2 * * *"
        characteristics=TaskCharacteristics(frequency="low", durability="persistent"),
        context={"repos": repos, "target": str(app.settings.project_dir / "backups"), "keep": 3},
    )
    # People follow it: a Prefect flow, with every run on a dashboard.
    if app.settings.prefect.enabled:
        await scheduler.schedule(
            "sweep",
            every=timedelta(minutes=1),  # in earnest: cron="0 6 * * 1-5"
            characteristics=TaskCharacteristics(visibility="user-facing", complexity="dag"),
        )
'''


def settings_text(*, prefect: bool, repositories: bool) -> str:
    """Return the settings file.

    Args:
        prefect: Whether Prefect is installed, and so enabled.
        repositories: Whether the sample repositories are listed.
    """
    listed = [
        f'[[repos]]\npath = "repos/{name}"\ntags = ["sample"]\nrole = "{role}"\n'
        for name, (role, _) in REPOSITORIES.items()
    ]
    return _SETTINGS.format(
        prefect="true" if prefect else "false",
        prefect_note="" if prefect else _NOT_INSTALLED,
        repos="\n".join(listed) if repositories else _NO_REPOS,
    )
