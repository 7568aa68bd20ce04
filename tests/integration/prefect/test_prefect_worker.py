"""A managed worker with real runs in processes of their own, and what becomes of them when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mahavishnu.engines.prefect.api import connect
from mahavishnu.engines.prefect.flow import APP_VARIABLE, workflow_job_variables
from mahavishnu.engines.prefect.process import process_identity
from mahavishnu.engines.prefect.worker import ManagedWorker
from mahavishnu.errors import EngineUnavailableError
from mahavishnu.prefect import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType
    from uuid import UUID

    from prefect.client.schemas.objects import State

    from mahavishnu.engines.prefect.server import ManagedServer

POOL = "worker-tests"
FLOWS = """
import asyncio, os
from pathlib import Path
from prefect import flow

@flow
async def note(target: str) -> None:
    Path(target).write_text(f"{os.environ['MAHAVISHNU_APP']} {os.getcwd()}")

@flow
async def hang(target: str) -> None:
    Path(target + ".new").write_text(str(os.getpid()))
    Path(target + ".new").replace(target)
    await asyncio.sleep(600)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worker(server: ManagedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ManagedWorker]:
    """The worker that the tests of this file share, for each takes seconds to start."""
    worker = ManagedWorker(tmp_path_factory.mktemp("worker"), server.api_url, work_pool=POOL, poll_seconds=0.5)
    await worker.start()
    yield worker
    await worker.stop()


async def test_a_deployed_flow_runs_in_a_process_of_its_own(
    server: ManagedServer, worker: ManagedWorker, tmp_path: Path, import_file: Callable[[str, str], ModuleType]
) -> None:
    """Deployed, triggered, run by the worker in the project's folder with the app's name, and read back."""
    target = tmp_path / "noted"
    run_id = await _trigger(server, import_file("worker_flows", FLOWS).note, target, tmp_path)
    state = await _wait_for_end(server, run_id)
    assert state.is_completed(), f"{state}\n{worker.log_path.read_text()}"
    assert target.read_text() == f"project.main:app {tmp_path}"


async def test_a_name_belongs_to_one_worker_at_a_time(server: ManagedServer, worker: ManagedWorker) -> None:
    """A second worker of the folder would reap the runs of the first, and is refused."""
    with pytest.raises(EngineUnavailableError, match=f"worker named '{worker.name}' runs already"):
        await ManagedWorker(worker.home.parent, server.api_url, work_pool=POOL).start()


async def test_a_killed_worker_is_replaced_and_every_run_gets_its_end(
    server: ManagedServer, worker: ManagedWorker, tmp_path: Path, import_file: Callable[[str, str], ModuleType]
) -> None:
    """After `kill -9` of the worker, and after a stop, the run's process is gone and the run Crashed."""
    flows = import_file("worker_flows", FLOWS)
    first_pid = worker.pid
    assert first_pid is not None
    for end_worker in (lambda: os.kill(first_pid, signal.SIGKILL), worker.stop):
        target = tmp_path / f"hanging-{worker.pid}"
        run_id = await _trigger(server, flows.hang, target, tmp_path)
        await _wait_for_file(target)
        ending = end_worker()
        if ending is not None:
            await ending
        assert (await _wait_for_end(server, run_id)).is_crashed()
        assert process_identity(int(target.read_text())) is None
    await worker.stop()
    assert worker.pid is None


async def test_a_worker_without_a_server_is_one_clear_error(tmp_path: Path) -> None:
    """The address tried is named, nothing is left running, and the name is free again."""
    worker = ManagedWorker(tmp_path, "http://127.0.0.1:9/api")
    for _ in range(2):
        with pytest.raises(EngineUnavailableError, match=r"http://127\.0\.0\.1:9/api does not answer"):
            await worker.start()
    assert worker.pid is None
    await worker.stop()


async def _trigger(server: ManagedServer, flow: Any, target: Path, project: Path) -> UUID:
    variables = workflow_job_variables("project.main:app", project)
    deployment = Deployment.build(flow=flow, name="tested", work_pool_name=POOL, job_variables=variables)
    deployment_id = await deployment.apply(api_url=server.api_url)
    async with connect(server.api_url) as client:
        run = await client.create_flow_run_from_deployment(deployment_id, parameters={"target": str(target)})
    return run.id


async def _wait_for_end(server: ManagedServer, run_id: UUID) -> State[Any]:
    async with asyncio.timeout(40), connect(server.api_url) as client:
        while True:
            run = await client.read_flow_run(run_id)
            if run.state is not None and run.state.is_final():
                return run.state
            await asyncio.sleep(0.1)


async def _wait_for_file(path: Path) -> None:
    async with asyncio.timeout(40):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process writes it
            await asyncio.sleep(0.1)


def test_job_variables_name_the_app_and_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's name wins over a variable given beside it, and the project's path is absolute."""
    monkeypatch.chdir(tmp_path)
    variables = workflow_job_variables("a:b", Path(), {"LEVEL": "1", APP_VARIABLE: "other"})
    assert variables == {"env": {"LEVEL": "1", APP_VARIABLE: "a:b"}, "working_dir": str(tmp_path)}
