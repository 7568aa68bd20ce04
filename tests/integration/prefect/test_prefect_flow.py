"""The generic flow, run in this process against a real server: attempts, turns, lateness, and what is missing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from mahavishnu import BackoffPolicy, JobContext, MahavishnuApp, Retry, Snooze
from mahavishnu.engines.prefect.api import connect
from mahavishnu.engines.prefect.flow import run_workflow
from mahavishnu.engines.prefect.host import CURRENT_HOST
from mahavishnu.engines.prefect.marks import FLOW_RUN_LABEL
from mahavishnu.engines.prefect.missing import MissingTimes, plan_missing
from mahavishnu.engines.prefect.timing import is_current, plan_trigger, trigger_of
from mahavishnu.errors import CapabilityError, EngineUnavailableError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import JobOptions, JobRequest
from mahavishnu.model.policies import MisfirePolicy
from mahavishnu.model.schedule import Schedule
from mahavishnu.model.states import RunState
from mahavishnu.testing import FakeClock
from mahavishnu.triggers import CronTrigger, DateTrigger, IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from prefect.client.schemas.objects import State, TaskRun

    from mahavishnu.engines.prefect.server import ManagedServer

# Prefect leaves connections of runs in this process open until they are collected; in a worker each has its own.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

QUICK = BackoffPolicy(initial=timedelta(seconds=0.05), factor=1.0)
NOW = datetime(2026, 5, 4, 12, 10, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def app(server: ManagedServer, tmp_path: Path) -> AsyncIterator[MahavishnuApp]:
    """A project whose pool no worker polls: its flow runs start in this process, when a test says so."""
    (tmp_path / "mahavishnu.toml").write_text(
        f'app = "x:app"\n[prefect]\nenabled = true\napi_url = "{server.api_url}"\nwork_pool = "unpolled"\n'
    )
    app = MahavishnuApp(config=tmp_path / "mahavishnu.toml")
    app.log = []
    _register(app)
    await app.runtime.open_history()
    yield app
    async with connect(server.api_url) as client:
        for schedule in await app.scheduler.list_schedules():
            await client.delete_deployment(UUID(schedule.external_id))
    await app.runtime.close()


def _register(app: MahavishnuApp) -> None:
    @app.workflow("nap", max_attempts=1)
    async def nap(ctx: JobContext, seconds: float = 0.3) -> None:
        app.log.append(("begin", ctx.scheduled_for))
        await asyncio.sleep(seconds)
        app.log.append(("end", ctx.scheduled_for))

    @app.workflow("flaky", max_attempts=3, backoff=QUICK)
    def flaky(ctx: JobContext) -> str:
        if ctx.attempt < 3:
            raise RuntimeError(f"not yet, attempt {ctx.attempt}")
        return "at last"

    @app.workflow("patient", max_attempts=2)
    async def patient(ctx: JobContext) -> Any:
        app.log.append(ctx.attempt)
        if len(app.log) == 1:
            return Snooze(until=app.runtime.clock.now() + timedelta(seconds=0.05))
        return Retry(after=timedelta(seconds=0.05), reason="once more") if ctx.attempt == 1 else "done"

    @app.workflow("slow", max_attempts=2, timeout=timedelta(seconds=0.05), backoff=QUICK)
    async def slow() -> None:
        await asyncio.sleep(30)


async def run_here(app: MahavishnuApp, flow_run_id: UUID) -> State[Any]:
    """Run a flow run as its process would."""
    url = app.settings.prefect.api_url.reveal()
    CURRENT_HOST.set(app.runtime.prefect._host)
    with temporary_settings({PREFECT_API_URL: url}):
        async with connect(url) as client:
            flow_run = await client.read_flow_run(flow_run_id)
        return await run_flow(run_workflow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")


async def submitted(app: MahavishnuApp, task: str, **options: Any) -> tuple[str, UUID]:
    """Submit one job; returns its id and its flow run's."""
    [job] = await app.runtime.prefect.submit([JobRequest(task=task, options=JobOptions(**options))])
    [row] = await app.scheduler.list_runs(job_id=job.job_id)
    return job.job_id, UUID((row.labels or {})[FLOW_RUN_LABEL])


async def occurrence(app: MahavishnuApp, schedule_id: str, fire_at: datetime) -> UUID:
    """Make the flow run of one fire time."""
    stored = await app.scheduler.get_schedule(schedule_id)
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        run = await client.create_flow_run_from_deployment(
            UUID(stored.external_id),
            parameters={"fire_at": fire_at.isoformat()},
            state=Scheduled(scheduled_time=fire_at),
        )
    return run.id


# --- attempts ---


async def test_every_attempt_is_a_row_and_retries_are_prefects(app: MahavishnuApp) -> None:
    """Accepted it is queued; two failures with traceback and the next time, then the result; Prefect counted three."""
    job_id, flow_run_id = await submitted(app, "flaky")
    assert (await app.scheduler.get_run(job_id)).state is RunState.QUEUED
    assert (await run_here(app, flow_run_id)).is_completed()
    rows = list(reversed(await app.scheduler.list_runs(job_id=job_id)))
    assert [row.state for row in rows] == [RunState.FAILED, RunState.FAILED, RunState.SUCCEEDED]
    assert [row.attempt for row in rows] == [1, 2, 3]
    assert rows[0].error == "RuntimeError: not yet, attempt 1"
    assert "raise RuntimeError" in (rows[0].traceback or "")
    assert rows[0].next_attempt_at is not None
    assert rows[2].result == '"at last"'
    found = await _task_runs(app, flow_run_id)
    while found[0].run_count < 3:  # Prefect writes of tasks a moment later
        found = await _task_runs(app, flow_run_id)
    assert (found[0].name, found[0].run_count) == ("flaky", 3)


async def _task_runs(app: MahavishnuApp, flow_run_id: UUID) -> list[TaskRun]:
    """Return the task runs of a flow run, once there are any."""
    where = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        found: list[TaskRun] = []
        while not found:
            await asyncio.sleep(0.1)
            found = await client.read_task_runs(flow_run_filter=where)
    return found


async def test_what_a_job_asks_for_itself_is_honoured(app: MahavishnuApp) -> None:
    """A snooze is no attempt, a retry is one; each has its row, and both are waited for."""
    job_id, flow_run_id = await submitted(app, "patient")
    assert (await run_here(app, flow_run_id)).is_completed()
    assert app.log == [1, 1, 2]
    rows = list(reversed(await app.scheduler.list_runs(job_id=job_id)))
    assert [row.state for row in rows] == [RunState.SNOOZED, RunState.RETRYING, RunState.SUCCEEDED]


async def test_time_limits_are_kept_and_the_flow_run_fails_with_the_reason(app: MahavishnuApp) -> None:
    """Both attempts are timed out, and the flow run's message is the last one's error."""
    job_id, flow_run_id = await submitted(app, "slow")
    state = await run_here(app, flow_run_id)
    assert state.is_failed()
    assert "time limit of 0.05 s" in (state.message or "")
    assert [row.state for row in await app.scheduler.list_runs(job_id=job_id)] == [RunState.TIMED_OUT] * 2


async def test_a_waiting_job_is_cancelled_and_does_not_run(app: MahavishnuApp) -> None:
    """In the ledger and in Prefect, where its flow run never begins."""
    job_id, flow_run_id = await submitted(app, "nap", schedule_time=datetime.now(UTC) + timedelta(hours=1))
    assert (await app.scheduler.get_run(job_id)).state is RunState.SCHEDULED
    assert await app.scheduler.cancel_run(job_id)
    assert (await app.scheduler.get_run(job_id)).state is RunState.CANCELLED
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        assert (await client.read_flow_run(flow_run_id)).state.is_cancelled()
    assert not await app.scheduler.cancel_run(job_id)


async def test_a_job_waiting_for_its_retry_is_cancelled_at_once(app: MahavishnuApp) -> None:
    """Not only when the delay, here an hour, is over."""
    app.workflow(
        "stubborn", max_attempts=2, backoff=BackoffPolicy(initial=timedelta(hours=1), maximum=timedelta(hours=1))
    )(_stubborn)
    job_id, flow_run_id = await submitted(app, "stubborn")
    running = asyncio.create_task(run_here(app, flow_run_id))
    async with asyncio.timeout(20):
        while (await app.scheduler.get_run(job_id)).state is not RunState.FAILED:
            await app.runtime.history.changed(within=timedelta(seconds=0.1))
        assert await app.scheduler.cancel_run(job_id)
        state = await running
    assert state.is_cancelled()
    assert [row.state for row in await app.scheduler.list_runs(job_id=job_id)] == [
        RunState.CANCELLED,
        RunState.FAILED,
    ]


async def _stubborn() -> None:
    raise ValueError("never")


async def test_equal_keys_make_one_job_and_unknown_options_are_refused(app: MahavishnuApp) -> None:
    """The second is told the first one's id; a priority would be ignored, so it is refused."""
    first, second = [
        (await app.runtime.prefect.submit([JobRequest(task="nap", options=JobOptions(idempotency_key="k"))]))[0]
        for _ in range(2)
    ]
    assert (second.job_id, first.deduplicated, second.deduplicated) == (first.job_id, False, True)
    with pytest.raises(CapabilityError, match="priority"):
        await submitted(app, "nap", priority=9)
    with pytest.raises(EngineUnavailableError, match="no worker polls the pool 'unpolled'"):
        await app.runtime.prefect.submit([JobRequest(task="nap", parent_id="p")])


async def test_a_failed_flow_run_is_tried_again_by_hand(app: MahavishnuApp) -> None:
    """From Prefect's page: further attempts at the same job, each with a row, until it succeeds."""
    job_id, flow_run_id = await submitted(app, "flaky", max_attempts=1)
    names: list[str] = []
    for _ in range(3):
        names.append((await run_here(app, flow_run_id)).type.value)
        async with connect(app.settings.prefect.api_url.reveal()) as client:
            await client.set_flow_run_state(flow_run_id, Scheduled(), force=True)
    assert names == ["FAILED", "FAILED", "COMPLETED"]
    rows = list(reversed(await app.scheduler.list_runs(job_id=job_id)))
    assert [(row.attempt, row.state.value) for row in rows] == [(1, "failed"), (2, "failed"), (3, "succeeded")]


async def test_a_deployment_keeps_its_pause_unless_told(app: MahavishnuApp) -> None:
    """Paused when asked, left alone when not, released when asked; ledger and server agree."""
    for paused, expected in ((True, "paused"), (None, "paused"), (False, "active")):
        await app.scheduler.schedule_deployment("nap", name="kept", schedule="0 5 * * *", paused=paused, tags=["t"])
        assert (await app.scheduler.get_schedule("kept")).state == expected
        [info] = [it for it in await app.runtime.prefect.deployments() if it.name == "kept"]
        assert info.paused is (expected == "paused")
        assert "t" in info.tags


# --- lateness and turns ---


async def test_a_late_occurrence_with_newer_ones_is_skipped_with_the_reason(app: MahavishnuApp) -> None:
    """In Prefect `Skipped`, in the ledger an occurrence with its reason, and nothing ran."""
    await app.scheduler.schedule("nap", cron="* * * * *", engine="prefect", id="late")
    fire_at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    state = await run_here(app, await occurrence(app, "late", fire_at))
    assert (state.is_cancelled(), state.name) == (True, "Skipped")
    [skipped] = await app.scheduler.list_occurrences("late")
    assert (skipped.fire_at, skipped.state, skipped.reason) == (fire_at, "skipped", state.message)
    assert app.log == []


@pytest.mark.parametrize(
    ("options", "ran", "skipped"),
    [
        ({"overlap": "skip"}, 1, 2),
        ({"overlap": "queue_one"}, 2, 1),
        ({"overlap": "allow"}, 3, 0),
        ({"max_instances": 2}, 2, 1),
    ],
)
async def test_the_overlap_policy_holds_among_flow_runs(
    app: MahavishnuApp, options: dict[str, Any], ran: int, skipped: int
) -> None:
    """Of three that start together: one runs; or one waits for it; or all run; or two; the others say why not."""
    await app.scheduler.schedule(
        "nap", every=timedelta(minutes=1), engine="prefect", id="turns", context={"seconds": 0.8}, **options
    )
    now = datetime.now(UTC)
    ids = [await occurrence(app, "turns", now + timedelta(seconds=n / 100)) for n in range(3)]
    states = await asyncio.gather(*(run_here(app, flow_run_id) for flow_run_id in ids))
    assert [state.name for state in states].count("Skipped") == skipped
    assert [state.is_completed() for state in states].count(True) == ran
    occurrences = await app.scheduler.list_occurrences("turns")
    assert sum(it.count for it in occurrences) == skipped
    assert all(it.reason.startswith("overlap: ") for it in occurrences)
    rows = await app.scheduler.list_runs(schedule_id="turns")
    assert [row.state for row in rows] == [RunState.SUCCEEDED] * ran
    if options["overlap" if "overlap" in options else "max_instances"] == "queue_one":
        assert [kind for kind, _ in app.log] == ["begin", "end", "begin", "end"]


async def test_missed_times_are_made_up_one_after_the_other(app: MahavishnuApp) -> None:
    """With `all`, those that were missed run in turn, whatever order their processes come up in."""
    await app.scheduler.schedule(
        "nap", every=timedelta(minutes=1), engine="prefect", id="all", misfire="all", context={"seconds": 0.1}
    )
    now = datetime.now(UTC)
    ids = [await occurrence(app, "all", now - timedelta(minutes=n)) for n in (5, 4, 3)]
    await asyncio.gather(*(run_here(app, flow_run_id) for flow_run_id in ids))
    assert [kind for kind, _ in app.log] == ["begin", "end"] * 3


async def test_fire_times_without_a_run_are_made_up_or_accounted_for(app: MahavishnuApp) -> None:
    """After three hours in which Prefect made none: the latest gets its run, the others are skipped with a reason."""
    await app.scheduler.schedule("nap", cron="0 * * * *", engine="prefect", id="gap")
    stored = await app.scheduler.get_schedule("gap")
    later = FakeClock(datetime.now(UTC) + timedelta(hours=3))
    missing = MissingTimes(history=app.runtime.history, clock=later)
    async with connect(app.settings.prefect.api_url.reveal()) as client:
        await client.pause_deployment(UUID(stored.external_id))  # which drops the runs that were prepared
        await missing.look(client, [stored])
        await missing.look(client, [stored])
        due = list(CronTrigger("0 * * * *").between(stored.created_at, later.now() - timedelta(seconds=45)))
        found = await missing._present(client, UUID(stored.external_id), due[0] - timedelta(seconds=1))
    assert found == [due[-1]]
    await app.runtime.history.flush()
    [skipped] = await app.scheduler.list_occurrences("gap")
    assert (skipped.fire_at, skipped.until, skipped.count) == (due[0], due[-2], len(due) - 1)
    assert "Prefect had made no run for it" in skipped.reason


# --- pure ---


def _schedule(policy: str) -> Schedule:
    trigger = CronTrigger("0 * * * *", timezone="UTC").spec()
    return Schedule(id="s", task="t", engine=EngineName.PREFECT, trigger=trigger, misfire=MisfirePolicy.parse(policy))


@pytest.mark.parametrize(
    ("policy", "present", "made", "skipped"),
    [
        ("latest", [], [3], [0, 1, 2]),
        ("all", [1], [0, 2, 3], []),
        ("skip", [3], [], [0, 1, 2]),
        ("latest", [3], [], [0, 1, 2]),
    ],
)
def test_what_is_missing_follows_the_policy(
    policy: str, present: list[int], made: list[int], skipped: list[int]
) -> None:
    """Runs that exist are left to themselves; of the others each is made or skipped."""
    due = [NOW.replace(minute=0) - timedelta(hours=3 - n) for n in range(4)]
    missing = plan_missing(_schedule(policy), due, [due[n] + timedelta(milliseconds=3) for n in present], NOW)
    assert list(missing.make) == [due[n] for n in made]
    assert sum(skip.count for skip in missing.skips) == len(skipped)


@pytest.mark.parametrize(
    "trigger",
    [CronTrigger("0 3 * * 1-5", timezone="Asia/Tokyo"), IntervalTrigger.every(timedelta(hours=6), anchor=NOW)],
)
def test_triggers_survive_the_way_to_prefect_and_back(trigger: CronTrigger | IntervalTrigger) -> None:
    """What is listed from Prefect's own schedule fires when ours does."""
    plan = plan_trigger(trigger.spec(), NOW)
    assert plan is not None
    back = trigger_of(plan.schedule, NOW)
    assert back is not None
    from mahavishnu.triggers import build

    assert build(back).next_after(NOW) == trigger.next_after(NOW)


def test_dates_are_renewed_when_half_of_them_are_used_up() -> None:
    """Not before, for every write deletes the runs that are prepared; and a single date never."""
    spec = CronTrigger("*/5 * * * *", timezone="Australia/Lord_Howe").spec()
    first = plan_trigger(spec, NOW)
    assert first is not None
    assert first.exact_until is not None
    half = (first.exact_until - NOW) / 2
    for later, current in ((half * 0.9, True), (half * 1.1, False)):
        plan = plan_trigger(spec, NOW + later)
        assert plan is not None
        assert is_current(first.schedule, plan, NOW + later) is current
    once = plan_trigger(DateTrigger(NOW + timedelta(days=1)).spec(), NOW)
    assert once is not None
    assert is_current(once.schedule, once, NOW + timedelta(hours=23))
    assert plan_trigger(DateTrigger(NOW).spec(), NOW) is None
