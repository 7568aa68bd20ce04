"""The selection guide's Python blocks run as printed; only what stands around them is supplied.

The blocks are in `tests/data/guide`, numbered in the order of the guide.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from mahavishnu import MahavishnuApp, TaskCharacteristics, classify_task, get_logger
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import run_id
from mahavishnu.model.states import RunState
from mahavishnu.triggers import CronTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mahavishnu.model.schedule import Schedule
    from mahavishnu.scheduler.scheduler import MahavishnuScheduler

BLOCKS = Path(__file__).parents[1] / "data" / "guide"
GUIDE = Path(__file__).parents[3] / "shared" / "guide" / "scheduler-selection-guide.md"
ROTATION = datetime(2026, 2, 7, 2, tzinfo=UTC)
SETTINGS = """
[providers.cloudtasks]
use = "sqlite"

[providers.redis]
use = "sqlite"
"""


class Guide:
    """A module that the blocks of one test run in, with what they take for granted.

    Attributes:
        app: The app, with a placeholder for every workflow the guide names.
        names: The module's names.
    """

    def __init__(self, place: Path) -> None:
        (place / "mahavishnu.toml").write_text(SETTINGS)
        self.app = MahavishnuApp()
        self.module = ModuleType("guide_blocks")
        self.module.__file__ = str(place / "guide_blocks.py")
        sys.modules["guide_blocks"] = self.module
        self.names = vars(self.module)
        self.names |= {
            "app": self.app,
            "scheduler": self.app.scheduler,
            "logger": get_logger("guide"),
            "TaskCharacteristics": TaskCharacteristics,
            "classify_task": classify_task,
        }
        for name in ("health_check", "cleanup_cache", "collect_metrics", "my_task"):
            self._define(f"async def {name}():\n    ran.append({name!r})\n")
        self._define("async def rotate_secrets():\n    ran.append('rotate_secrets')\n")
        self._define("async def daily_backup(repos: list[str]):\n    ran.append(repos)\n")
        for key in ("rotate_secrets", "daily_backup"):
            self.app.workflow(key)(self.names[key])

    def _define(self, source: str) -> None:
        self.names.setdefault("ran", [])
        exec(source, self.names)

    @property
    def scheduler(self) -> MahavishnuScheduler:
        """The app's scheduler; one block gives the name `scheduler` to something else."""
        return self.app.scheduler

    async def run(self, number: int) -> None:
        """Run one block."""
        path = BLOCKS / f"{number:02}.py"
        tree = ast.parse(path.read_text(), str(path))
        code = compile(tree, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, self.names)
        if running is not None:
            await running

    async def schedules(self) -> dict[str, Schedule]:
        """Return what is scheduled, by id."""
        return {schedule.id: schedule for schedule in await self.scheduler.list_schedules()}

    async def waiting(self) -> dict[str, datetime | None]:
        """Return the workflows that wait in the default queue, each with its due time."""
        queue = await self.app.runtime.open_queue()
        [stats] = await queue.stats()
        deliveries = await queue.receive("default", limit=10, lease_ms=30_000, wait_ms=0)
        assert len(deliveries) == stats.ready
        jobs = await queue.find([delivery.id for delivery in deliveries])
        assert all(job.envelope is not None for job in jobs)
        return {job.envelope.workflow: _instant(job.envelope.due_ms) for job in jobs if job.envelope is not None}


def _instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


@pytest.fixture
def make_guide(workplace: Path) -> Callable[[], Any]:
    """Enter a guide whose scheduler is in its lifecycle."""

    @asynccontextmanager
    async def running() -> AsyncIterator[Guide]:
        guide = Guide(workplace)
        try:
            async with guide.scheduler.lifecycle():
                yield guide
        finally:
            del sys.modules["guide_blocks"]

    return running


def _every(schedule: Schedule) -> timedelta:
    return timedelta(microseconds=int(schedule.trigger.fields["interval_us"]))


# --- the copies ---


def test_the_copies_are_the_guide() -> None:
    """Where the guide is at hand, its Python blocks and the copies are the same, and none is missing."""
    copies = [path.read_text() for path in sorted(BLOCKS.glob("*.py"))]
    assert len(copies) == 11
    if GUIDE.exists():
        assert copies == re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)


def test_every_block_has_a_test() -> None:
    """No copy is left without a run."""
    run = {int(number) for number in re.findall(r"guide\.run\((\d+)\)", Path(__file__).read_text())}
    assert run == {int(path.stem) for path in BLOCKS.glob("*.py")}


# --- in this process ---


async def test_internal_tasks(make_guide: Callable[[], Any]) -> None:
    """A health check every 30 seconds, a cache clean-up at the start of every hour, both in this process."""
    async with make_guide() as guide:
        await guide.run(1)
        schedules = await guide.schedules()
        assert set(schedules) == {"health-check", "cache-cleanup"}
        assert {schedule.engine for schedule in schedules.values()} == {EngineName.APSCHEDULER}
        assert _every(schedules["health-check"]) == timedelta(seconds=30)
        assert schedules["cache-cleanup"].trigger == CronTrigger("0 * * * *").spec()
        await guide.scheduler.run_now("health-check")
        await guide.scheduler.run_now("cache-cleanup")
    assert sorted(guide.names["ran"]) == ["cleanup_cache", "health_check"]


async def test_example_of_a_health_check(make_guide: Callable[[], Any]) -> None:
    """Without an id it has the function's name, so that a second start replaces it."""
    async with make_guide() as guide:
        await guide.run(4)
        await guide.run(4)
        [schedule] = (await guide.schedules()).values()
        assert schedule.id == "guide_blocks.health_check"
        assert _every(schedule) == timedelta(seconds=30)


async def test_migration_from_cron(make_guide: Callable[[], Any]) -> None:
    """Every 30 seconds and every hour, as the comments say."""
    async with make_guide() as guide:
        await guide.run(7)
        schedules = await guide.schedules()
        assert _every(schedules["guide_blocks.health_check"]) == timedelta(seconds=30)
        assert schedules["guide_blocks.collect_metrics"].trigger == CronTrigger("0 * * * *").spec()


async def test_lifecycle(workplace: Path) -> None:
    """The block starts the engines and stops them; nothing is left running."""
    guide = Guide(workplace)
    before = asyncio.all_tasks()
    await guide.run(8)
    health = await guide.app.runtime.local.health()
    assert (health.ready, health.detail) == (False, "not running here")
    assert asyncio.all_tasks() == before
    await guide.app.runtime.close()


async def test_unique_ids(make_guide: Callable[[], Any]) -> None:
    """Run twice, the block leaves one schedule."""
    async with make_guide() as guide:
        await guide.run(9)
        await guide.run(9)
        [schedule] = (await guide.schedules()).values()
        assert (schedule.id, _every(schedule)) == ("my-unique-task-id", timedelta(seconds=60))


async def test_errors_in_tasks(make_guide: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """The task with its own handler runs, and its way of logging is ours."""
    async with make_guide() as guide:
        await guide.run(10)
        await guide.scheduler.schedule_internal_task(guide.names["my_scheduled_task"], seconds=3600, id="handled")
        job = await guide.scheduler.run_now("handled")
        guide.names["logger"].error("task_failed", error="the disk is full")
    assert (await guide.scheduler.get_run(run_id(job.job_id, 1))).state is RunState.SUCCEEDED
    await guide.app.runtime.close()
    assert "task_failed" in caplog.text
    assert "the disk is full" in caplog.text


# --- on a queue ---


async def test_durable_jobs(make_guide: Callable[[], Any]) -> None:
    """Both jobs are on the queue that answers for Cloud Tasks and Redis, with time and context."""
    async with make_guide() as guide:
        await guide.run(2)
        assert guide.names["result"].provider == "sqlite"
        assert guide.names["result"]["workflow"] == "daily_backup"
        assert await guide.waiting() == {"rotate_secrets": ROTATION, "daily_backup": None}


async def test_example_of_a_secret_rotation(make_guide: Callable[[], Any]) -> None:
    """The job is on the queue with the time it was given."""
    async with make_guide() as guide:
        await guide.run(6)
        assert await guide.waiting() == {"rotate_secrets": ROTATION}


# --- choosing ---


async def test_classification(make_guide: Callable[[], Any]) -> None:
    """The answer is the one the block's comment gives."""
    async with make_guide() as guide:
        await guide.run(11)
        assert guide.names["scheduler"] == "prefect"


# --- on Prefect ---


@pytest.mark.asyncio(loop_scope="session")
async def test_deployments(make_guide: Callable[[], Any], server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both deployments are on a real server, with 2 o'clock as their schedule and a pool to run in."""
    import prefect.deployments
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from mahavishnu.engines.prefect.api import connect
    from mahavishnu.prefect import CronSchedule, Deployment

    # Prefect 3 has no such name any more; the printed import finds ours.
    monkeypatch.setitem(vars(prefect.deployments), "Deployment", Deployment)
    async with make_guide() as guide:
        guide.names["CronSchedule"] = CronSchedule
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            await guide.run(3)
            await guide.run(5)
    async with connect(server.api_url) as client:
        for name in ("daily-sweep-prod", "daily-sweep"):
            kept = await client.read_deployment_by_name(f"daily-code-sweep/{name}")
            assert [schedule.schedule.cron for schedule in kept.schedules] == ["0 2 * * *"]
            assert kept.work_pool_name == "mahavishnu-pool"
            assert kept.entrypoint == f"{guide.names['__file__']}:daily_sweep"


@pytest.mark.asyncio(loop_scope="session")
async def test_the_flow_of_the_guide_sweeps_the_repositories(
    workplace: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body of the printed flow runs on Prefect: one task per configured repository, all of them in the ledger."""
    import prefect.deployments
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from mahavishnu.prefect import CronSchedule, Deployment

    for name in ("one", "two"):
        making = await asyncio.create_subprocess_exec("git", "init", "-q", str(workplace / name))
        assert await making.wait() == 0
    repos = "".join(f'[[repos]]\npath = "{name}"\n' for name in ("one", "two"))
    checks = '[[checks]]\nname = "integrity"\ncommand = ["git", "fsck"]\n'
    monkeypatch.setattr(f"{__name__}.SETTINGS", f"{SETTINGS}\n{checks}{repos}")
    monkeypatch.setenv("MAHAVISHNU_PREFECT__ENABLED", "true")
    monkeypatch.setenv("MAHAVISHNU_PREFECT__API_URL", server.api_url)
    monkeypatch.setitem(vars(prefect.deployments), "Deployment", Deployment)
    guide = Guide(workplace)
    guide.names["CronSchedule"] = CronSchedule
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            await guide.run(3)
            result = await guide.names["daily_sweep"]()
        assert (result.state, result.engine) == ("succeeded", "prefect")
        assert [run.repo for run in result.runs] == ["one", "two"]
        assert all(run.result["passed"] for run in result.runs)
        assert len(await guide.scheduler.list_runs(parent_id=result.id, engine="prefect")) == 2
    finally:
        await guide.app.runtime.close()
        del sys.modules["guide_blocks"]
