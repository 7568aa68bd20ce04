"""The whole engine through the front door: a real server, a real worker, flow runs in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.states import Cancelling

from mahavishnu.engines.prefect.api import connect
from mahavishnu.errors import (
    CapabilityError,
    ConfigurationError,
    ContextError,
    EngineUnavailableError,
    ScheduleExistsError,
)
from mahavishnu.model.states import RunState
from mahavishnu.scheduler.loading import load_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mahavishnu.engines.prefect.server import ManagedServer
    from mahavishnu.model.run import Run
    from mahavishnu.scheduler.app import MahavishnuApp

POOL = "engine-tests"
SETTINGS = """
app = "engine_shop:app"

[prefect]
enabled = true
api_url = "{api_url}"
work_pool = "engine-tests"
"""
SHOP = """
import asyncio, os
from pathlib import Path

from prefect import flow

from mahavishnu import JobContext, MahavishnuApp, Repo

app = MahavishnuApp(config=Path(__file__).with_name("mahavishnu.toml"))


@app.workflow("greet")
async def greet(name: str, ctx: JobContext) -> dict:
    ctx.logger.info("greeting %s", name)
    return {"hello": name, "attempt": ctx.attempt, "schedule": ctx.schedule_id, "pid": os.getpid()}


@app.workflow("inspect", max_attempts=1)
async def inspect(repo: Repo, limit: int = 3) -> str:
    if (repo.path / "broken").exists():
        raise ValueError(f"{repo.name} is broken")
    return f"{repo.name}: {limit}"


@app.workflow("hang", max_attempts=1)
async def hang(folder: str) -> None:
    (Path(folder) / "pid.new").write_text(str(os.getpid()))
    (Path(folder) / "pid.new").replace(Path(folder) / "pid")
    await asyncio.sleep(600)


@flow(name="engine-sweep")
async def engine_sweep(repos: list[str]) -> str:
    result = await app.execute_workflow(task={"type": "inspect", "limit": 7}, adapter_name="prefect", repos=repos)
    return f"{result.state}: {[run.result for run in result.runs]}"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(server: ManagedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MahavishnuApp]:
    """A project whose engine runs, with one worker for all tests of this file."""
    project = tmp_path_factory.mktemp("shop")
    (project / "mahavishnu.toml").write_text(SETTINGS.format(api_url=server.api_url))
    (project / "engine_shop.py").write_text(SHOP)
    app = load_app("engine_shop:app", project)
    async with app.scheduler.lifecycle():
        yield app
    sys.path.remove(str(project))
    del sys.modules["engine_shop"]


async def ended(app: MahavishnuApp, job_id: str, seconds: float = 45) -> Run:
    """Wait for a job's end in the ledger."""
    async with asyncio.timeout(seconds):
        while True:
            found = await app.runtime.history.ended_jobs([job_id])
            if found:
                return found[job_id]
            await app.runtime.history.changed(within=timedelta(milliseconds=100))


async def test_a_schedule_runs_and_its_run_is_in_the_ledger(app: MahavishnuApp) -> None:
    """Scheduled through the front door, run now, with its result, from a process of its own."""
    scheduled = await app.scheduler.schedule(
        "greet", cron="0 3 * * *", engine="prefect", id="greet/nightly", context={"name": "Ann"}, tags=["night"]
    )
    assert scheduled.engine == "prefect"
    assert scheduled.next_fire_time is not None
    job = await app.scheduler.run_now("greet/nightly")
    run = await ended(app, job.job_id)
    assert run.state is RunState.SUCCEEDED, run
    result = msgspec.json.decode(run.result or "")
    assert result["pid"] != os.getpid()
    assert (result["hello"], result["schedule"], run.schedule_id) == ("Ann", "greet/nightly", "greet/nightly")
    assert [it.id for it in await app.scheduler.list_runs(job_id=job.job_id)] == [run.id]
    assert await _logged(app, UUID(job.job_id), "greeting Ann")


async def _logged(app: MahavishnuApp, flow_run_id: UUID, message: str) -> bool:
    """Wait until Prefect has a line of the job's log, which its process sends a little later."""
    where = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    async with asyncio.timeout(20), connect(app.settings.prefect.api_url.reveal()) as client:
        while message not in [log.message for log in await client.read_logs(where)]:  # noqa: ASYNC110 - it polls a server
            await asyncio.sleep(0.2)
    return True


async def test_the_deployment_says_what_the_schedule_is(app: MahavishnuApp, server: ManagedServer) -> None:
    """Flow, name, parameters, tags, pool and times are what a person expects to find in Prefect."""
    await app.scheduler.schedule("greet", cron="0 3 * * *", engine="prefect", id="listed", context={"name": "Bo"})
    stored = await app.scheduler.get_schedule("listed")
    async with connect(server.api_url) as client:
        kept = await client.read_deployment(stored.external_id)
    assert kept.parameters == {"workflow": "greet", "context": {"name": "Bo"}, "schedule_id": "listed"}
    assert kept.entrypoint == "mahavishnu.engines.prefect.flow.run_workflow"
    [info] = [it for it in await app.runtime.prefect.deployments() if it.schedule_id == "listed"]
    assert (info.flow, info.name, info.work_pool, info.paused) == ("greet", "listed", POOL, False)
    assert "03:00" in info.schedule
    health = await app.runtime.prefect.health()
    assert health.ready, health
    assert server.api_url in health.detail


async def test_scheduling_again_writes_nothing_and_pausing_holds(app: MahavishnuApp, server: ManagedServer) -> None:
    """An unchanged schedule leaves the runs that Prefect has prepared; pause, resume and removal reach the server."""

    async def again() -> Any:
        await app.scheduler.schedule("greet", every=timedelta(hours=6), engine="prefect", context={"name": "Cy"})
        stored = await app.scheduler.get_schedule("greet")
        async with connect(server.api_url) as client:
            return await client.read_deployment(stored.external_id)

    first = await again()
    assert (await again()).updated == first.updated
    await app.scheduler.pause_schedule("greet")
    paused = await again()
    assert paused.paused
    assert paused.id == first.id
    await app.scheduler.resume_schedule("greet")
    assert not (await again()).paused
    await app.scheduler.remove_schedule("greet")
    assert all(it.id != str(first.id) for it in await app.runtime.prefect.deployments())


async def test_a_pause_made_in_prefect_shows_in_the_ledger(app: MahavishnuApp, server: ManagedServer) -> None:
    """What an operator holds in Prefect's pages is held here too, and the next round does not release it."""
    await app.scheduler.schedule("greet", cron="0 4 * * *", engine="prefect", id="held", context={"name": "Di"})
    stored = await app.scheduler.get_schedule("held")
    async with connect(server.api_url) as client:
        await client.pause_deployment(stored.external_id)
        upkeep = app.runtime.prefect._upkeep
        await upkeep.look()
        await upkeep._go_round(client)
        assert (await app.scheduler.get_schedule("held")).state == "paused"
        await upkeep.look()
        assert (await client.read_deployment(stored.external_id)).paused


# --- across repositories ---


def _repository(path: Path, *, broken: bool = False) -> Path:
    path.mkdir()
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(path), *command], check=True)
    if broken:
        (path / "broken").touch()
    return path


async def test_across_repositories_one_failure_stops_nobody_and_resume_repeats_it_alone(
    app: MahavishnuApp, tmp_path: Path
) -> None:
    """Partial with every other result, the failed flow run says so, and resuming runs the failed one only."""
    repos = [_repository(tmp_path / name, broken=name == "two") for name in ("one", "two", "three")]
    result = await app.execute_workflow({"type": "inspect"}, "prefect", repos, timeout=timedelta(seconds=45))
    assert result.state == "partial"
    assert [run.result for run in result.runs] == ["one: 3", None, "three: 3"]
    assert result.failed[0].error == "ValueError: two is broken"
    assert all(run.commit_sha for run in result.runs)
    rows = await app.scheduler.list_runs(parent_id=result.id)
    assert sorted(row.repo or "" for row in rows) == ["one", "three", "two"]
    assert any("is broken" in (row.traceback or "") for row in rows)
    (repos[1] / "broken").unlink()
    again = await app.execute_workflow(
        {"type": "inspect"}, "prefect", repos, resume=result.id, timeout=timedelta(seconds=45)
    )
    assert again.state == "succeeded"
    assert [row.repo for row in await app.scheduler.list_runs(parent_id=again.id)] == ["two"]


async def test_a_users_flow_runs_workflows_in_its_own_process_and_is_read_back(
    app: MahavishnuApp, tmp_path: Path
) -> None:
    """The guide's flow: deployed, run by the worker, its `execute_workflow` in a subflow there, read back."""
    repo = _repository(tmp_path / "alpha")
    sweep = sys.modules["engine_shop"].engine_sweep
    deployment = await app.scheduler.schedule_deployment(
        sweep, name="sweep-prod", schedule="0 2 * * *", parameters={"repos": [str(repo)]}, tags=["sweeps"]
    )
    assert deployment.full_name == "engine-sweep/sweep-prod"
    assert (await app.scheduler.get_schedule("sweep-prod")).task == "engine-sweep"
    job = await app.scheduler.run_now("sweep-prod")
    run = await ended(app, job.job_id)
    assert (run.state, run.task, run.schedule_id) == (RunState.SUCCEEDED, "engine-sweep", "sweep-prod"), run
    [inner] = await app.scheduler.list_runs(task="inspect", state="succeeded", limit=1)
    assert (inner.result, inner.repo) == ('"alpha: 7"', "alpha")
    with pytest.raises(ScheduleExistsError):
        await app.scheduler.schedule_deployment("greet", name="sweep-prod", schedule="0 2 * * *")
    await app.scheduler.pause_schedule("sweep-prod")
    assert [it.paused for it in await app.runtime.prefect.deployments() if it.name == "sweep-prod"] == [True]


# --- stopping ---


async def test_a_running_job_is_cancelled_and_a_killed_one_gets_its_end(app: MahavishnuApp, tmp_path: Path) -> None:
    """Cancelled by its own process, the row says so; after `kill -9` the run ends as failed; each has one row."""
    folders = [tmp_path / "cancelled", tmp_path / "killed", tmp_path / "cancelled-in-prefect"]
    for folder in folders:
        folder.mkdir()
        await app.scheduler.schedule_deployment("hang", name=folder.name, parameters={"folder": str(folder)})
    deployments = {it.name: it.id for it in await app.runtime.prefect.deployments()}
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        ids = [(await client.create_flow_run_from_deployment(deployments[it.name])).id.hex for it in folders]
    for folder in folders:
        await _wait_for_file(folder / "pid")
    assert await app.scheduler.cancel_run(ids[0])
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        await client.set_flow_run_state(UUID(ids[2]), Cancelling())
    os.kill(int((folders[1] / "pid").read_text()), signal.SIGKILL)
    cancelled, killed, there = [await ended(app, job_id) for job_id in ids]
    assert (cancelled.state, cancelled.reason) == (RunState.CANCELLED, "cancelled on request")
    assert killed.state is RunState.FAILED
    assert "Crashed" in (killed.error or "")
    assert there.state is RunState.CANCELLED
    for job_id in ids:
        assert len(await app.scheduler.list_runs(job_id=job_id)) == 1


async def _wait_for_file(path: Path) -> None:
    async with asyncio.timeout(40):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process writes it
            await asyncio.sleep(0.1)


# --- refusals ---


async def test_what_cannot_be_honoured_is_refused_before_anything_is_changed(app: MahavishnuApp) -> None:
    """Too often, a grace no process can keep, a context that JSON changes: one clear error, and no schedule."""
    schedule = app.scheduler.schedule
    with pytest.raises(CapabilityError, match="schedule_internal_task"):
        await schedule("greet", every=timedelta(seconds=30), engine="prefect", id="refused", context={"name": "E"})
    with pytest.raises(CapabilityError, match="misfire grace"):
        await schedule("greet", cron="@daily", engine="prefect", id="refused", context={"name": "E"}, misfire_grace=1)
    with pytest.raises(ContextError, match="nam"):
        await schedule("greet", cron="@daily", engine="prefect", id="refused", context={"nam": "E"})
    assert all(it.id != "refused" for it in await app.scheduler.list_schedules())


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (
            'app = "a:b"\n[prefect]\nenabled = true\napi_url = "http://127.0.0.1:9/api"',
            EngineUnavailableError,
            "127.0.0.1:9",
        ),
        ('app = "a:b"\n[prefect]\nenabled = true', EngineUnavailableError, "mahavishnu up"),
        ("[prefect]\nenabled = true", ConfigurationError, "set app ="),
        ('app = "a:b"\nledger = "memory:"\n[prefect]\nenabled = true', ConfigurationError, "ledger in memory"),
    ],
)
async def test_no_server_and_no_app_are_one_clear_error(
    tmp_path: Path, settings: str, error: type[Exception], words: str
) -> None:
    """It says which address was tried, or what to set; and health says the same without raising."""
    from mahavishnu import MahavishnuApp

    (tmp_path / "mahavishnu.toml").write_text(settings)
    app = MahavishnuApp(config=tmp_path / "mahavishnu.toml")

    async def greet() -> None: ...

    app.workflow("greet")(greet)
    try:
        with pytest.raises(error, match=words):
            await app.scheduler.schedule("greet", cron="0 3 * * *", engine="prefect")
        health = await app.runtime.prefect.health()
        assert not health.ready
        assert await app.scheduler.list_schedules() == []
    finally:
        await app.runtime.close()
