"""The portable queue: what it does for every provider, and what it refuses on behalf of some."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from mahavishnu.errors import CapabilityError, ConfigurationError, ContextError
from mahavishnu.model.ids import new_id
from mahavishnu.model.instants import to_ms
from mahavishnu.model.job import EnqueuedJob
from mahavishnu.model.run import AttemptNote
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import DeadLettered, Events
from mahavishnu.queues.base import Burial, DeadLetter, DeadLetterFilter, Return
from mahavishnu.queues.envelope import Envelope, decode_envelope, encode_envelope
from mahavishnu.queues.queue import PreparedJob, Queue
from mahavishnu.queues.registry import create_provider
from mahavishnu.testing import FakeClock

DAY_MS = 86_400_000
EIGHT = ("name", "url", "capabilities", "open", "close", "enqueue", "receive", "ack", "nack", "extend", "stats")


class Lesser:
    """A provider with the eight methods only and fewer capabilities, over the one in memory."""

    def __init__(self, provider, **lacking):
        for name in EIGHT:
            setattr(self, name, getattr(provider, name))
        self.name = "lesser"
        self.capabilities = replace(provider.capabilities, **lacking)


@pytest.fixture
def clock():
    """A clock that is advanced."""
    return FakeClock()


@pytest.fixture
def provider(clock):
    """The provider in memory."""
    return create_provider("memory", state_dir=Path(), clock=clock)


@pytest.fixture
async def queue(provider, clock):
    """An open queue above it."""
    async with Queue(provider, clock=clock, events=Events()) as queue:
        yield queue


def a_job(clock, workflow="backup", context=b"\x80", **options):
    """Return a job ready to be enqueued."""
    job_id = new_id(clock.now_ms())
    return PreparedJob(envelope=Envelope(id=job_id, workflow=workflow, context=context), **options)


async def take(queue, limit=10, name="default"):
    """Receive what is there."""
    return await queue.receive(name, limit=limit, lease_ms=30_000, wait_ms=0)


async def test_enqueued_jobs_are_received(queue, clock):
    """A job comes out as it went in, and the caller learns its id, provider and queue."""
    job = a_job(clock)
    assert await queue.enqueue([job]) == [
        EnqueuedJob(job_id=job.envelope.id, workflow="backup", provider="memory", queue="default")
    ]
    (delivery,) = await take(queue)
    assert decode_envelope(delivery.body) == job.envelope


async def test_a_batch_may_be_for_several_queues(queue, clock):
    """Jobs go to their own queues; the answers keep the order of the call."""
    jobs = [a_job(clock, queue=name) for name in ("a", "b", "a")]
    enqueued = await queue.enqueue(jobs)
    assert [(job.job_id, job.queue) for job in enqueued] == [(job.envelope.id, job.queue) for job in jobs]
    assert [len(await take(queue, name=name)) for name in ("a", "b")] == [2, 1]
    assert await queue.enqueue([]) == []


async def test_equal_keys_of_one_workflow_make_one_job(queue, clock):
    """The scope of an idempotency key is its workflow, and its window ends."""
    first, second = (a_job(clock, idempotency_key="k") for _ in range(2))
    other = a_job(clock, "sweep", idempotency_key="k")
    results = [(await queue.enqueue([job]))[0] for job in (first, second, other)]
    assert [job.deduplicated for job in results] == [False, True, False]
    assert results[1].job_id == first.envelope.id
    clock.advance(timedelta(hours=24))
    (late,) = await queue.enqueue([a_job(clock, idempotency_key="k")])
    assert not late.deduplicated


async def test_keys_with_separators_stay_apart(queue, clock):
    """No choice of names makes two workflows share a key."""
    jobs = [
        a_job(clock, workflow, idempotency_key=key)
        for workflow, key in (("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("a", "%3Ab:c"))
    ]
    assert not any(job.deduplicated for job in await queue.enqueue(jobs))


async def test_concurrent_callers_share_a_round_trip(queue, provider, clock, monkeypatch):
    """Many single jobs at once cost few calls of the provider."""
    calls, enqueue = [], provider.enqueue

    async def counting(name, messages):
        calls.append(len(messages))
        return await enqueue(name, messages)

    monkeypatch.setattr(provider, "enqueue", counting)
    await asyncio.gather(*(queue.enqueue([a_job(clock)]) for _ in range(300)))
    assert calls == [200, 100]


async def test_closing_sends_what_was_handed_over(queue, provider, clock):
    """A job whose caller waits while the queue is closed is stored."""
    calls = [asyncio.create_task(queue.enqueue([a_job(clock)])) for _ in range(3)]
    await asyncio.sleep(0)
    await queue.close()
    await asyncio.gather(*calls)
    await provider.open()
    assert len(await provider.receive("default", limit=9, lease_ms=1, wait_ms=0)) == 3


# --- refusals ---


async def test_a_job_that_is_too_large(queue, clock):
    """A 2 MB job is refused naming its size, the limit and what to do; its neighbours are not stored either."""
    jobs = [a_job(clock), a_job(clock, context=bytes(2_000_000))]
    with pytest.raises(ContextError, match=r"'backup': the job is 2,000,\d+ bytes, .* is 1,048,576; keep the data in"):
        await queue.enqueue(jobs)
    assert await take(queue) == []


async def test_the_smaller_limit_holds(provider, clock):
    """A provider's own limit on bodies is named when it is the smaller one."""
    queue = Queue(Lesser(provider, max_body_bytes=1000), clock=clock, events=Events())
    with pytest.raises(ContextError, match=r"the limit on lesser is 1,000"):
        await queue.enqueue([a_job(clock, context=bytes(1001))])


@pytest.mark.parametrize("priority", [-1, 10])
async def test_a_priority_out_of_range(queue, clock, priority):
    """Priorities go from 0 to 9."""
    with pytest.raises(ConfigurationError, match=r"0 \(least urgent\) to 9"):
        await queue.enqueue([a_job(clock, priority=priority)])


async def test_what_a_provider_cannot_do_is_refused(provider, clock):
    """Nothing is accepted and ignored: each refusal names the option and who can."""
    lesser = Lesser(provider, delay=False, unique=False, lease_extension=False, dead_letters=False)
    async with Queue(lesser, clock=clock, events=Events()) as queue:
        later = clock.now_ms() + 1000
        letter = DeadLetter(id="1", queue="q", body=b"", reason="refused")
        calls = {
            "schedule_time": queue.enqueue([a_job(clock, due_ms=later)]),
            "idempotency_key": queue.enqueue([a_job(clock, idempotency_key="k")]),
            "a delayed return": queue.nack("q", [Return(receipt=1, due_ms=later)]),
            "lease extension": queue.extend("q", [1], lease_ms=1),
            "dead letters": queue.bury("q", [Burial(receipt=1, letter=letter)]),
            "cancelling queued jobs": queue.cancel(["1"]),
            "looking up jobs": queue.find(["1"]),
            "purging": queue.purge("q"),
        }
        for option, call in calls.items():
            with pytest.raises(CapabilityError, match=f"'lesser' cannot honour {option}.*on: sqlite, memory"):
                await call
        for call in (queue.dead_letters(), queue.redrive(), queue.discard()):
            with pytest.raises(CapabilityError, match="dead letters"):
                await call


async def test_a_due_time_that_has_passed_is_no_delay(provider, clock):
    """A provider without delays takes a job that is due already."""
    async with Queue(Lesser(provider, delay=False), clock=clock, events=Events()) as queue:
        await queue.enqueue([a_job(clock, due_ms=clock.now_ms() - 1)])
        assert len(await take(queue)) == 1


# --- delays ---


async def test_a_delay_is_kept(queue, clock):
    """A job is received when it is due; the caller learns when that is."""
    due = datetime(2026, 1, 2, tzinfo=UTC)
    (job,) = await queue.enqueue([a_job(clock, due_ms=to_ms(due))])
    assert job.scheduled_for == due
    assert await take(queue) == []
    clock.advance(timedelta(days=1))
    (delivery,) = await take(queue)
    assert queue.early_return(delivery, decode_envelope(delivery.body)) is None


async def test_a_long_delay_hops(provider, clock):
    """Beyond the longest delay a job comes early, is sent on, and runs at its time, on its first delivery."""
    async with Queue(Lesser(provider, max_delay_ms=30 * DAY_MS), clock=clock, events=Events()) as queue:
        due_ms = clock.now_ms() + 90 * DAY_MS
        (enqueued,) = await queue.enqueue([a_job(clock, due_ms=due_ms)])
        assert to_ms(enqueued.scheduled_for) == due_ms
        for _ in range(2):
            clock.advance(timedelta(days=30))
            (delivery,) = await take(queue)
            back = queue.early_return(delivery, decode_envelope(delivery.body))
            assert back is not None
            assert await queue.nack("default", [back]) == [True]
            assert await take(queue) == []
        clock.advance(timedelta(days=30))
        (delivery,) = await take(queue)
        assert queue.early_return(delivery, decode_envelope(delivery.body)) is None
        assert delivery.deliveries == 1


async def test_a_long_return_hops(provider, clock):
    """A successor due beyond the longest delay is told its due time; without a body that is refused."""
    async with Queue(Lesser(provider, max_delay_ms=DAY_MS), clock=clock, events=Events()) as queue:
        job = a_job(clock)
        await queue.enqueue([job])
        (delivery,) = await take(queue)
        due_ms = clock.now_ms() + 2 * DAY_MS
        with pytest.raises(CapabilityError, match="delayed return"):
            await queue.nack("default", [Return(receipt=delivery.receipt, due_ms=due_ms)])
        body = encode_envelope(msgspec.structs.replace(job.envelope, attempt=2))
        assert await queue.nack("default", [Return(receipt=delivery.receipt, due_ms=due_ms, body=body)]) == [True]
        clock.advance(timedelta(days=1))
        (delivery,) = await take(queue)
        assert decode_envelope(delivery.body).due_ms == due_ms
        assert queue.early_return(delivery, decode_envelope(delivery.body)) is not None


# --- dead letters ---

NOTES = tuple(AttemptNote(attempt=n, state=RunState.FAILED, at_ms=n) for n in (1, 2))


async def bury(queue, delivery, body=None, reason="attempts-exhausted"):
    """Park a delivery."""
    letter = DeadLetter(
        id=delivery.id, queue="default", body=body or delivery.body, reason=reason, workflow="backup", attempts=NOTES
    )
    assert await queue.bury("default", [Burial(receipt=delivery.receipt, letter=letter)]) == [True]


async def test_burying_tells_listeners(provider, clock):
    """Each parked job is an event; a stale burial is none."""
    events, heard = Events(), []
    events.listen(DeadLettered, heard.append)
    async with Queue(provider, clock=clock, events=events) as queue:
        await queue.enqueue([a_job(clock)])
        (delivery,) = await take(queue)
        await bury(queue, delivery)
        letter = DeadLetter(id=delivery.id, queue="default", body=b"", reason="refused")
        assert await queue.bury("default", [Burial(receipt=delivery.receipt, letter=letter)]) == [False]
    assert [(event.job_id, event.reason, event.workflow) for event in heard] == [
        (delivery.id, "attempts-exhausted", "backup")
    ]


async def test_dead_jobs_are_listed_decoded(queue, clock):
    """A letter comes with its job, or without where the bytes cannot be read."""
    await queue.enqueue([a_job(clock), a_job(clock)])
    first, second = await take(queue)
    await bury(queue, first)
    await bury(queue, second, body=b"\xff", reason="unreadable")
    dead = {job.letter.id: job.envelope for job in await queue.dead_letters()}
    assert dead[first.id] == decode_envelope(first.body)
    assert dead[second.id] is None


async def test_a_redriven_job_starts_anew(queue, clock):
    """Its attempt is the first again and its notes are kept; unreadable bytes go back as they are."""
    job = a_job(clock)
    job = msgspec.structs.replace(job, envelope=msgspec.structs.replace(job.envelope, attempt=5))
    await queue.enqueue([job, a_job(clock)])
    first, second = await take(queue)
    await bury(queue, first)
    await bury(queue, second, body=b"\xff", reason="unreadable")
    assert sorted(await queue.redrive()) == sorted([first.id, second.id])
    bodies = {delivery.id: delivery.body for delivery in await take(queue)}
    revived = decode_envelope(bodies[first.id])
    assert (revived.attempt, revived.notes, revived.context) == (1, NOTES, job.envelope.context)
    assert bodies[second.id] == b"\xff"


async def test_redrive_of_many(queue, clock):
    """More letters than fit one call are all redriven, a limit is kept, and the filter selects."""
    await queue.enqueue([a_job(clock) for _ in range(450)])
    for delivery in await take(queue, 450):
        await bury(queue, delivery)
    assert len(await queue.redrive(where=DeadLetterFilter(limit=210))) == 210
    assert await queue.redrive(where=DeadLetterFilter(reason="refused")) == []
    assert len(await queue.redrive("default")) == 240
    assert len(await take(queue, 1000)) == 450


async def test_discard(queue, clock):
    """Discarded letters are gone."""
    await queue.enqueue([a_job(clock)])
    (delivery,) = await take(queue)
    await bury(queue, delivery)
    assert await queue.discard(where=DeadLetterFilter(ids=(delivery.id,))) == 1
    assert await queue.dead_letters() == []


# --- looking in ---


async def test_cancel_find_purge_and_stats(queue, clock):
    """Jobs are found decoded, cancelled one by one, purged, and counted."""
    jobs = [a_job(clock) for _ in range(3)]
    await queue.enqueue(jobs)
    (found,) = await queue.find([jobs[0].envelope.id, "unknown"])
    assert found.envelope == jobs[0].envelope
    assert await queue.cancel([jobs[0].envelope.id]) == [jobs[0].envelope.id]
    (stats,) = await queue.stats()
    assert (stats.queue, stats.ready) == ("default", 2)
    assert await queue.purge("default") == 2
    assert await queue.find([job.envelope.id for job in jobs]) == []
