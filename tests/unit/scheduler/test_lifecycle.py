"""Services start together or not at all, and stop in reverse, each within its time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from mahavishnu.errors import EngineError, EngineUnavailableError
from mahavishnu.observability.events import EngineChanged, Events
from mahavishnu.scheduler.lifecycle import Services

GRACE = timedelta(milliseconds=50)


class Recorded:
    """A service that writes down what is done to it."""

    def __init__(self, name: str, log: list[str], *, fails: Exception | None = None, hangs: bool = False) -> None:
        self.name = name
        self._log = log
        self._fails = fails
        self._hangs = hangs

    async def start(self) -> None:
        """Start, or fail as told."""
        self._log.append(f"start {self.name}")
        if self._fails:
            raise self._fails

    async def stop(self, grace: timedelta) -> None:
        """Stop, or take for ever as told."""
        self._log.append(f"stop {self.name}")
        if self._hangs:
            await asyncio.Event().wait()


def services(*members: Recorded, events: Events | None = None, grace: timedelta = GRACE) -> Services:
    """Return services with a short grace."""
    return Services(lambda: members, events=events or Events(), grace=grace)


async def test_they_start_in_order_and_stop_in_reverse() -> None:
    """a, b, c start; c, b, a stop; both twice without harm."""
    log: list[str] = []
    both = services(*(Recorded(name, log) for name in "abc"))
    await both.stop()
    await both.start()
    await both.start()
    assert both.is_running
    await both.stop()
    await both.stop()
    assert log == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
    assert not both.is_running


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (EngineUnavailableError("x", "is away", "wait"), EngineUnavailableError),
        (OSError("no such device"), EngineError),
    ],
)
async def test_one_that_cannot_start_takes_the_others_down_again(failure: Exception, raised: type[Exception]) -> None:
    """A half start is rolled back, the failure is raised, and it says which service it was."""
    log: list[str] = []
    events = Events()
    seen: list[EngineChanged] = []
    events.listen(EngineChanged, seen.append)
    group = services(Recorded("a", log), Recorded("b", log, fails=failure), Recorded("c", log), events=events)
    with pytest.raises(raised):
        await group.start()
    assert log == ["start a", "start b", "stop b", "stop a"]
    assert not group.is_running
    assert [(e.engine, e.state) for e in seen] == [
        ("a", "started"), ("b", "failed"), ("b", "stopped"), ("a", "stopped"),
    ]  # fmt: skip


async def test_one_that_hangs_at_stop_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time runs out, the next one stops."""
    monkeypatch.setattr("mahavishnu.scheduler.lifecycle.STOP_MARGIN", timedelta(0))
    log: list[str] = []
    group = services(Recorded("a", log), Recorded("b", log, hangs=True))
    await group.start()
    async with asyncio.timeout(5):
        await group.stop()
    assert log[-2:] == ["stop b", "stop a"]


async def test_cancelling_the_stop_does_not_cut_it_short() -> None:
    """The caller's cancellation is raised only when everything has stopped."""
    log: list[str] = []
    gate = asyncio.Event()

    class Slow(Recorded):
        async def stop(self, grace: timedelta) -> None:
            await gate.wait()
            await super().stop(grace)

    group = services(Recorded("a", log), Slow("b", log), grace=timedelta(seconds=5))
    await group.start()
    stopping = asyncio.create_task(group.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert log[-2:] == ["stop b", "stop a"]


_PROGRAM = """
import asyncio, sys
from mahavishnu import MahavishnuApp
async def main():
    app = MahavishnuApp(state_dir=sys.argv[1])
    async with app.scheduler.lifecycle():
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("leaving", flush=True)
    print("never reached", flush=True)
asyncio.run(main())
"""


def test_sigterm_stops_the_engines_and_ends_the_process_with_143(tmp_path: object) -> None:
    """A program that knows nothing of signals is stopped cleanly by SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        said = child.stdout.read()
        assert child.wait(20) == 143
    assert said == "leaving\n"
