"""What goes wrong around the worker: bad bytes, lost deliveries, failing stores, stops, jobs that misbehave."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from mahavishnu.errors import StorageError
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.states import RunState
from mahavishnu.queues.base import Message
from mahavishnu.queues.envelope import ENVELOPE_VERSION, Envelope, encode_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.worker.conftest import Place


async def test_a_redriven_job_has_runs_of_its_own(place: Place) -> None:
    """Its first attempt anew does not disappear behind the old first attempt's final state."""
    fails = [True]

    async def flaky() -> None:
        if fails[0]:
            raise ValueError("no")

    place.workflow(flaky, max_attempts=2)
    job_id = await place.enqueue("flaky")
    await place.start()
    await place.until_ended(job_id)
    fails[0] = False
    assert await place.queue.redrive() == [job_id]
    runs = await place.until_runs(job_id, 3)
    assert sorted((run.attempt, run.state) for run in runs) == [
        (1, RunState.FAILED),
        (1, RunState.SUCCEEDED),
        (2, RunState.FAILED),
    ]


async def test_an_async_job_that_never_stops_loses_its_slot_only(place: Place) -> None:
    """With one slot: the immortal job is settled as timed out, and the next job runs."""
    release = asyncio.Event()

    async def immortal() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def brief() -> None:
        return None

    place.workflow(immortal, max_attempts=1, timeout=timedelta(seconds=0.05))
    place.workflow(brief)
    bad, good = await place.enqueue("immortal"), await place.enqueue("brief")
    await place.start(concurrency=1, kill_grace=timedelta(seconds=0.1))
    (run,) = await place.until_ended(bad)
    assert "abandoned" in (run.error or "")
    await place.until_ended(good)
    release.set()


async def test_an_unknown_workflow_is_parked(place: Place) -> None:
    """Never dropped, never looped: a dead letter and a run that say why."""
    job_id = await place.enqueue("nope")
    await place.start()
    (run,) = await place.until_ended(job_id)
    (letter,) = await place.queue.dead_letters()
    assert (run.state, run.reason, letter.letter.reason) == (RunState.DEAD, "unknown-workflow", "unknown-workflow")
    assert "'nope'" in letter.letter.error


async def test_a_context_that_does_not_fit_is_parked(place: Place) -> None:
    """The message names the argument and has no values in it."""

    async def take(number: int) -> None:
        raise AssertionError("must not run")

    place.workflow(take)
    job_id = await place.enqueue("take", context={"number": "s3cret"})
    await place.start()
    (run,) = await place.until_ended(job_id)
    assert run.reason == "bad-context"
    assert "s3cret" not in f"{run.error}{run.traceback}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xc1 no msgpack", "unreadable"),
        (msgspec.msgpack.encode({"v": ENVELOPE_VERSION + 1, "other": 1}), "newer-version"),
    ],
)
async def test_bytes_that_are_no_job_are_parked_as_they_are(place: Place, body: bytes, reason: str) -> None:
    """A person can look at them; they are in the ledger too."""
    await place.provider.enqueue("default", [Message(id="m", body=body)])
    await place.start()
    (run,) = await place.until_ended("m")
    (letter,) = await place.queue.dead_letters()
    assert (run.state, run.reason) == (RunState.DEAD, reason)
    assert (letter.letter.reason, letter.letter.body) == (reason, body)


async def test_a_lost_delivery_has_an_outcome_of_its_own(place: Place) -> None:
    """A job that somebody leased and never settled: the first delivery is lost, the second succeeds."""

    async def brief() -> None:
        return None

    place.workflow(brief)
    job_id = await place.enqueue("brief")
    assert await place.queue.receive("default", limit=1, lease_ms=50, wait_ms=0)
    await place.start()
    runs = await place.until_ended(job_id)
    assert [(run.id, run.state) for run in runs] == [
        (run_id(job_id, 1), RunState.LOST),
        (run_id(job_id, 1, 2), RunState.SUCCEEDED),
    ]


async def test_a_recorded_success_is_not_repeated(place: Place) -> None:
    """A worker died between recording and acknowledging: the redelivery is acknowledged, not run."""
    ran: list[bool] = []

    async def brief() -> None:
        ran.append(True)

    place.workflow(brief)
    job_id = await place.enqueue("brief")
    await place.start()
    (run,) = await place.until_ended(job_id)
    await place.stop()
    again = Envelope(id=f"{job_id}x", workflow="brief")
    await place.history.record_runs([msgspec.structs.replace(run, id=run_id(again.id, 1), job_id=again.id)])
    await place.provider.enqueue("default", [Message(id=again.id, body=encode_envelope(again))])
    assert await place.queue.receive("default", limit=1, lease_ms=20, wait_ms=0)
    await asyncio.sleep(0.03)
    await place.start()

    async def is_gone() -> bool:
        return not await place.queue.find([again.id])

    await place.until(is_gone)
    assert ran == [True]


async def test_outcomes_survive_a_ledger_that_fails_for_a_while(place: Place) -> None:
    """Recording is tried again until it works; nothing is acknowledged before; the job runs once."""
    failures = [3]
    ran: list[bool] = []

    async def brief() -> None:
        ran.append(True)

    original = place.history.record_runs

    async def record(runs: Sequence[Run]) -> None:
        if failures[0]:
            failures[0] -= 1
            raise StorageError("ledger", "the disk is full", "free some space", retryable=True)
        await original(runs)

    place.history.record_runs = record  # type: ignore[method-assign]
    place.workflow(brief)
    job_id = await place.enqueue("brief")
    await place.start(lease=timedelta(seconds=0.3))
    (run,) = await place.until_ended(job_id)
    assert run.state is RunState.SUCCEEDED
    assert ran == [True]
    assert failures == [0]


async def test_a_job_that_blocks_the_loop_does_not_stop_the_others_for_good(place: Place) -> None:
    """After it, everything else is run."""

    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251  # the point

    async def brief() -> None:
        return None

    place.workflow(block)
    place.workflow(brief)
    ids = [await place.enqueue("block"), *[await place.enqueue("brief") for _ in range(50)]]
    await place.start(lease=timedelta(seconds=0.2))
    for job_id in ids:
        runs = await place.until_ended(job_id)
        assert runs[-1].state is RunState.SUCCEEDED


async def test_a_job_that_cancels_its_own_task_fails_alone(place: Place) -> None:
    """The jobs after it, which may use the same lane, are not touched."""

    async def suicide() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def brief() -> None:
        await asyncio.sleep(0.001)

    place.workflow(suicide, max_attempts=1)
    place.workflow(brief, max_attempts=1)
    ids: list[str] = []
    for _ in range(5):
        await place.enqueue("suicide")
        ids.append(await place.enqueue("brief"))
    await place.start(concurrency=1)
    for job_id in ids:
        (run,) = await place.until_ended(job_id)
        assert run.state is RunState.SUCCEEDED


async def test_a_stop_hands_back_what_has_not_begun(place: Place) -> None:
    """Jobs waiting in the worker are ready again at once, and none of it is an attempt."""
    started = asyncio.Event()

    async def slow() -> None:
        started.set()
        await asyncio.sleep(60)

    place.workflow(slow)
    ids = [await place.enqueue("slow") for _ in range(5)]
    await place.start(concurrency=2, grace=timedelta(seconds=0.05))
    await started.wait()
    await place.stop()
    (stats,) = await place.queue.stats()
    assert (stats.ready, stats.in_flight) == (5, 0)
    states = [run.state for job_id in ids for run in await place.runs(job_id)]
    assert set(states) == {RunState.INTERRUPTED}
    assert len(states) == 2
