"""Tests of the lock that keeps a second `up` away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mahavishnu.cli.locking import only_one
from mahavishnu.errors import StorageError

HOLD = """
import sys
from pathlib import Path
from mahavishnu.cli.locking import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_holder_is_refused_by_name_of_the_first(tmp_path):
    """The message has the file, the process that holds it, and what to do."""
    with (
        only_one(tmp_path),
        pytest.raises(StorageError, match=rf"process {os.getpid()}.*--state-dir"),
        only_one(tmp_path),
    ):
        pass


def test_lock_is_free_again_afterwards(tmp_path):
    """Stopping and starting again needs no cleaning up."""
    for _ in range(2):
        with only_one(tmp_path / "state"):
            assert (tmp_path / "state" / "up.lock").read_text() == f"{os.getpid()}\n"


def test_kill_leaves_no_lock_behind(tmp_path):
    """The kernel lets go of the lock of a killed process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match=f"process {holder.pid}"), only_one(tmp_path):
            pass
        holder.kill()
    with only_one(tmp_path):
        pass


def test_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    """A file in the way is told with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"), only_one(tmp_path / "file" / "state"):
        pass
