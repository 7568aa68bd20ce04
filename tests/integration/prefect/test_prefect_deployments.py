"""Deployments through our class, read back through Prefect's own client."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from prefect import flow
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule, RRuleSchedule
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from mahavishnu.engines.prefect.api import connect
from mahavishnu.engines.prefect.calendar import machine_zone
from mahavishnu.engines.prefect.deployments import SCHEDULE_SLUG
from mahavishnu.errors import (
    CapabilityError,
    ConfigurationError,
    EngineError,
    EngineUnavailableError,
    InvalidTriggerError,
)
from mahavishnu.prefect import CronSchedule, Deployment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from prefect.client.schemas.responses import DeploymentResponse

    from mahavishnu.engines.prefect.server import ManagedServer


GUIDE_FLOW = """
from prefect import flow

@flow(name="daily-code-sweep")
async def daily_sweep(folder: str = ".") -> str:
    return folder
"""


@flow(name="daily-code-sweep")
async def daily_sweep(folder: str = ".", limit: int = 3) -> str:
    """Stand in for a user's flow."""
    return f"{folder} {limit}"


async def _read(server: ManagedServer, full_name: str) -> DeploymentResponse:
    async with connect(server.api_url) as client:
        return await client.read_deployment_by_name(full_name)


async def test_the_shape_of_the_guide_makes_a_deployment(
    server: ManagedServer, import_file: Callable[[str, str], ModuleType]
) -> None:
    """`Deployment.build(...)` and `apply()` with Prefect's own setting of the address, in the machine's zone."""
    module = import_file("guide_flows", GUIDE_FLOW)
    deployment = Deployment.build(
        flow=module.daily_sweep,
        name="daily-sweep-prod",
        schedule=CronSchedule(cron="0 2 * * 1-5", timezone=None),
        work_pool_name="sweep-pool",
        parameters={"folder": "src"},
        tags=["nightly"],
    )
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        deployment_id = await deployment.apply()
    kept = await _read(server, "daily-code-sweep/daily-sweep-prod")
    assert kept.id == deployment_id
    assert kept.entrypoint == f"{module.__file__}:daily_sweep"
    assert (kept.path, kept.work_pool_name, kept.parameters) == (None, "sweep-pool", {"folder": "src"})
    assert (kept.tags, kept.paused) == (["nightly"], False)
    [schedule] = kept.schedules
    assert schedule.slug == SCHEDULE_SLUG
    assert schedule.schedule == CronSchedule(cron="0 2 * * 1,2,3,4,5", timezone=machine_zone())
    async with connect(server.api_url) as client:
        assert (await client.read_work_pool("sweep-pool")).type == "process"


async def test_a_deployment_without_a_pool_gets_the_default_one(
    server: ManagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide's second example names no pool and would never run; the environment may name another default."""
    await Deployment.build(flow=daily_sweep, name="poolless").apply(api_url=server.api_url)
    assert (await _read(server, "daily-code-sweep/poolless")).work_pool_name == "mahavishnu-pool"
    monkeypatch.setenv("MAHAVISHNU_PREFECT_POOL", "other-pool")
    assert Deployment.build_from_flow(flow=daily_sweep, name="poolless").work_pool_name == "other-pool"


async def test_applying_again_keeps_an_operators_pause_and_schedules(server: ManagedServer) -> None:
    """The schedule keeps its id and its pause, a schedule added by hand stays, changes get through."""
    build = {"flow": daily_sweep, "name": "again"}
    first_id = await Deployment.build(**build, schedule="0 3 * * *").apply(api_url=server.api_url)
    async with connect(server.api_url) as client:
        [ours] = await client.read_deployment_schedules(first_id)
        await client.update_deployment_schedule(first_id, ours.id, active=False)
        by_hand = [(IntervalSchedule(interval=timedelta(hours=5)), True)]
        [added] = await client.create_deployment_schedules(first_id, by_hand)
    changed = Deployment.build(**build, schedule="0 4 * * *", tags=["late"], parameters={"limit": 5})
    assert await changed.apply(api_url=server.api_url) == first_id
    kept = await _read(server, "daily-code-sweep/again")
    schedules = {schedule.id: schedule for schedule in kept.schedules}
    assert set(schedules) == {ours.id, added.id}
    assert schedules[ours.id].active is False
    assert schedules[ours.id].schedule.cron == "0 4 * * *"
    assert (kept.tags, kept.parameters) == (["late"], {"limit": 5})
    await Deployment.build(**build).apply(api_url=server.api_url)
    kept = await _read(server, "daily-code-sweep/again")
    assert [schedule.id for schedule in kept.schedules] == [added.id]


async def test_pausing_holds_the_whole_deployment(server: ManagedServer) -> None:
    """`paused` is sent when given, and left as it is when not."""
    for paused, expected in ((True, True), (None, True), (False, False)):
        await Deployment.build(flow=daily_sweep, name="held", paused=paused).apply(api_url=server.api_url)
        assert (await _read(server, "daily-code-sweep/held")).paused is expected


async def test_dates_given_one_by_one_run_at_exactly_those_times(server: ManagedServer) -> None:
    """A cron that Prefect reads otherwise becomes dates, and the server schedules its first runs at ours."""
    deployment = Deployment.build(
        flow=daily_sweep, name="dated", schedule=CronSchedule(cron="0 12 1,31 * *", timezone="Europe/Paris")
    )
    plan = deployment.plan()
    assert plan is not None
    assert isinstance(plan.schedule, RRuleSchedule)
    deployment_id = await deployment.apply(api_url=server.api_url)
    expected = _first_dates(plan.schedule, 3)
    deadline = time.monotonic() + 20
    ours = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    async with connect(server.api_url) as client:
        found: list[datetime] = []
        while len(found) < 3:
            assert time.monotonic() < deadline, f"scheduled so far: {found}"
            runs = await client.read_flow_runs(flow_run_filter=ours)
            found = sorted(run.expected_start_time for run in runs if run.expected_start_time is not None)
            await asyncio.sleep(0.1)
    assert found[:3] == expected


def _first_dates(schedule: RRuleSchedule, count: int) -> list[datetime]:
    texts = schedule.rrule.removeprefix("RDATE:").split(",")[:count]
    return [datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for text in texts]


async def test_wrong_types_are_refused_with_the_servers_reason(server: ManagedServer) -> None:
    """The server checks the types of parameters when it is asked; its words reach the user."""
    deployment = Deployment.build(flow=daily_sweep, name="typed", parameters={"limit": "many"})
    with pytest.raises(EngineError, match="limit"):
        await deployment.apply(api_url=server.api_url)


async def test_a_flow_of_a_package_is_found_by_its_module(
    server: ManagedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entrypoint is the module's name, and runs stand above the package."""
    package = tmp_path / "acme" / "jobs"
    package.mkdir(parents=True)
    (tmp_path / "acme" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "nightly.py").write_text("from prefect import flow\n\n@flow\ndef tidy(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    from acme.jobs.nightly import tidy  # pyright: ignore[reportMissingImports]

    await Deployment.build(flow=tidy, name="packaged", job_variables={"env": {"A": "b"}}).apply(api_url=server.api_url)
    kept = await _read(server, "tidy/packaged")
    assert kept.entrypoint == "acme.jobs.nightly.tidy"
    assert kept.job_variables == {"working_dir": str(tmp_path), "env": {"A": "b"}}
    monkeypatch.delitem(sys.modules, "acme.jobs.nightly")


async def test_a_flow_that_no_worker_can_import_is_refused_at_apply(
    import_file: Callable[[str, str], ModuleType],
) -> None:
    """Flows made in functions, or bound to no name, fail when deployed and not at two in the morning."""

    @flow
    def local() -> None: ...

    with pytest.raises(ConfigurationError, match="inside a function"):
        await Deployment.build(flow=local, name="x").apply(api_url="http://127.0.0.1:9/api")
    module = import_file("nameless", "from prefect import flow\n\ndef work(): ...\n\nflows = [flow(work)]\n")
    with pytest.raises(ConfigurationError, match="has no name in the module nameless"):
        await Deployment.build(flow=module.flows[0], name="x").apply(api_url="http://127.0.0.1:9/api")


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (timedelta(seconds=30), CapabilityError, "schedule_internal_task"),
        (IntervalSchedule(interval=timedelta(seconds=0.5)), CapabilityError, "0.5 s"),
        (CronSchedule(cron="* * * * * */10"), CapabilityError, "schedule_internal_task"),
        (RRuleSchedule(rrule="FREQ=SECONDLY;INTERVAL=20"), CapabilityError, "SECONDLY"),
        (CronSchedule(cron="0 0 1-7 * 1", day_or=False), InvalidTriggerError, "day_or"),
        (Cron("0 0 30 2 *"), InvalidTriggerError, "30"),
        (17, InvalidTriggerError, "int"),
    ],
)
def test_schedules_that_cannot_be_kept_are_refused_when_built(
    schedule: object, error: type[Exception], words: str
) -> None:
    """More often than once a minute, never, or by another rule than cron's: refused before anything is sent."""
    with pytest.raises(error, match=words):
        Deployment.build(flow=daily_sweep, name="x", schedule=schedule)


def test_build_checks_the_flow_its_parameters_and_the_name() -> None:
    """A plain function, a parameter the flow does not have, and an impossible name are told at once."""
    with pytest.raises(ConfigurationError, match="did you mean 'folder'"):
        Deployment.build(flow=daily_sweep, name="x", parameters={"foldr": "."})
    with pytest.raises(ConfigurationError, match="decorate the function with @flow"):
        Deployment.build(flow=daily_sweep.fn, name="x")
    with pytest.raises(ConfigurationError, match="must not be empty"):
        Deployment.build(flow=daily_sweep, name="a/b")


async def test_no_address_and_no_server_are_one_clear_error() -> None:
    """Without an address it says what to set; with a dead one it names it, without its credentials."""
    deployment = Deployment.build(flow=daily_sweep, name="x")
    with pytest.raises(EngineUnavailableError, match="no server's address is set; set PREFECT_API_URL"):
        await deployment.apply()
    with pytest.raises(EngineUnavailableError, match=r"http://127\.0\.0\.1:9/api does not answer") as failure:
        await deployment.apply(api_url="http://user:secret@127.0.0.1:9/api")
    assert "secret" not in str(failure.value)


async def test_a_silent_server_costs_no_more_than_the_time_given() -> None:
    """A server that takes connections and says nothing is given up on in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="no answer within 1 s"):
            await Deployment.build(flow=daily_sweep, name="x").apply(api_url=url, timeout=timedelta(seconds=1))
        assert time.monotonic() - began < 5
