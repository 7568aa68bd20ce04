"""Wake-ups between processes: here between two doorbells of one process, which know nothing of each other."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from pathlib import Path

import pytest

from mahavishnu.queues.doorbell import Doorbell, _folder_of


class Listener:
    """Notes what a doorbell hears."""

    def __init__(self):
        self.heard = []
        self.something = asyncio.Event()

    def __call__(self, queue, due_ms):
        """Note it."""
        self.heard.append((queue, due_ms))
        self.something.set()


@pytest.fixture(autouse=True)
def short_temporary_folder(tmp_path, monkeypatch):
    """A folder for sockets that is ours alone and goes with the test; pytest's own must exist before."""
    with tempfile.TemporaryDirectory(prefix="mv", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
async def pair(tmp_path):
    """Two open doorbells of one file, and what the first one hears."""
    heard = Listener()
    bells = [Doorbell(tmp_path / "queue.db", heard), Doorbell(tmp_path / "queue.db", lambda *_: None)]
    for bell in bells:
        bell.open()
    yield *bells, heard
    for bell in bells:
        bell.close()


async def test_a_ring_is_heard(pair):
    """Who listens hears the queue's name and when its news falls due, once per queue."""
    listening, ringing, heard = pair
    listening.listen()
    listening.listen()
    assert listening.listens
    ringing.ring("großer Eimer", 500)
    ringing.ring("großer Eimer", 300)
    await asyncio.wait_for(heard.something.wait(), 5)
    assert heard.heard == [("großer Eimer", 300)]


async def test_nobody_rings_for_itself(pair):
    """A doorbell does not hear its own ring."""
    listening, ringing, heard = pair
    listening.listen()
    listening.ring("own")
    ringing.ring("other")
    await asyncio.wait_for(heard.something.wait(), 5)
    assert heard.heard == [("other", 0)]


async def test_ringing_where_nobody_listens(pair):
    """Without listeners a ring does nothing, also before opening and after closing."""
    _, ringing, heard = pair
    ringing.ring("q")
    ringing.close()
    ringing.ring("q")
    ringing.close()
    assert heard.heard == []


async def test_the_socket_goes_with_its_process(pair, short_temporary_folder):
    """Closing removes the socket and the last one the folder; the next ring removes that of a killed process."""
    listening, ringing, heard = pair
    listening.listen()
    (folder,) = short_temporary_folder.iterdir()
    left_behind = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left_behind.bind(str(folder / "dead-beef"))
    left_behind.close()
    ringing.ring("q")
    await asyncio.wait_for(heard.something.wait(), 5)
    assert len(list(folder.iterdir())) == 1
    ringing.listen()
    listening.close()
    assert len(list(folder.iterdir())) == 1
    ringing.close()
    assert not folder.exists()


async def test_strange_datagrams_do_no_harm(pair, short_temporary_folder):
    """Whatever arrives, the doorbell goes on; what cannot be read means now."""
    listening, ringing, heard = pair
    listening.listen()
    (address,) = next(short_temporary_folder.iterdir()).iterdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for datagram in (b"", b"\xff\xfe", b"soon q", b"\xc2\xb2 q"):
            stranger.sendto(datagram, str(address))
    ringing.ring("q", 7)
    await asyncio.wait_for(heard.something.wait(), 5)
    assert ("q", 0) in heard.heard


async def test_a_folder_of_somebody_else_is_not_used(pair, short_temporary_folder):
    """Sockets are neither made in nor sent to a folder that others can write to."""
    listening, ringing, heard = pair
    listening.listen()
    (folder,) = short_temporary_folder.iterdir()
    folder.chmod(0o777)
    ringing.ring("q")
    ringing.listen()
    assert not ringing.listens
    folder.chmod(0o700)
    await asyncio.sleep(0)
    assert heard.heard == []


def test_addresses_fit(monkeypatch, tmp_path):
    """Whatever the temporary folder, a socket's address is short enough for every system, or there is none."""
    assert _folder_of(tmp_path / "a") != _folder_of(tmp_path / "b")
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "long" * 30)
    folder = _folder_of(tmp_path / ("deep" * 60))
    assert str(folder).startswith(f"/tmp/mv-{os.getuid()}-")
    assert len(str(folder / "ffffffff-ffffff")) <= 100
