"""Workers that are killed, stopped, frozen and replaced, as real processes on real files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.history.sqlite import SqliteHistory
from mahavishnu.model.ids import new_id
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import Events
from mahavishnu.queues.envelope import Envelope
from mahavishnu.queues.providers.sqlite import SqliteQueueProvider
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.worker.supervisor import Supervisor
from mahavishnu.workflows.encoding import encode_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PROGRAM = str(Path(__file__).parent / "worker_process.py")
LIMIT_SECONDS = 30.0


class Place:
    """A folder with a queue, a ledger and a journal, and the workers started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        provider = SqliteQueueProvider(folder / "queue.db", clock=SYSTEM_CLOCK)
        self.queue = Queue(provider, clock=SYSTEM_CLOCK, events=Events())
        self.history = SqliteHistory(folder / "ledger.db", clock=SYSTEM_CLOCK)
        self.workers: list[asyncio.subprocess.Process] = []

    def argv(self, **options: Any) -> list[str]:
        """Return the command of a worker."""
        return [sys.executable, PROGRAM, str(self.folder), json.dumps(options)]

    async def start(self, **options: Any) -> asyncio.subprocess.Process:
        """Start a worker and wait until it runs."""
        worker = await asyncio.create_subprocess_exec(*self.argv(**options), stdout=asyncio.subprocess.PIPE)
        self.workers.append(worker)
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
        return worker

    async def enqueue(self, workflow: str, count: int = 1, **context: Any) -> list[str]:
        """Store jobs; returns their ids."""
        ids = [new_id(SYSTEM_CLOCK.now_ms()) for _ in range(count)]
        data = encode_context(workflow, context)
        jobs = [PreparedJob(envelope=Envelope(id=job_id, workflow=workflow, context=data)) for job_id in ids]
        await self.queue.enqueue(jobs)
        return ids

    def journal(self, event: str) -> Counter[str]:
        """Return how often each job started or ended."""
        path = self.folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(event))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something another process does."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not holds():  # noqa: ASYNC110  # another process raises no event here
                await asyncio.sleep(0.01)

    async def until_empty(self) -> None:
        """Wait until no job is waiting or held."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while await self.is_busy():  # noqa: ASYNC110  # another process raises no event here
                await asyncio.sleep(0.02)

    async def is_busy(self) -> bool:
        """Return whether any job is waiting or held."""
        return any(stats.ready + stats.delayed + stats.in_flight for stats in await self.queue.stats())

    async def until_runs(self, job_id: str, holds: Callable[[list[Run]], bool]) -> list[Run]:
        """Wait until a job's runs in the ledger are as wanted; returns them, oldest first."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                runs = await self.history.list_runs(RunFilter(job_id=job_id))
                if holds(runs):
                    return sorted(runs, key=lambda run: (run.attempt, run.delivery))
                await asyncio.sleep(0.02)

    async def outcomes(self) -> list[Run]:
        """Return every run in the ledger."""
        return await self.history.list_runs(RunFilter(limit=100_000))


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """An empty place; whatever was started there is gone afterwards."""
    place = Place(tmp_path)
    await place.queue.open()
    await place.history.open()
    yield place
    for worker in place.workers:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    await place.queue.close()
    await place.history.close()


async def test_no_job_is_lost_when_workers_are_killed(place: Place) -> None:
    """Three workers die one after another in the middle of 2,000 jobs: every job ends, each run has one outcome."""
    ids = set(await place.enqueue("brief", 2_000))
    for number in range(3):
        worker = await place.start(lease=1, concurrency=20)
        await place.until(lambda n=number: len(place.journal("end")) >= (n + 1) * 200)
        worker.kill()
        await worker.wait()
    last = await place.start(lease=1, concurrency=100)
    await place.until_empty()
    last.terminate()
    assert await last.wait() == 0

    ended = place.journal("end")
    assert set(ended) == ids, f"lost {len(ids - set(ended))}"
    assert sum(ended.values()) - len(ids) <= 3 * 20 + 600  # repeated: what had ended but was not acknowledged
    runs = await place.outcomes()
    assert all(run.is_final for run in runs)
    assert len({run.id for run in runs}) == len(runs)
    succeeded = Counter(run.job_id for run in runs if run.state is RunState.SUCCEEDED)
    assert succeeded == Counter(dict.fromkeys(ids, 1))
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.LOST}


async def test_a_job_that_outlives_the_grace_is_handed_back(place: Place) -> None:
    """SIGTERM: it is interrupted, which is no attempt, and runs again elsewhere at once, not after its lease."""
    (job_id,) = await place.enqueue("long", seconds=60)
    worker = await place.start(lease=60, grace=0.2)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    worker.terminate()
    assert await worker.wait() == 0
    (run,) = await place.until_runs(job_id, lambda runs: len(runs) == 1)
    assert (run.state, run.attempt) == (RunState.INTERRUPTED, 1)

    await place.start(lease=60)
    await place.until(lambda: place.journal("start")[job_id] == 2)
    runs = await place.until_runs(job_id, lambda runs: len(runs) == 2)
    assert [(run.attempt, run.delivery, run.state) for run in runs] == [
        (1, 1, RunState.INTERRUPTED),
        (1, 2, RunState.RUNNING),
    ]


async def test_jobs_finish_within_the_grace(place: Place) -> None:
    """SIGTERM lets a running job end, and hands the others back unrun."""
    first, second = await place.enqueue("long", 2, seconds=0.5)
    worker = await place.start(concurrency=1)
    await place.until(lambda: bool(place.journal("start")))
    worker.terminate()
    assert await worker.wait() == 0
    assert place.journal("end") == Counter({first: 1})
    (stats,) = await place.queue.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)
    assert place.journal("start")[second] == 0


async def test_a_second_signal_does_not_wait(place: Place) -> None:
    """The job is handed back at once although its grace is a minute."""
    (job_id,) = await place.enqueue("long", seconds=60)
    worker = await place.start(grace=60)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    worker.terminate()
    await asyncio.sleep(0.1)
    worker.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):
        assert await worker.wait() == 0
    (stats,) = await place.queue.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)


async def test_a_frozen_worker_cannot_overwrite_its_successor(place: Place) -> None:
    """Stopped past its lease and continued, it finds the job lost; the successor's outcome is the one that stands."""
    (job_id,) = await place.enqueue("long", seconds=2)
    frozen = await place.start(lease=1)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    frozen.send_signal(signal.SIGSTOP)
    await place.start(lease=1)
    await place.until(lambda: place.journal("start")[job_id] == 2)
    frozen.send_signal(signal.SIGCONT)
    runs = await place.until_runs(job_id, lambda runs: len(runs) == 2 and all(run.is_final for run in runs))
    assert [(run.id, run.state) for run in runs] == [
        (f"{job_id}.1", RunState.LOST),
        (f"{job_id}.1.2", RunState.SUCCEEDED),
    ]
    await place.until_empty()
    assert place.journal("end")[job_id] == 1


async def test_a_job_that_blocks_the_loop_keeps_its_lease(place: Place) -> None:
    """It sleeps for three leases without awaiting; another worker stands by and does not get it."""
    (job_id,) = await place.enqueue("blocking", seconds=3)
    await place.start(lease=1)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    await place.start(lease=1)
    await place.until_empty()
    assert place.journal("start")[job_id] == 1
    assert place.journal("end")[job_id] == 1


async def test_a_job_that_kills_its_process_is_parked(place: Place) -> None:
    """After the third death it is a dead letter, and every delivery is in the ledger with one outcome."""
    (job_id,) = await place.enqueue("poison")
    for _ in range(3):
        worker = await place.start(lease=0.3, max_deliveries=3)
        assert await worker.wait() == 9
    await place.start(lease=0.3, max_deliveries=3)
    runs = await place.until_runs(job_id, lambda runs: len(runs) == 4)
    assert [run.state for run in runs] == [RunState.LOST] * 3 + [RunState.DEAD]
    await place.until_empty()
    (dead,) = await place.queue.dead_letters()
    assert (dead.letter.reason, dead.letter.id) == ("crash-loop", job_id)
    assert [note.state for note in dead.letter.attempts] == [RunState.LOST] * 3 + [RunState.DEAD]


async def test_the_innocent_are_not_parked_with_the_culprit(place: Place) -> None:
    """Jobs that were in the hands of the workers that a poison job killed all succeed; only that one is parked."""
    (poison,) = await place.enqueue("poison")
    innocent = await place.enqueue("brief", 30)
    deaths = 0
    while await place.is_busy():
        worker = await place.start(lease=0.3, max_deliveries=3, concurrency=50)
        done = asyncio.create_task(place.until_empty())
        died = asyncio.create_task(worker.wait())
        await asyncio.wait({done, died}, return_when=asyncio.FIRST_COMPLETED)
        deaths += died.done()
        for waiter in (done, died):
            waiter.cancel()
    assert deaths == 3
    assert [(one.letter.id, one.letter.reason) for one in await place.queue.dead_letters()] == [(poison, "crash-loop")]
    assert set(place.journal("end")) == set(innocent)


async def test_a_worker_with_a_stuck_thread_makes_way(place: Place) -> None:
    """A timed-out job that sits in C: its run ends as timed out, other jobs drain, and the process exits by itself."""
    (job_id,) = await place.enqueue("stuck", seconds=60)
    worker = await place.start(kill_grace=0.3, grace=5, queues=["default"])
    await place.until(lambda: place.journal("start")[job_id] == 1)
    ids = [new_id(SYSTEM_CLOCK.now_ms())]
    jobs = [
        PreparedJob(
            envelope=Envelope(
                id=ids[0], workflow="stuck", context=encode_context("stuck", {"seconds": 60}), timeout_ms=200
            )
        )
    ]
    await place.queue.enqueue(jobs)
    runs = await place.until_runs(ids[0], lambda runs: any(run.is_final for run in runs))
    assert runs[0].state is RunState.TIMED_OUT
    async with asyncio.timeout(15):
        assert await worker.wait() == 0


async def test_a_job_that_ignores_everything_does_not_hold_its_worker(place: Place) -> None:
    """SIGTERM: it is handed back although it swallows every cancellation, and the process ends."""
    (job_id,) = await place.enqueue("immortal")
    worker = await place.start(grace=0.1, kill_grace=0.2)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    worker.terminate()
    async with asyncio.timeout(10):
        assert await worker.wait() == 0
    (run,) = await place.until_runs(job_id, lambda runs: len(runs) == 1)
    assert run.state is RunState.INTERRUPTED
    (stats,) = await place.queue.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)


async def test_a_sync_job_that_outlives_the_grace_is_interrupted(place: Place) -> None:
    """Its thread is made to stop, and the job is handed back."""
    (job_id,) = await place.enqueue("sync", seconds=60)
    worker = await place.start(grace=0.1)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    worker.terminate()
    async with asyncio.timeout(10):
        assert await worker.wait() == 0
    (run,) = await place.until_runs(job_id, lambda runs: len(runs) == 1)
    assert run.state is RunState.INTERRUPTED


async def test_a_supervisor_replaces_a_killed_child(place: Place) -> None:
    """Two children, one is killed: its job ends on another, and a stop leaves nothing running."""
    supervisor = Supervisor(place.argv(lease=1, parent=True), processes=2, grace=timedelta(seconds=5))
    run = asyncio.create_task(supervisor.run())
    ids = await place.enqueue("brief", 1_000)
    await place.until(lambda: len(place.journal("end")) >= 100)
    victim, other = supervisor.pids
    os.kill(victim, signal.SIGKILL)
    await place.until(lambda: len(supervisor.pids) == 2 and victim not in supervisor.pids)
    assert other in supervisor.pids
    await place.until_empty()
    assert set(place.journal("end")) == set(ids)
    pids = supervisor.pids
    supervisor.stop()
    assert await run == 0
    assert not any(is_alive(pid) for pid in pids)


async def test_children_die_with_a_killed_supervisor(place: Place) -> None:
    """Kill -9 of the parent: its children stop by themselves and hand back what they run."""
    (job_id,) = await place.enqueue("long", seconds=60)
    code = (
        "import asyncio, sys; from datetime import timedelta; from mahavishnu.worker.supervisor import Supervisor;"
        "asyncio.run(Supervisor(sys.argv[1:], processes=1, grace=timedelta(seconds=1)).run())"
    )
    argv = place.argv(lease=60, grace=0.1, parent=True)
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *argv, stdout=asyncio.subprocess.DEVNULL)
    place.workers.append(parent)
    await place.until(lambda: place.journal("start")[job_id] == 1)
    child = int((place.folder / "journal").read_text().split()[2])
    parent.kill()
    await parent.wait()
    await place.until(lambda: not is_alive(child))
    (stats,) = await place.queue.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)


async def test_wrong_use_is_not_tried_again(place: Place) -> None:
    """A child that exits with 2 would do so for ever: the supervisor stops, with the same code."""
    supervisor = Supervisor([sys.executable, "-c", "raise SystemExit(2)"], processes=2)
    async with asyncio.timeout(10):
        assert await supervisor.run() == 2


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
