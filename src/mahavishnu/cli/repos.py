"""`mahavishnu repos`: the configured repositories, whether they are usable, and workflows across them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli.durations import duration
from mahavishnu.cli.groups import ListingGroup
from mahavishnu.cli.options import as_json, context, engine, pair
from mahavishnu.cli.output import Cell, print_json, print_pairs, print_table, state_style
from mahavishnu.cli.wording import span
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import MahavishnuError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id

if TYPE_CHECKING:
    from mahavishnu.cli.session import Session
    from mahavishnu.scheduler.app import MahavishnuApp
    from mahavishnu.scheduler.results import RepoRun, WorkflowResult
    from mahavishnu.workflows.repos import Repo

__all__ = ["command"]

_LOOK_EVERY = timedelta(seconds=0.5)


@click.group("repos", cls=ListingGroup)
def command() -> None:
    """Repositories; without a command, list them."""


@command.command("list")
@click.option("--tag", help="Only with this tag.")
@click.option("--role", help="Only with this role.")
@as_json
@click.pass_obj
def list_(session: Session, *, tag: str | None, role: str | None, as_json: bool) -> None:
    """List the repositories of [[repos]] in mahavishnu.toml."""
    found = session.app().get_repos(tag, role)
    if as_json:
        print_json([_as_json(repo) for repo in found])
        return
    rows: list[list[Cell]] = [[(it.name, "bold"), str(it.path), ", ".join(it.tags), it.role or ""] for it in found]
    print_table(["repository", "path", "tags", "role"], rows, empty="no repositories; add [[repos]] to mahavishnu.toml")


def _as_json(repo: Repo) -> dict[str, Any]:
    return {"name": repo.name, "path": str(repo.path), "tags": list(repo.tags), "role": repo.role}


@command.command("check")
@as_json
@click.pass_obj
def check(session: Session, *, as_json: bool) -> None:
    """Find out whether each repository is there and is one; exit 1 if not."""

    async def look(app: MahavishnuApp) -> list[dict[str, Any]]:
        return [await _checked(repo) for repo in app.get_repos()]

    found = session.run(look)
    if as_json:
        print_json(found)
    else:
        rows: list[list[Cell]] = [
            [
                (it["name"], "bold"),
                ("ok", "green") if it["ok"] else ("wrong", "red"),
                it["commit_sha"] or "",
                it["problem"],
            ]
            for it in found
        ]
        print_table(["repository", "state", "commit", "problem"], rows, empty="no repositories are configured")
    if not all(it["ok"] for it in found):
        raise click.exceptions.Exit(1)


async def _checked(repo: Repo) -> dict[str, Any]:
    from mahavishnu.workflows.repos import commit_sha, verify

    try:
        verify(repo)
        sha, problem = await commit_sha(repo), ""
    except MahavishnuError as exc:
        sha, problem = None, str(exc)
    return {**_as_json(repo), "ok": not problem, "commit_sha": sha, "problem": problem}


@command.command("run")
@click.argument("task")
@click.option(
    "--repos", metavar="NAMES", help="Names or paths, separated by commas; all that are configured by default."
)
@click.option("--tag", help="Those with this tag.")
@engine
@click.option(
    "--context",
    type=context,
    metavar="JSON",
    help="Further arguments as a JSON object, @FILE, or - for standard input.",
)
@click.option(
    "--set", "pairs", type=pair, metavar="NAME=VALUE", multiple=True, help="One further argument; repeatable."
)
@click.option("--resume", metavar="ID", help="An earlier execution: run again only what did not succeed then.")
@click.option("--timeout", type=duration, help="How long to wait, such as 10m; as long as it takes by default.")
@as_json
@click.pass_obj
def run(
    session: Session,
    task: str,
    *,
    repos: str | None,
    tag: str | None,
    context: dict[str, Any] | None,
    pairs: tuple[tuple[str, Any], ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Run the workflow TASK once per repository, and wait for all of them; exit 1 unless each succeeded."""
    if repos is not None and tag is not None:
        raise click.UsageError("give --repos or --tag, not both")
    arguments = {**(context or {}), **dict(pairs)}

    async def act(app: MahavishnuApp) -> WorkflowResult:
        chosen: list[Any] | None = (
            None if repos is None else [name.strip() for name in repos.split(",") if name.strip()]
        )
        return await _execute(app, {**arguments, "type": task}, app.get_repos(tag) if tag else chosen, **options)

    result = session.run(act)
    if as_json:
        print_json(_result_as_json(result))
    else:
        _print(result)
    if result.failed:
        raise click.exceptions.Exit(1)


async def _execute(
    app: MahavishnuApp,
    task: dict[str, Any],
    repos: list[Any] | None,
    *,
    engine: str | None,
    resume: str | None,
    timeout: timedelta | None,
) -> WorkflowResult:
    import asyncio

    from mahavishnu.cli.progress import counting_bar

    local = app.runtime.local if engine in {None, EngineName.APSCHEDULER} else None
    if local is not None:  # in-process work runs in this very process
        await local.start()
    try:
        with counting_bar(task["type"], len(app.get_repos() if repos is None else repos)) as show:
            watching = asyncio.create_task(_watch(app, task["type"], show))
            try:
                return await app.execute_workflow(task, engine, repos, resume=resume, timeout=timeout)
            finally:
                watching.cancel()
    finally:
        if local is not None:
            await local.stop(app.settings.scheduler.stop_grace)


async def _watch(app: MahavishnuApp, task: str, show: Any) -> None:
    """Show how many repositories are done, as the ledger tells it."""
    began = SYSTEM_CLOCK.now()
    first = new_id(SYSTEM_CLOCK.now_ms())[:12]  # ids sort by creation: this execution's is a later one
    history = await app.runtime.open_history()
    while True:
        runs = await app.scheduler.list_runs(task=task, since=began, limit=10_000)
        show(len({run.repo for run in runs if run.ends_job and (run.parent_id or "") >= first}))
        await history.changed(within=_LOOK_EVERY)


def _result_as_json(result: WorkflowResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "task": result.task,
        "engine": result.engine.value,
        "state": result.state.value,
        "runs": [_run_as_json(run) for run in result.runs],
    }


def _run_as_json(run: RepoRun) -> dict[str, Any]:
    return {
        "repo": run.repo,
        "job_id": run.job_id,
        "state": run.state.value,
        "result": run.result,
        "error": run.error,
        "duration_seconds": None if run.duration is None else run.duration.total_seconds(),
        "commit_sha": run.commit_sha,
        "attempts": run.attempts,
    }


def _print(result: WorkflowResult) -> None:
    rows: list[list[Cell]] = [
        [
            (run.repo or "-", "bold"),
            state_style(run.state.value),
            span(run.duration),
            (run.commit_sha or "")[:12],
            str(run.attempts),
            run.error or "",
        ]
        for run in result.runs
    ]
    print_table(["repository", "state", "took", "commit", "attempts", "error"], rows, empty="nothing was left to run")
    click.echo()
    again = f"mahavishnu repos run {result.task} --engine {result.engine.value} --resume {result.id}"
    print_pairs(
        [
            ("execution", result.id),
            ("engine", result.engine.value),
            ("state", state_style(result.state.value)),
            ("run the rest again", again if result.failed else ""),
        ]
    )
