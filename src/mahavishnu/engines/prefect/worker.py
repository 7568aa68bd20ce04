"""A process-pool worker of Prefect, managed: each flow run in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from mahavishnu.clock import SYSTEM_CLOCK, Clock
from mahavishnu.engines.prefect.api import connect
from mahavishnu.engines.prefect.environment import prefect_command, worker_environment
from mahavishnu.engines.prefect.ownership import Ownership
from mahavishnu.engines.prefect.process import GuardedProcess, read_tail
from mahavishnu.engines.prefect.reaping import reap
from mahavishnu.errors import EngineUnavailableError, MahavishnuError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from prefect.client.orchestration import PrefectClient

    from mahavishnu.model.secret import Secret

__all__ = ["DEFAULT_WORK_POOL", "ManagedWorker", "ensure_work_pool"]

DEFAULT_WORK_POOL = "mahavishnu-pool"
"""The pool of deployments that name none."""

_log = logging.getLogger(__name__)
_START_TIMEOUT = timedelta(seconds=60)
_STOP_GRACE = timedelta(seconds=15)
_READY_POLL_SECONDS = 0.25
_FIRST_RESTART_SECONDS = 1.0
_LONGEST_RESTART_SECONDS = 60.0
# A worker that lasted this long was well: the next failure starts the waiting times anew.
_WELL_AFTER_SECONDS = 120.0


class ManagedWorker:
    """One worker process for one pool, restarted when it dies, its unfinished runs given an end.

    Args:
        state_dir: The project's state folder; log and lock live in its `prefect` subfolder.
        api_url: The server's address, ending in `/api`.
        work_pool: The pool to poll; created as a `process` pool when missing.
        name: How the worker is called; by default made of the host and the state folder, so that a worker knows
            the runs its predecessor left. Only one process at a time may use a name.
        poll_seconds: How often it asks for runs, 0.5 to 2; 1 by default.
        limit: Most flow runs at once; unlimited by default.
        environment: Further variables for the worker and its flow runs.
        api_key: The key that goes with the address.
        clock: Where the time comes from.
    """

    def __init__(
        self,
        state_dir: Path,
        api_url: str,
        *,
        work_pool: str = DEFAULT_WORK_POOL,
        name: str | None = None,
        poll_seconds: float = 1.0,
        limit: int | None = None,
        environment: Mapping[str, str] | None = None,
        api_key: Secret | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.home: Path = state_dir.absolute() / "prefect"
        self.name: str = name or _default_name(state_dir)
        self.work_pool = work_pool
        self.log_path: Path = self.home / f"{self.name}.log"
        self._api_url = api_url
        self._limit = limit
        self._api_key = api_key
        secrets = {"PREFECT_API_KEY": api_key.reveal()} if api_key else {}
        self._environment = worker_environment(self.home, api_url, poll_seconds, {**secrets, **(environment or {})})
        self._clock = clock
        self._ownership = Ownership(self.home / f"{self.name}.lock")
        self._process: GuardedProcess | None = None
        self._supervision: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def is_taken(self) -> bool:
        """Whether another process runs a worker of this name now."""
        if self._ownership.is_held or not self.home.exists():
            return False
        is_ours = self._ownership.acquire()
        if is_ours:
            self._ownership.release()
        return not is_ours

    async def start(self) -> None:
        """Have a worker that polls; first ends what an earlier one of this name left. Idempotent.

        Raises:
            EngineUnavailableError: The server does not answer, the name is taken, or the worker ended at once.
        """
        if self._supervision is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        if not self._ownership.acquire():
            raise EngineUnavailableError(
                "prefect", f"a worker named {self.name!r} runs already for {self.home.parent}", "give this one a name"
            )
        try:
            await self._prepare()
            await self._launch()
        except BaseException:
            await self._end_process()
            self._ownership.release()
            raise
        self._supervision = asyncio.create_task(self._supervise(), name="prefect-worker-supervision")

    async def _prepare(self) -> None:
        async with connect(self._api_url, api_key=self._api_key) as client:
            await ensure_work_pool(client, self.work_pool)
            await self._reap(client, self._clock.now())

    async def _launch(self) -> None:
        """Start the process and return once the server has heard from it."""
        began = self._clock.now()
        arguments = ["--pool", self.work_pool, "--type", "process", "--name", self.name, "--install-policy", "never"]
        if self._limit is not None:
            arguments += ["--limit", str(self._limit)]
        self._process = process = GuardedProcess(
            prefect_command("worker", "start", *arguments),
            environment=self._environment,
            directory=self.home,
            log_path=self.log_path,
            grace=_STOP_GRACE,
        )
        await process.start()
        ended = asyncio.create_task(process.wait(), name="prefect-worker-ended")
        seen = asyncio.create_task(self._until_seen(began), name="prefect-worker-seen")
        try:
            await asyncio.wait({ended, seen}, return_when=asyncio.FIRST_COMPLETED)
            if not process.is_running:
                raise self._failed(f"ended while starting, with code {process.exit_code}")
            await seen
        finally:
            for task in (ended, seen):
                task.cancel()

    async def _until_seen(self, since: datetime) -> None:
        online = WorkerFilter(status=WorkerFilterStatus(any_=[WorkerStatus.ONLINE]))
        async with connect(self._api_url, api_key=self._api_key, timeout=_START_TIMEOUT) as client:
            while True:
                workers = await client.read_workers_for_work_pool(self.work_pool, worker_filter=online)
                heartbeats = [worker.last_heartbeat_time for worker in workers if worker.name == self.name]
                if any(beat is not None and beat >= since for beat in heartbeats):
                    return
                await asyncio.sleep(_READY_POLL_SECONDS)

    def _failed(self, problem: str) -> EngineUnavailableError:
        tail = read_tail(self.log_path)
        return EngineUnavailableError(
            "prefect",
            f"the worker {self.name!r} of pool {self.work_pool!r} {problem}",
            f"see {self.log_path}" + (f", which ends:\n{tail}" if tail else ""),
        )

    async def _supervise(self) -> None:
        """Restart the worker whenever it ends by itself."""
        delay_seconds = _FIRST_RESTART_SECONDS
        while True:
            began = self._clock.monotonic()
            if self._process is not None:
                await self._process.wait()
                _log.warning("prefect worker %s ended with code %s", self.name, self._process.exit_code)
                await self._end_process()
            if self._clock.monotonic() - began > _WELL_AFTER_SECONDS:
                delay_seconds = _FIRST_RESTART_SECONDS
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(2 * delay_seconds, _LONGEST_RESTART_SECONDS)
            try:
                await self._prepare()
                await self._launch()
            except MahavishnuError as exc:
                _log.warning("prefect worker %s cannot start: %s", self.name, exc)
                await self._end_process()

    async def _reap(self, client: PrefectClient, before: datetime) -> None:
        for run_id in await reap(client, work_pool=self.work_pool, worker=self.name, before=before):
            _log.warning("flow run %s was left by a worker that ended; it is now Crashed", run_id)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def stop(self) -> None:
        """Stop the worker and its flow runs, within 15 s and then by force, and end those runs. Idempotent.

        With the server gone too, the next worker of this name ends them.
        """
        supervision, self._supervision = self._supervision, None
        if supervision is None:
            return
        supervision.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervision
        try:
            await self._end_process()
            with contextlib.suppress(MahavishnuError):
                async with connect(self._api_url, api_key=self._api_key, timeout=_STOP_GRACE) as client:
                    await self._reap(client, self._clock.now())
        finally:
            self._ownership.release()


async def ensure_work_pool(client: PrefectClient, name: str) -> None:
    """Create the process pool of this name unless a pool of the name exists, of whatever type."""
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        with contextlib.suppress(ObjectAlreadyExists):  # another process was faster
            await client.create_work_pool(pool)


def _default_name(state_dir: Path) -> str:
    folder = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:8]
    return f"mahavishnu-{socket.gethostname()}-{folder}"
