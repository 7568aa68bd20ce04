"""Where one project's Prefect is: a server given in the settings or a managed one, and a worker beside it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from mahavishnu.engines.prefect.api import API_TIMEOUT, connect
from mahavishnu.engines.prefect.reaping import unfinished_of
from mahavishnu.engines.prefect.server import ManagedServer, find_server
from mahavishnu.engines.prefect.worker import ManagedWorker
from mahavishnu.errors import EngineUnavailableError, MahavishnuError
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from prefect.client.orchestration import PrefectClient

    from mahavishnu.clock import Clock
    from mahavishnu.settings import Settings

__all__ = ["Site"]

# Each run is a process that imports Prefect and the app. Runs beyond these wait in Prefect.
_MOST_RUNS = 16
_MARGIN = timedelta(seconds=5)
_DRAIN_POLL_SECONDS = 0.25

_log = get_logger(__name__)


class Site:
    """The server and the worker of one project; run by this process where no other one does.

    Args:
        settings: The project's settings.
        clock: Source of time.
    """

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._prefect = settings.prefect
        self._clock = clock
        self._server: ManagedServer | None = None
        self._worker: ManagedWorker | None = None

    @property
    def is_managed(self) -> bool:
        """Whether the server is ours to start."""
        return not self._prefect.api_url

    @property
    def runs_worker(self) -> bool:
        """Whether this process runs the project's worker."""
        return self._worker is not None

    @property
    def api_url(self) -> str:
        """The server's address, ending in `/api`.

        Raises:
            EngineUnavailableError: It is managed, and no process runs it now.
        """
        if not self.is_managed:
            return self._prefect.api_url.reveal()
        if self._server is not None:
            return self._server.api_url
        found = find_server(self._settings.state_dir)
        if found is None:
            raise EngineUnavailableError(
                "prefect",
                f"no Prefect server is running for {self._settings.state_dir}",
                "start it with `mahavishnu up`, or set api_url under [prefect]",
            )
        return found

    def connect(self, timeout: timedelta = API_TIMEOUT) -> AbstractAsyncContextManager[PrefectClient]:
        """Open a client for the duration of a block; see `api.connect`.

        Raises:
            EngineUnavailableError: There is no server, or it does not answer.
        """
        return connect(self.api_url, api_key=self._prefect.api_key, timeout=timeout)

    async def start(self) -> None:
        """Have a server that answers and a worker that polls. Idempotent.

        Raises:
            EngineUnavailableError: There is none to be had; nothing is left running.
        """
        try:
            await self._start_server()
            await self.start_worker()
        except BaseException:
            await self.stop()
            raise

    async def _start_server(self) -> None:
        if self.is_managed:
            if self._server is None:
                self._server = ManagedServer(
                    self._settings.state_dir, self._prefect.port or None, start_timeout=self._prefect.start_timeout
                )
            await self._server.start()
            return
        async with self.connect() as client:
            await client.api_version()

    async def start_worker(self) -> None:
        """Have a worker on the project's pool, unless a process of this machine runs one. Idempotent."""
        if self._worker is not None:
            return
        worker = ManagedWorker(
            self._settings.state_dir,
            self.api_url,
            work_pool=self._prefect.work_pool,
            limit=_MOST_RUNS,
            api_key=self._prefect.api_key or None,
            clock=self._clock,
        )
        if not worker.is_taken:
            await self._release_pool()
            await worker.start()
            self._worker = worker

    async def mend(self) -> None:
        """Run a managed server again whose process has ended, whoever ran it. Never raises our own errors."""
        server = self._server
        if server is None or find_server(self._settings.state_dir) is not None:
            return  # not ours, or it lives and will answer again: what was busy is not made quicker by a restart
        try:
            await server.stop()
            await server.start()
        except MahavishnuError as exc:
            _log.warning("prefect_not_mended", error=str(exc))

    async def drain(self, grace: timedelta) -> None:
        """Let the runs of this process's worker end for at most `grace`; a managed pool starts no further ones."""
        worker = self._worker
        if worker is None:
            return
        with contextlib.suppress(MahavishnuError, TimeoutError):
            async with asyncio.timeout(grace.total_seconds()), self.connect(grace + _MARGIN) as client:
                if self.is_managed:
                    await self._set_pool_paused(client, True)
                left = partial(unfinished_of, client, work_pool=worker.work_pool, worker=worker.name)
                while await left():  # noqa: ASYNC110 - Prefect tells nobody when a run ends
                    await asyncio.sleep(_DRAIN_POLL_SECONDS)

    async def _release_pool(self) -> None:
        """Take back the pause of an earlier `drain`, but not one by a person."""
        if self._pause_mark.exists():
            async with self.connect() as client:
                await self._set_pool_paused(client, False)

    async def _set_pool_paused(self, client: PrefectClient, paused: bool) -> None:
        if paused:
            if (await client.read_work_pool(self._prefect.work_pool)).is_paused:
                return
            self._pause_mark.touch()
        with contextlib.suppress(ObjectNotFound):
            await client.update_work_pool(self._prefect.work_pool, WorkPoolUpdate(is_paused=paused))
        if not paused:
            self._pause_mark.unlink(missing_ok=True)

    @property
    def _pause_mark(self) -> Path:
        return self._settings.state_dir / "prefect" / "pool-paused"

    async def stop_worker(self) -> None:
        """Stop the worker and its runs, if this process runs it. Idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()

    async def stop(self) -> None:
        """Stop what this process runs, the worker first. Idempotent."""
        try:
            await self.stop_worker()
        finally:
            server, self._server = self._server, None
            if server is not None:
                await server.stop()
