"""Jobs through the worker, on the memory and the SQLite provider."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.store import Request, RequestKind
from mahavishnu.model.ids import new_id
from mahavishnu.model.outcome import Cancel, Retry, Snooze
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import DeadLettered, RunFinished
from mahavishnu.queues.envelope import Envelope
from mahavishnu.queues.queue import PreparedJob

if TYPE_CHECKING:
    from tests.unit.worker.conftest import Place

    from mahavishnu.model.run import Run


async def test_a_job_runs_and_is_recorded(place: Place) -> None:
    """With its arguments, result, times, queue, provider and worker."""

    async def add(a: int, b: int) -> int:
        return a + b

    place.workflow(add)
    job_id = await place.enqueue("add", context={"a": 1, "b": 2}, labels={"team": "x"}, schedule_id="s", fire_ms=7)
    worker = await place.start()
    (run,) = await place.until_ended(job_id)
    assert (run.state, run.result, run.task, run.worker) == (RunState.SUCCEEDED, "3", "add", worker.name)
    assert (run.queue, run.provider, run.labels) == ("default", place.queue.provider_name, {"team": "x"})
    assert (run.schedule_id, run.scheduled_for_ms) == ("s", 7)


async def test_a_failing_job_is_tried_again_and_parked(place: Place) -> None:
    """One run per attempt, each with its outcome; the dead letter remembers them all."""

    def fail() -> None:
        raise ValueError("no")

    dead: list[DeadLettered] = []
    place.events.listen(DeadLettered, dead.append)
    place.workflow(fail, max_attempts=3)
    job_id = await place.enqueue("fail")
    await place.start()
    runs = await place.until_ended(job_id)
    assert [(run.attempt, run.state, run.error) for run in runs] == [
        (n, RunState.FAILED, "ValueError: no") for n in (1, 2, 3)
    ]
    assert [run.next_attempt_at_ms is None for run in runs] == [False, False, True]
    (letter,) = await place.queue.dead_letters()
    assert (letter.letter.reason, letter.letter.error) == ("attempts-exhausted", "ValueError: no")
    assert [note.attempt for note in letter.letter.attempts] == [1, 2, 3]
    assert "raise ValueError" in letter.letter.traceback
    assert [event.job_id for event in dead] == [job_id]


async def test_retry_snooze_and_cancel(place: Place) -> None:
    """A retry is an attempt, a snooze is none, a cancel is the end; each run has its own row."""
    answers: list[object] = [
        Retry(after=timedelta(milliseconds=1), reason="busy"),
        Snooze(until=datetime(2000, 1, 1, tzinfo=UTC)),
        Snooze(until=datetime.now(UTC) + timedelta(milliseconds=20)),
        Cancel("enough"),
    ]

    async def answer() -> object:
        return answers.pop(0)

    place.workflow(answer, max_attempts=2)
    job_id = await place.enqueue("answer")
    await place.start()
    runs = await place.until_ended(job_id)
    assert [(run.attempt, run.state, run.reason) for run in runs] == [
        (1, RunState.RETRYING, "busy"),
        (2, RunState.SNOOZED, None),
        (2, RunState.SNOOZED, None),
        (2, RunState.CANCELLED, "enough"),
    ]


async def test_a_snooze_is_not_early(place: Place) -> None:
    """The next run begins at the time asked for or after it."""
    until = datetime.now(UTC) + timedelta(milliseconds=150)

    async def nap() -> object:
        return None if datetime.now(UTC) >= until else Snooze(until=until)

    place.workflow(nap)
    job_id = await place.enqueue("nap")
    await place.start()
    runs = await place.until_ended(job_id)
    assert [run.state for run in runs] == [RunState.SNOOZED, RunState.SUCCEEDED]


async def test_timeouts_of_async_and_sync_jobs(place: Place) -> None:
    """Both are stopped and recorded as timed out, every attempt of them."""

    async def slow() -> None:
        await asyncio.sleep(60)

    def slow_sync() -> None:
        for _ in range(6_000):
            time.sleep(0.01)

    place.workflow(slow, max_attempts=2, timeout=timedelta(seconds=0.05))
    place.workflow(slow_sync, max_attempts=2, timeout=timedelta(seconds=0.05))
    ids = [await place.enqueue("slow"), await place.enqueue("slow_sync")]
    worker = await place.start()
    for job_id in ids:
        runs = await place.until_ended(job_id)
        assert [run.state for run in runs] == [RunState.TIMED_OUT, RunState.TIMED_OUT]
    assert not worker.is_stuck


async def test_a_running_job_can_be_cancelled_from_outside(place: Place) -> None:
    """A request left in the ledger stops it; it is shown as running meanwhile."""

    async def slow() -> None:
        await asyncio.sleep(60)

    place.workflow(slow)
    job_id = await place.enqueue("slow")
    await place.start()
    (run,) = await place.until_runs(job_id, 1)
    assert run.state is RunState.RUNNING
    await place.history.ask(Request(id="r", kind=RequestKind.CANCEL_RUN, target=job_id, asked_ms=SYSTEM_CLOCK.now_ms()))
    (run,) = await place.until_ended(job_id)
    assert run.state is RunState.CANCELLED


async def test_a_running_job_can_be_cancelled_here(place: Place) -> None:
    """Whoever holds the worker need not go through the ledger; unknown jobs are told apart."""
    started = asyncio.Event()

    async def slow() -> None:
        started.set()
        await asyncio.sleep(60)

    place.workflow(slow)
    job_id = await place.enqueue("slow")
    worker = await place.start()
    await started.wait()
    assert not worker.cancel("other")
    assert worker.cancel(job_id)
    (run,) = await place.until_ended(job_id)
    assert run.state is RunState.CANCELLED


async def test_short_jobs_cost_one_row(place: Place) -> None:
    """Nothing is noted as running."""
    noted: list[Run] = []

    async def brief() -> None:
        await asyncio.sleep(0.01)

    place.workflow(brief)
    original = place.history.note_runs
    place.history.note_runs = lambda runs: (noted.extend(runs), original(runs))[1]  # type: ignore[method-assign]
    ids = [await place.enqueue("brief") for _ in range(20)]
    await place.start()
    for job_id in ids:
        await place.until_ended(job_id)
    assert [run for run in noted if not run.is_final] == []


async def test_urgent_jobs_go_first(place: Place) -> None:
    """With one slot, jobs begin by priority, then in the order they came."""
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0)

    place.workflow(note)
    last = ""
    for name, priority in (("b1", 5), ("a1", 9), ("c1", 0), ("b2", 5), ("a2", 9)):
        job_id = await place.enqueue("note", context={"name": name}, priority=priority)
        last = job_id if name == "c1" else last
    await place.start(concurrency=1)
    await place.until_ended(last)
    assert order == ["a1", "a2", "b1", "b2", "c1"]


async def test_no_more_jobs_run_at_once_than_allowed(place: Place) -> None:
    """And no more of them are leased, while they are slow."""
    running, most = [0], [0]
    leased: list[int] = []

    async def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.05)
        (stats,) = await place.queue.stats()
        leased.append(stats.in_flight)
        running[0] -= 1

    place.workflow(slow)
    ids = [await place.enqueue("slow") for _ in range(12)]
    await place.start(concurrency=3)
    for job_id in ids:
        await place.until_ended(job_id)
    assert most[0] == 3
    assert max(leased) <= 6  # three running, and at most three ended whose outcome is being written


async def test_stop_is_idempotent_and_a_worker_reports_itself(place: Place) -> None:
    """It is listed while it runs, and no longer afterwards."""
    worker = await place.start(queues=("default", "mail"))

    async def is_listed() -> bool:
        return bool(await place.history.list_processes(seen_since_ms=0))

    await place.until(is_listed)
    processes = await place.history.list_processes(seen_since_ms=0)
    assert [(one.id, one.kind, one.details["queues"]) for one in processes] == [(worker.name, "worker", "default,mail")]
    worker.stop()
    worker.stop()
    await place.stop()
    assert await place.history.list_processes(seen_since_ms=0) == []


async def test_several_queues_are_served(place: Place) -> None:
    """Jobs of each named queue run."""

    async def brief() -> None:
        return None

    place.workflow(brief)
    ids: list[str] = []
    for queue in ("one", "two"):
        envelope = Envelope(id=new_id(SYSTEM_CLOCK.now_ms()), workflow="brief")
        await place.queue.enqueue([PreparedJob(envelope=envelope, queue=queue)])
        ids.append(envelope.id)
    await place.start(queues=("one", "two"))
    assert [(await place.until_ended(job_id))[0].queue for job_id in ids] == ["one", "two"]


async def test_every_run_is_announced_once(place: Place) -> None:
    """However many jobs there are, of whatever outcome."""
    finished: list[RunFinished] = []
    place.events.listen(RunFinished, finished.append)

    async def odd(n: int) -> None:
        if n % 2:
            raise ValueError("odd")

    place.workflow(odd, max_attempts=2)
    ids = [await place.enqueue("odd", context={"n": n}) for n in range(40)]
    await place.start()
    runs = [run for job_id in ids for run in await place.until_ended(job_id)]
    assert sorted(event.run.id for event in finished) == sorted(run.id for run in runs)
    assert len(runs) == 60


async def test_sync_jobs_run_side_by_side_up_to_the_threads(place: Place) -> None:
    """Four threads: four at once, not five."""
    lock, running, most = threading.Lock(), [0], [0]

    def slow() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1

    place.workflow(slow)
    ids = [await place.enqueue("slow") for _ in range(12)]
    await place.start(threads=4)
    for job_id in ids:
        await place.until_ended(job_id)
    assert most[0] == 4
