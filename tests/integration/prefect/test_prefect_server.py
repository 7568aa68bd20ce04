"""The managed server: start, share, stop, and what becomes of it when its owner is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.engines.prefect.process import process_identity
from mahavishnu.engines.prefect.server import ManagedServer, find_server
from mahavishnu.errors import EngineUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

OWNER = """
import asyncio, os, pathlib, sys
from mahavishnu.engines.prefect.server import ManagedServer

async def main():
    server = ManagedServer(pathlib.Path(sys.argv[1]))
    await server.start()
    print(os.getpid(), server._process._guard.pid, server.pid, server.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_it_answers_on_loopback_only_and_is_shared(server: ManagedServer) -> None:
    """A second user of the folder shares the server, does not stop it, and the page calls the right port."""
    guest = ManagedServer(server.home.parent)
    await guest.start()
    assert (server.is_owner, guest.is_owner) == (True, False)
    assert guest.api_url == server.api_url == find_server(server.home.parent)
    assert json.loads(_get(f"{server.ui_url}/ui-settings"))["api_url"] == server.api_url
    assert not _answers_on_other_addresses(server.port)
    await guest.stop()
    assert _get(f"{server.api_url}/health") == "true"


async def test_kill_9_of_the_owner_takes_the_server_down(state_dir: Path) -> None:
    """The server of an owner that was killed ends by itself, within seconds."""
    owner, _, pid, _ = _start_owner(state_dir)
    identity = process_identity(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert identity is not None
    _wait_until_gone(pid, seconds=20)


async def test_a_leftover_is_replaced_on_its_port_and_stop_leaves_nothing(state_dir: Path) -> None:
    """A server whose owner and guard were killed gives way to the next start; stopped, it frees the port."""
    owner, guard_pid, pid, port = _start_owner(state_dir)
    os.kill(guard_pid, signal.SIGKILL)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert process_identity(pid) is not None
    server = ManagedServer(state_dir)
    await server.start()
    try:
        assert process_identity(pid) is None
        assert server.port == port
        assert server.pid is not None
        pid = server.pid
    finally:
        await server.stop()
        await server.stop()
    assert process_identity(pid) is None
    assert find_server(state_dir) is None
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))


async def test_a_server_that_ends_while_starting_fails_fast_with_its_last_words(tmp_path: Path) -> None:
    """A wrong database is one clear error with the end of the log, and nothing is left behind."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        home = tmp_path / "prefect"
        home.mkdir()
        (home / "server.json").write_text(json.dumps({"port": taken}))
        broken = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "oracle://nowhere"}
        server = ManagedServer(tmp_path, environment=broken, start_timeout=timedelta(seconds=50))
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="ended while starting") as failure:
            await server.start()
    assert time.monotonic() - began < 40
    assert str(server.log_path) in str(failure.value)
    assert "oracle" in str(failure.value)
    assert json.loads((home / "server.json").read_text())["port"] != taken
    assert find_server(tmp_path) is None
    assert server.pid is None


async def test_a_port_asked_for_and_taken_is_refused(tmp_path: Path) -> None:
    """An explicit port held by a stranger is an error that names it, before anything is started."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        with pytest.raises(EngineUnavailableError, match=f"port {taken} of 127.0.0.1 is taken"):
            await ManagedServer(tmp_path, taken).start()


def _start_owner(state_dir: Path) -> tuple[subprocess.Popen[str], int, int, int]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(state_dir)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        _, guard_pid, pid, port = map(int, owner.stdout.readline().split())
    return owner, guard_pid, pid, port


def _wait_until_gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process_identity(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read().decode()


def _answers_on_other_addresses(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.2", port)) == 0
