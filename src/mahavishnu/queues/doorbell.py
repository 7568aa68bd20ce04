"""Telling other processes on this machine that a queue file has something new.

Each process with a receiver listens on a unix datagram socket in a folder of this user that belongs to the
file; whoever stores something sends a datagram to every socket there. It is best effort by design: a datagram
that is lost, or a folder that cannot be made, costs a receiver at most its slow look at the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Doorbell"]

LONGEST_ADDRESS = 100
"""A unix socket's address may have 104 bytes on macOS, 108 on Linux."""
LONGEST_DATAGRAM = 1024
BIND_ATTEMPTS = 3


class Doorbell:
    """The sockets of the processes that share one file.

    Args:
        path: The file; it need not exist yet.
        heard: Called in the event loop with a queue's name and when something in it falls due (0: now).
    """

    def __init__(self, path: Path, heard: Callable[[str, int], None]) -> None:
        self._path = path
        self._heard = heard
        self._folder: Path | None = None
        self._sender: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._address: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def listens(self) -> bool:
        """Whether this process has its socket."""
        return self._listener is not None

    def open(self) -> None:
        """Be able to ring. Idempotent."""
        if self._sender is None:
            self._folder = _folder_of(self._path.resolve())
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)

    def close(self) -> None:
        """Let go of the sockets. Idempotent."""
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        if self._address is not None:
            with suppress(OSError):
                self._address.unlink(missing_ok=True)
                self._address.parent.rmdir()  # fails while others listen
        if self._sender is not None:
            self._sender.close()
        self._sender = self._listener = self._address = self._loop = None

    def listen(self) -> None:
        """Be rung from now on, where the system allows it. Idempotent."""
        if self._listener is not None or self._folder is None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        try:
            self._address = _bind(listener, self._folder)
        except OSError:  # no wake-ups then, only slow looks
            listener.close()
            self._folder = None
            return
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._hear)

    def ring(self, queue: str, due_ms: int = 0) -> None:
        """Tell every other process. Never blocks, never fails."""
        if self._sender is None or self._folder is None:
            return
        try:
            names = os.listdir(self._folder)
        except OSError:  # nobody has ever listened
            return
        if names and _is_private(self._folder):
            datagram = f"{due_ms} {queue}".encode()
            for name in names:
                self._send(self._sender, self._folder / name, datagram)

    def _send(self, sender: socket.socket, address: Path, datagram: bytes) -> None:
        if address == self._address:
            return
        try:
            sender.sendto(datagram, str(address))
        except ConnectionRefusedError:  # its process is gone
            with suppress(OSError):
                address.unlink()
        except OSError:  # its buffer is full, so it is awake; or the message is too long
            return

    def _hear(self) -> None:
        heard: dict[str, int] = {}
        with suppress(BlockingIOError):
            while self._listener is not None:
                due, _, queue = self._listener.recv(LONGEST_DATAGRAM).decode(errors="replace").partition(" ")
                due_ms = int(due) if due.isdecimal() else 0
                heard[queue] = min(due_ms, heard.get(queue, due_ms))
        for queue, due_ms in heard.items():
            self._heard(queue, due_ms)


def _bind(listener: socket.socket, folder: Path) -> Path:
    """Give the socket an address in the folder, making that anew if its last user removes it meanwhile."""
    address = folder / f"{os.getpid():x}-{os.urandom(3).hex()}"
    for attempts_left in reversed(range(BIND_ATTEMPTS)):
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            if not _is_private(folder):
                raise PermissionError(f"{folder} is open to others")
            listener.bind(str(address))
            break
        except (FileNotFoundError, PermissionError):
            if not attempts_left:
                raise
    return address


def _folder_of(path: Path) -> Path | None:
    """Return the folder that belongs to a file, the same in every process of this user; `None`: no room for it."""
    name = f"mv-{os.getuid()}-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # the folder in it is checked to be ours alone
        folder = Path(base) / name
        if len(os.fsencode(folder)) + len("/ffffffff-ffffff") <= LONGEST_ADDRESS:
            return folder
    return None


def _is_private(folder: Path) -> bool:
    try:
        facts = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and facts.st_mode & 0o077 == 0
