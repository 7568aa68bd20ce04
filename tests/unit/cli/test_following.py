"""Tests of following the ledger."""

from __future__ import annotations

import msgspec
import pytest

from mahavishnu.cli.following import Tail, run_line
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.memory import MemoryHistory
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState


def _run(job_id, state=RunState.SUCCEEDED, **fields):
    now_ms = SYSTEM_CLOCK.now_ms()
    times = {"started_at_ms": now_ms - 12, "finished_at_ms": None if state is RunState.RUNNING else now_ms}
    return Run(id=f"{job_id}.1", job_id=job_id, task="t", engine=EngineName.ONEIRIC, state=state, **(times | fields))


@pytest.fixture
async def history():
    """An open ledger in memory."""
    store = MemoryHistory(clock=SYSTEM_CLOCK)
    await store.open()
    yield store
    await store.close()


async def test_only_what_ends_after_the_beginning_is_told_and_once(history):
    """Old runs are left to the listing, and no run is printed twice."""
    await history.record_runs([_run("old")])
    tail = Tail(history)
    await tail.begin()
    assert await tail.next() == []
    await history.record_runs([_run("one"), _run("two")])
    assert {run.job_id for run in await tail.next()} == {"one", "two"}
    await history.record_runs([_run("three")])
    assert [run.job_id for run in await tail.next()] == ["three"]


async def test_running_is_not_told_until_it_ends(history):
    """A long run shows up when it has ended, however many runs began after it."""
    tail = Tail(history)
    await history.record_runs([_run("long", RunState.RUNNING, started_at_ms=1)])
    await tail.begin()
    await history.record_runs([_run(f"short{number}") for number in range(600)])
    assert "long" not in {run.job_id for run in await tail.next()}
    await history.record_runs([_run("long", started_at_ms=1)])
    assert [run.job_id for run in await tail.next()] == ["long"]


async def test_filter_applies(history):
    """Following one task tells of no other."""
    tail = Tail(history, RunFilter(task="wanted"))
    await tail.begin()
    await history.record_runs([msgspec.structs.replace(_run("a"), task="other")])
    await history.record_runs([msgspec.structs.replace(_run("b"), task="wanted")])
    assert [run.job_id for run in await tail.next()] == ["b"]


def test_line_names_what_where_and_how_it_ended():
    """One line has the time, the state, the engine, the schedule, the repository, the duration and the error."""
    run = _run("a", RunState.FAILED, schedule_id="nightly", repo="alpha", error="ValueError: no", attempt=2)
    words = " ".join(cell if isinstance(cell, str) else cell[0] for cell in run_line(run))
    for expected in ("failed", "oneiric", "nightly [alpha]", "12 ms", "attempt 2", "ValueError: no"):
        assert expected in words


def test_long_results_are_cut():
    """A large result does not fill the screen."""
    detail = run_line(_run("a", result='"' + "x" * 500 + '"'))[-1][0]
    assert len(detail) == 100
    assert detail.endswith("…")
