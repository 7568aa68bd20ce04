"""The public calls, on the embedded engines for real: what is accepted runs, is listed, and can be steered."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mahavishnu import MahavishnuApp, MahavishnuScheduler, TaskCharacteristics
from mahavishnu.errors import (
    CapabilityError,
    ConfigurationError,
    ContextError,
    EngineUnavailableError,
    InvalidTriggerError,
    RunNotFoundError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    UnknownProviderError,
    WorkflowNotFoundError,
)
from mahavishnu.model.engine import EngineName
from mahavishnu.model.schedule import ScheduleState
from mahavishnu.model.states import RunState
from mahavishnu.scheduler.results import WorkflowState
from mahavishnu.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOUR = timedelta(hours=1)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[MahavishnuApp]:
    """Return an app with its own state folder and a few workflows."""
    made = MahavishnuApp(state_dir=str(tmp_path / "state"))

    @made.workflow("greet")
    async def greet(name: str = "nobody") -> dict[str, str]:
        return {"hello": name}

    @made.workflow("inspect", max_attempts=1)
    def inspect_repo(repo: str) -> str:
        if repo.endswith("bad"):
            raise ValueError("broken repository")
        return repo

    @made.workflow("forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    yield made
    await made.runtime.close()


@asynccontextmanager
async def worker_of(app: MahavishnuApp) -> AsyncIterator[Worker]:
    """Run a worker of the app beside the block."""
    runtime = app.runtime
    worker = Worker(
        await runtime.open_queue(),
        app.registry,
        await runtime.open_history(),
        events=runtime.events,
        make_queue=runtime.new_queue,
    )
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


async def until_state(scheduler: MahavishnuScheduler, id: str, state: RunState) -> Any:
    """Wait until a run is in a state, at most 10 s."""
    async with asyncio.timeout(10):
        while True:
            run = await scheduler.get_run(id)
            if run.state is state:
                return run
            await asyncio.sleep(0.02)


# --- the front door ---


@pytest.mark.parametrize(
    ("characteristics", "engine"),
    [
        (TaskCharacteristics(), EngineName.APSCHEDULER),
        (TaskCharacteristics(durability="persistent"), EngineName.ONEIRIC),
        (TaskCharacteristics(infrastructure="distributed"), EngineName.ONEIRIC),
    ],
)
async def test_schedule_classifies_and_delegates(
    app: MahavishnuApp, characteristics: TaskCharacteristics, engine: EngineName
) -> None:
    """One call puts the same function on the engine its characteristics ask for, and says why."""
    made = await app.scheduler.schedule("greet", every=HOUR, characteristics=characteristics)
    assert (made.id, made.engine) == ("greet", engine)
    assert made.classification.reasons
    assert made.next_fire_time is not None
    assert made.next_fire_time > datetime.now(UTC)
    listed = await app.scheduler.get_schedule("greet")
    assert listed.engine is engine
    assert listed.reasons == made.classification.reasons


async def test_moving_a_task_to_another_engine_leaves_one_schedule(app: MahavishnuApp) -> None:
    """An id belongs to one schedule across all engines: scheduling it elsewhere moves it."""
    scheduler = app.scheduler
    async with scheduler.lifecycle():
        await scheduler.schedule("greet", every=HOUR, engine="apscheduler")
        moved = await scheduler.schedule("greet", every=HOUR, engine="oneiric")
        assert [s.engine for s in await scheduler.list_schedules()] == [EngineName.ONEIRIC]
        assert moved.engine is EngineName.ONEIRIC
        assert app.runtime.local.schedule_ids == []


async def test_overruling_the_rules_is_said_and_warned_of(app: MahavishnuApp) -> None:
    """`engine=` wins, and the classification tells what the rules would have chosen and what is wrong with it."""
    often = TaskCharacteristics(frequency="high")
    made = await app.scheduler.schedule("greet", every=HOUR, engine="oneiric", characteristics=often)
    assert any("apscheduler" in reason for reason in made.classification.reasons)
    assert made.classification.warnings


async def test_prefect_is_never_replaced_by_a_weaker_engine(app: MahavishnuApp) -> None:
    """Where Prefect is not enabled, user-facing work is refused with the setting to change, and nothing is stored."""
    with pytest.raises(EngineUnavailableError, match=r"enabled = true"):
        await app.scheduler.schedule(
            "greet", cron="0 2 * * *", characteristics=TaskCharacteristics(visibility="user-facing")
        )
    assert await app.scheduler.list_schedules() == []


async def test_characteristics_given_at_registration_count(app: MahavishnuApp) -> None:
    """What `@app.workflow` was told of a task decides when `schedule` is told nothing."""

    @app.workflow("rotate", characteristics=TaskCharacteristics(durability="persistent"))
    async def rotate() -> None: ...

    assert (await app.scheduler.schedule(rotate, cron="0 3 * * *")).engine is EngineName.ONEIRIC


async def test_an_option_of_another_engine_is_refused_naming_it(app: MahavishnuApp) -> None:
    """Jitter exists in process only; a queue provider on the durable engine only."""
    with pytest.raises(CapabilityError, match=r"jitter.*apscheduler"):
        await app.scheduler.schedule("greet", every=HOUR, engine="oneiric", jitter=3)
    with pytest.raises(CapabilityError, match=r"queue_provider.*oneiric"):
        await app.scheduler.schedule("greet", every=HOUR, engine="apscheduler", queue_provider="sqlite")
    with pytest.raises(ConfigurationError, match="did you mean 'jitter'"):
        await app.scheduler.schedule("greet", every=HOUR, jittr=3)  # type: ignore[call-arg]  # a typo
    assert await app.scheduler.list_schedules() == []


# --- ids and conflicts ---


async def test_scheduling_again_replaces_keeps_or_refuses(app: MahavishnuApp) -> None:
    """`on_conflict` decides what happens to an id that is taken."""
    scheduler = app.scheduler
    await scheduler.schedule_workflow("greet", every=HOUR)
    await scheduler.schedule_workflow("greet", every=2 * HOUR)
    assert (await scheduler.get_schedule("greet")).trigger.fields["interval_us"] == 7_200_000_000
    await scheduler.schedule_workflow("greet", every=HOUR, on_conflict="keep")
    assert (await scheduler.get_schedule("greet")).trigger.fields["interval_us"] == 7_200_000_000
    with pytest.raises(ScheduleExistsError, match="greet"):
        await scheduler.schedule_workflow("greet", every=HOUR, on_conflict="error")
    with pytest.raises(ConfigurationError, match="did you mean 'replace'"):
        await scheduler.schedule_workflow("greet", every=HOUR, on_conflict="replce")


async def test_a_restart_neither_moves_nor_resumes_a_schedule(app: MahavishnuApp, tmp_path: Path) -> None:
    """The same call after a restart keeps the interval's anchor, the next fire time and the pause."""
    await app.scheduler.schedule_workflow("greet", every=24 * HOUR)
    before = await app.scheduler.get_schedule("greet")
    await app.scheduler.pause_schedule("greet")
    await app.runtime.close()

    again = MahavishnuApp(state_dir=str(tmp_path / "state"))
    again.workflow("greet")(app.registry.get("greet").function)
    await again.scheduler.schedule_workflow("greet", every=24 * HOUR)
    after = await again.scheduler.get_schedule("greet")
    assert after.trigger == before.trigger
    assert after.state is ScheduleState.PAUSED
    assert (await again.scheduler.resume_schedule("greet")).next_fire_at == before.next_fire_at
    await again.runtime.close()


async def test_ids_are_derived_from_the_function(app: MahavishnuApp) -> None:
    """Without an id, a function's own name is taken, so that a second call makes no second schedule."""

    async def clean_cache() -> None: ...

    first = await app.scheduler.schedule_internal_task(clean_cache, seconds=30)
    second = await app.scheduler.schedule_internal_task(clean_cache, seconds=60)
    assert first == second
    assert first.endswith("clean_cache")
    assert len(await app.scheduler.list_schedules()) == 1


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"key": "gret", "every": HOUR}, WorkflowNotFoundError, "did you mean 'greet'"),
        ({"key": "greet"}, InvalidTriggerError, "cron"),
        ({"key": "greet", "every": HOUR, "cron": "0 2 * * *"}, InvalidTriggerError, "exactly one"),
        ({"key": "greet", "cron": "0 0 30 2 *"}, InvalidTriggerError, "never"),
        ({"key": "greet", "cron": "0 0 L * *"}, InvalidTriggerError, "Quartz"),
        ({"key": "greet", "at": "2020-01-01T00:00:00Z"}, InvalidTriggerError, "never fires again"),
        ({"key": "greet", "at": "2030-01-01T00:00:00"}, InvalidTriggerError, "zone"),
        ({"key": "greet", "every": HOUR, "context": {"nme": "x"}}, ContextError, "did you mean 'name'"),
        ({"key": "greet", "every": HOUR, "context": {"name": 3}}, ContextError, "name"),
        ({"key": "greet", "every": HOUR, "queue_provider": "sqlit"}, UnknownProviderError, "did you mean 'sqlite'"),
        ({"key": "greet", "every": HOUR, "id": " "}, ConfigurationError, "not empty"),
    ],
)
async def test_bad_schedules_are_refused_and_leave_nothing(
    app: MahavishnuApp, arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """Each wrong argument is one clear error, and no half-made schedule stays behind."""
    key = arguments.pop("key")
    with pytest.raises(error, match=said):
        await app.scheduler.schedule_workflow(key, **arguments)
    assert await app.scheduler.list_schedules() == []


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"key": "gret"}, WorkflowNotFoundError, "did you mean 'greet'"),
        ({"key": "greet", "metadata": {"priorty": 1}}, ConfigurationError, "did you mean 'priority'"),
        ({"key": "greet", "context": {"name": object()}}, ContextError, "name"),
        ({"key": "greet", "context": {"name": "x" * 2_000_000}}, ContextError, "1,000,000"),
        ({"key": "greet", "queue_provider": "redis"}, ConfigurationError, "redis"),
    ],
)
async def test_bad_jobs_are_refused_and_earlier_ones_stay(
    app: MahavishnuApp, arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """A refused job changes nothing about those accepted before."""
    kept = await app.scheduler.enqueue_workflow("greet")
    with pytest.raises(error, match=said):
        await app.scheduler.enqueue_workflow(arguments.pop("key"), **arguments)
    assert [stats.ready for stats in await app.scheduler.queue_stats()] == [1]
    assert (await app.scheduler.get_run(kept.job_id)).state is RunState.QUEUED


async def test_unknown_ids_are_named_with_the_nearest(app: MahavishnuApp) -> None:
    """Listing calls say what exists."""
    await app.scheduler.schedule_workflow("greet", every=HOUR)
    for call in (app.scheduler.get_schedule, app.scheduler.pause_schedule, app.scheduler.remove_schedule):
        with pytest.raises(ScheduleNotFoundError, match="did you mean 'greet'"):
            await call("gret")
    with pytest.raises(RunNotFoundError):
        await app.scheduler.get_run("nothing")


# --- durable jobs ---


async def test_an_enqueued_job_runs_once_and_tells_its_result(app: MahavishnuApp) -> None:
    """The job is a mapping and an object, runs on a worker, and its run has the result."""
    scheduler = app.scheduler
    job = await scheduler.enqueue_workflow("greet", context={"name": "Ada"}, metadata={"labels": {"team": "a"}})
    assert job["job_id"] == job.job_id
    assert set(job) >= {"job_id", "workflow", "provider", "queue", "scheduled_for", "deduplicated"}
    async with worker_of(app):
        run = await until_state(scheduler, job.job_id, RunState.SUCCEEDED)
    assert (run.result, run.labels, run.attempt, run.engine) == (
        '{"hello":"Ada"}', {"team": "a"}, 1, EngineName.ONEIRIC,
    )  # fmt: skip
    assert len(await scheduler.list_runs(job_id=job.job_id)) == 1
    assert await scheduler.cancel_run(job.job_id) is False


async def test_equal_idempotency_keys_make_one_job(app: MahavishnuApp) -> None:
    """The second call gets the first job; another workflow's equal key is its own."""
    first = await app.scheduler.enqueue_workflow("greet", metadata={"idempotency_key": "today"})
    second = await app.scheduler.enqueue_workflow("greet", metadata={"idempotency_key": "today"})
    other = await app.scheduler.enqueue_workflow("forever", metadata={"idempotency_key": "today"})
    assert (second.job_id, second.deduplicated) == (first.job_id, True)
    assert other.deduplicated is False


async def test_waiting_and_running_jobs_are_cancelled(app: MahavishnuApp) -> None:
    """A delayed job leaves the queue; a running one is stopped by its worker; both show as cancelled."""
    scheduler = app.scheduler
    later = await scheduler.enqueue_workflow(
        "greet", metadata={"schedule_time": datetime.now(UTC) + timedelta(days=400)}
    )
    assert (await scheduler.get_run(later.job_id)).state is RunState.SCHEDULED
    assert await scheduler.cancel_run(later.job_id)
    assert (await scheduler.get_run(later.job_id)).state is RunState.CANCELLED
    async with worker_of(app):
        running = await scheduler.enqueue_workflow("forever")
        await until_state(scheduler, running.job_id, RunState.RUNNING)
        assert await scheduler.cancel_run(running.job_id)
        run = await until_state(scheduler, running.job_id, RunState.CANCELLED)
        assert run.reason


async def test_dead_letters_are_listed_redriven_and_discarded(app: MahavishnuApp) -> None:
    """A job out of attempts is parked with its reason and error, and can go back or go away."""
    scheduler = app.scheduler
    job = await scheduler.enqueue_workflow("inspect", context={"repo": "bad"})
    async with worker_of(app):
        await until_state(scheduler, job.job_id, RunState.FAILED)
    (letter,) = await scheduler.list_dead_letters()
    assert letter.letter.reason == "attempts-exhausted"
    assert "broken repository" in letter.letter.error
    assert await scheduler.redrive(reason="attempts-exhausted") == [letter.letter.id]
    assert await scheduler.list_dead_letters() == []
    assert [stats.ready for stats in await scheduler.queue_stats()] == [1]


# --- across repositories ---


def make_repository(path: Path) -> Path:
    """Create a git repository with one commit."""
    path.mkdir(parents=True)
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", "-C", str(path), *command], check=True)
    return path


@pytest.mark.parametrize("engine", ["apscheduler", "oneiric"])
async def test_a_workflow_across_repositories_reports_each(app: MahavishnuApp, tmp_path: Path, engine: str) -> None:
    """One bad and one missing repository do not stop the good one; resume runs only what failed."""
    good, bad = make_repository(tmp_path / "good"), make_repository(tmp_path / "bad")
    missing = tmp_path / "missing"
    repos = [str(good), str(bad), str(missing)]
    async with app.scheduler.lifecycle(), worker_of(app):
        result = await app.execute_workflow({"type": "inspect"}, engine, repos, timeout=timedelta(seconds=20))
        assert (result.state, result.engine) == (WorkflowState.PARTIAL, EngineName(engine))
        assert [run.repo for run in result.runs] == ["good", "bad", "missing"]
        assert [run.repo for run in result.failed] == ["bad", "missing"]
        by_name = {run.repo: run for run in result.runs}
        assert by_name["good"].result == str(good)
        assert by_name["good"].commit_sha
        assert "broken repository" in (by_name["bad"].error or "")
        assert "does not exist" in (by_name["missing"].error or "")
        assert len(await app.scheduler.list_runs(parent_id=result.id)) == 3

        make_repository(missing)
        again = await app.execute_workflow(
            {"type": "inspect"}, engine, repos, resume=result.id, timeout=timedelta(seconds=20)
        )
        assert [run.repo for run in again.failed] == ["bad"]
        rerun = {run.repo for run in await app.scheduler.list_runs(parent_id=again.id)}
        assert rerun == {"bad", "missing"}


async def test_durable_work_without_a_worker_is_refused_instead_of_waiting_for_ever(
    app: MahavishnuApp, tmp_path: Path
) -> None:
    """Nobody would run it, so the call says so."""
    with pytest.raises(EngineUnavailableError, match="mahavishnu worker"):
        await app.execute_workflow({"type": "inspect"}, "oneiric", [str(make_repository(tmp_path / "r"))])


async def test_in_process_work_outside_the_lifecycle_is_refused(app: MahavishnuApp, tmp_path: Path) -> None:
    """The in-process engine runs inside `lifecycle` only, and says so."""
    with pytest.raises(EngineUnavailableError, match="lifecycle"):
        await app.execute_workflow({"type": "inspect"}, "apscheduler", [str(make_repository(tmp_path / "r"))])


async def test_a_workflow_without_repositories_runs_once(app: MahavishnuApp) -> None:
    """A workflow that takes no repository is run as it is."""
    async with app.scheduler.lifecycle():
        result = await app.execute_workflow({"type": "greet", "name": "Bob"}, "apscheduler")
    assert result.state is WorkflowState.SUCCEEDED
    assert result.runs[0].result == {"hello": "Bob"}


async def test_a_schedule_whose_only_time_has_passed_shows_as_ended(app: MahavishnuApp) -> None:
    """A date fires once; afterwards its schedule is listed as ended, without a next time."""
    at = datetime.now(UTC) + timedelta(seconds=0.3)
    await app.scheduler.schedule_workflow("greet", at=at)
    assert (await app.scheduler.get_schedule("greet")).state is ScheduleState.ACTIVE
    async with app.scheduler.lifecycle(), asyncio.timeout(10):
        while True:
            ended = await app.scheduler.get_schedule("greet")
            if ended.state is not ScheduleState.ACTIVE:
                break
            await asyncio.sleep(0.05)
    assert (ended.state, ended.next_fire_at) == (ScheduleState.ENDED, None)
