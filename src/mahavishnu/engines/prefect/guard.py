"""Runs one command and takes it down when whoever asked for it is gone.

Started as a script of its own: `python -I guard.py GRACE_SECONDS COMMAND...`. Standard input is the lifeline: it
is a pipe whose other end only the parent holds, so the kernel closes it however the parent ends, `kill -9`
included. At its end, or at SIGTERM, the command gets SIGTERM, then `GRACE_SECONDS` to finish, then SIGKILL for
it and everything it started. Standard output carries two JSON lines: `{"pid": 1}` at the start and `{"exit": 0}`
at the end (negative: killed by that signal). The command writes to the guard's standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36  # from <linux/prctl.h>
_FINAL_WAIT_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the lifeline does, and return the exit code to leave with."""
    grace_seconds, command = float(arguments[0]), arguments[1:]
    wake = _listen_for_signals()
    _adopt_orphans()
    # Its own session: a Ctrl-C on the terminal reaches the parent only, which then stops things in order.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    _report(pid=child.pid)
    _wait(child, wake, lifeline=sys.stdin.fileno())
    if child.poll() is None:
        _stop(child, wake, grace_seconds)
    _kill_all(descendants(os.getpid()))
    _report(exit=child.returncode)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _listen_for_signals() -> int:
    """Return a descriptor that becomes readable when a child ends or SIGTERM comes."""
    # A shell's background job has SIGINT ignored, and Prefect's worker stops by sending itself SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _wake_only)
    signal.signal(signal.SIGTERM, _cut_lifeline)
    return readable


def _wake_only(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a signal with a handler wakes the descriptor, an ignored one does not."""


def _cut_lifeline(_number: int, _frame: FrameType | None) -> None:
    """Make the lifeline read as ended, so that SIGTERM and a dead parent are one case."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)


def _adopt_orphans() -> None:
    """Become the parent of processes the command leaves behind, where the kernel can do that (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait(child: subprocess.Popen[bytes], wake: int, *, lifeline: int | None, seconds: float | None = None) -> None:
    """Return when the child ended, the lifeline did, or the time is up."""
    deadline = None if seconds is None else time.monotonic() + seconds
    watched = [wake] if lifeline is None else [wake, lifeline]
    while child.poll() is None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        ready, _, _ = select.select(watched, [], [], left)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        if lifeline in ready and not os.read(lifeline, 4096):
            return


def _stop(child: subprocess.Popen[bytes], wake: int, grace_seconds: float) -> None:
    """End the command: politely, then by force, with everything it started."""
    family = descendants(child.pid)
    child.terminate()
    _wait(child, wake, lifeline=None, seconds=grace_seconds)
    if child.poll() is None:
        family |= descendants(child.pid)
        child.kill()
        child.wait(_FINAL_WAIT_SECONDS)
    if sys.platform != "linux":  # there, what is left has become ours and `main` ends it
        _kill_all(family)


def _kill_all(pids: set[int]) -> None:
    """Kill these processes; one that has just ended is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> set[int]:
    """Return the ids of every process below `pid`, itself excluded."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    pending = [pid]
    while pending:
        fresh = [child for child in children.get(pending.pop(), ()) if child not in found]
        found.update(fresh)
        pending.extend(fresh)
    return found


def _parents() -> list[tuple[int, int]]:
    """Return (process, parent) for every process of the machine."""
    if Path("/proc/self/stat").exists():
        stats = [_stat(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pair for pair in stats if pair is not None]
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
    rows = [line.split() for line in listing.stdout.splitlines()]
    return [(int(pid), int(parent)) for pid, parent in rows]


def _stat(pid: str) -> tuple[int, int] | None:
    """Return (process, parent) from /proc, or nothing when the process has just ended or is a zombie."""
    try:
        # The name stands in parentheses and may hold anything; state and parent follow the last one.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else (int(pid), int(parent))


def _report(**message: int) -> None:
    """Tell the parent, if it is still there."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
