"""One `up` per state folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from mahavishnu.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["only_one"]

LOCK_FILE = "up.lock"


@contextlib.contextmanager
def only_one(state_dir: Path) -> Generator[None]:
    """Hold the state folder's lock inside the block.

    The kernel lets go of it however this process ends, so a lock is never left behind; the process id in the file
    is for people.

    Args:
        state_dir: Created where it is missing.

    Raises:
        StorageError: Another process holds it, or the folder cannot be written.
    """
    path = state_dir / LOCK_FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        problem = f"cannot be written ({exc.strerror})"
        raise StorageError(str(path), problem, "change its owner, or give another folder with --state-dir") from exc
    try:
        _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        raise StorageError(
            str(path),
            f"another `mahavishnu up` runs on this state folder (process {holder})",
            "stop that one, or give another folder with --state-dir",
        ) from None
