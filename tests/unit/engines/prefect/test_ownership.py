"""Only one holder at a time, and none after its death."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from mahavishnu.engines.prefect.ownership import Ownership

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import pathlib, sys, time
from mahavishnu.engines.prefect.ownership import Ownership
print(Ownership(pathlib.Path(sys.argv[1])).acquire(), flush=True)
time.sleep(600)
"""


def test_one_holder_until_release(tmp_path: Path) -> None:
    """A second holder is refused without waiting, and takes over after a release."""
    first, second = Ownership(tmp_path / "lock"), Ownership(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert (first.is_held, second.is_held) == (True, False)
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    """The kernel releases what a killed process held."""
    lock = Ownership(tmp_path / "lock")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"True\n"
    assert not lock.acquire()
    holder.kill()
    holder.wait()
    assert lock.acquire()
    lock.release()
