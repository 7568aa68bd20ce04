"""A local Prefect server, managed: started, watched, stopped, its state in the project's state folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mahavishnu.engines.prefect.environment import prefect_command, server_environment
from mahavishnu.engines.prefect.ownership import Ownership
from mahavishnu.engines.prefect.process import GuardedProcess, process_identity, read_tail, stop_process
from mahavishnu.errors import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ManagedServer", "find_server"]

_HOST = "127.0.0.1"
# A new database takes 10 to 15 s on a slow machine, an existing one 4 to 5.
_START_TIMEOUT = timedelta(seconds=90)
_STOP_GRACE = timedelta(seconds=15)
_POLL_SECONDS = 0.1
_REQUEST_SECONDS = 2.0
_RECORD = "server.json"


class ManagedServer:
    """A Prefect server for one state folder, on the loopback interface only.

    Several processes may ask for it: the first one to start runs it, the others use it and leave it running.
    It ends with the process that runs it, however that one ends.

    Args:
        state_dir: The project's state folder; the server lives in its `prefect` subfolder.
        port: Where to listen; by default a free port, chosen once and remembered in the folder.
        environment: Further variables for the server, such as `PREFECT_SERVER_DATABASE_CONNECTION_URL`.
        start_timeout: How long it may take to answer; 90 s by default.
    """

    def __init__(
        self,
        state_dir: Path,
        port: int | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        start_timeout: timedelta = _START_TIMEOUT,
    ) -> None:
        self.home: Path = state_dir.absolute() / "prefect"
        self.log_path: Path = self.home / "server.log"
        self._wanted_port = port
        self._port: int | None = None
        self._environment = dict(environment or {})
        self._start_timeout = start_timeout
        self._ownership = Ownership(self.home / "server.lock")
        self._process: GuardedProcess | None = None

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            EngineUnavailableError: It was not started.
        """
        if self._port is None:
            raise _unavailable("the managed Prefect server is not started", "start it, with `mahavishnu up`")
        return self._port

    @property
    def api_url(self) -> str:
        """Where clients call it, ending in `/api`."""
        return f"http://{_HOST}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """Where people look at it."""
        return f"http://{_HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id; `None` while it does not run or another process runs it."""
        return self._process.pid if self._process is not None else None

    @property
    def is_owner(self) -> bool:
        """Whether this object runs the server, rather than using one that another process runs."""
        return self._ownership.is_held

    async def start(self) -> None:
        """Have a server that answers. Idempotent.

        Raises:
            EngineUnavailableError: It ended, or does not answer in time; its last output is in the message.
        """
        if self._port is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.timeout(self._start_timeout.total_seconds()):
                await self._start_or_share()
        except TimeoutError:
            await self.stop()
            raise self._not_ready(f"does not answer after {self._start_timeout.total_seconds():.0f} s") from None
        except BaseException:
            await self.stop()
            raise

    async def _start_or_share(self) -> None:
        while not self._ownership.acquire():
            port = _recorded(self.home).get("port")
            if port is not None and await _is_healthy(port):
                self._port = port
                return
            # Another process is starting it, or has just ended: neither can tell us.
            await asyncio.sleep(_POLL_SECONDS)
        await self._stop_leftover()
        self._port = self._choose_port()
        await self._run(self._port)

    async def _stop_leftover(self) -> None:
        """End the server of an earlier run whose process and guard were both killed."""
        record = _recorded(self.home)
        if "pid" in record:
            await stop_process(record["pid"], record["identity"], _STOP_GRACE)

    def _choose_port(self) -> int:
        if self._wanted_port is not None:
            if not _is_free(self._wanted_port):
                raise _unavailable(
                    f"port {self._wanted_port} of {_HOST} is taken by another program",
                    "choose another for the managed Prefect server, or none to have a free one chosen",
                )
            return self._wanted_port
        remembered = _recorded(self.home).get("port")
        return remembered if remembered is not None and _is_free(remembered) else _free_port()

    async def _run(self, port: int) -> None:
        self._process = GuardedProcess(
            prefect_command("server", "start", "--host", _HOST, "--port", str(port)),
            environment=server_environment(self.home, port, self._environment),
            directory=self.home,  # not the project: Prefect reads prefect.toml and .env where it stands
            log_path=self.log_path,
            grace=_STOP_GRACE,
        )
        await self._process.start()
        self._remember(port, self._process.pid)
        ended = asyncio.create_task(self._process.wait(), name="prefect-server-ended")
        healthy = asyncio.create_task(_until_healthy(port), name="prefect-server-health")
        try:
            await asyncio.wait({ended, healthy}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, healthy):
                task.cancel()
        if not self._process.is_running:
            raise self._not_ready(f"ended while starting, with code {self._process.exit_code}")

    def _remember(self, port: int, pid: int | None) -> None:
        record: dict[str, Any] = {"port": port}
        if pid is not None and (identity := process_identity(pid)) is not None:
            record |= {"pid": pid, "identity": identity}
        fresh = self.home / f"{_RECORD}.new"
        fresh.write_text(json.dumps(record))
        fresh.replace(self.home / _RECORD)

    def _not_ready(self, problem: str) -> EngineUnavailableError:
        tail = read_tail(self.log_path)
        return _unavailable(
            f"the managed Prefect server {problem}",
            f"see {self.log_path}" + (f", which ends:\n{tail}" if tail else ""),
        )

    async def wait(self) -> int | None:
        """Return its exit code once the server that this object runs has ended; at once if it runs none."""
        return await self._process.wait() if self._process is not None else None

    async def stop(self) -> None:
        """Stop the server, within 15 s and then by force, if this object runs it. Idempotent."""
        process, self._process = self._process, None
        port, self._port = self._port, None
        if process is not None:
            await process.stop()
            if port is not None:
                self._remember(port, None)
        self._ownership.release()


def find_server(state_dir: Path) -> str | None:
    """Return the API URL of the server that some process runs for this state folder; `None` if none is recorded.

    It may be starting still, or have just ended.
    """
    record = _recorded(state_dir.absolute() / "prefect")
    if "pid" not in record or process_identity(record["pid"]) != record["identity"]:
        return None
    return f"http://{_HOST}:{record['port']}/api"


def _unavailable(problem: str, remedy: str) -> EngineUnavailableError:
    return EngineUnavailableError("prefect", problem, remedy)


def _recorded(home: Path) -> dict[str, Any]:
    """Return what the last server of this folder left: `port`, and while it runs `pid` and `identity`."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((home / _RECORD).read_text())
        if isinstance(record, dict) and isinstance(record.get("port"), int):  # pyright: ignore[reportUnknownMemberType]
            return record  # pyright: ignore[reportUnknownVariableType]  # JSON objects have string keys
    return {}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]


async def _until_healthy(port: int) -> None:
    while not await _is_healthy(port):  # noqa: ASYNC110 - a server of another process raises no event here
        await asyncio.sleep(_POLL_SECONDS)


async def _is_healthy(port: int) -> bool:
    """Whether a Prefect server answers there, as seen by one request that may take two seconds."""
    return await asyncio.to_thread(_answers, f"http://{_HOST}:{port}/api/health")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    try:
        with opener.open(url, timeout=_REQUEST_SECONDS) as response:
            return response.status == 200 and response.read(16).strip() == b"true"
    except (OSError, ValueError):
        return False
