"""Notes are gathered cheaply, written in the background, and survive a ledger that cannot be written."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mahavishnu.errors import StorageError
from mahavishnu.history.notes import ENOUGH_ROWS, NoteBuffer, Notes
from mahavishnu.history.store import Skip
from mahavishnu.model.states import RunState
from mahavishnu.testing.history_samples import a_run

LIMIT_SECONDS = 10
NEVER_SECONDS = 3600.0


class Recorder:
    """Keeps what it is told to write, or refuses as long as it is told to."""

    def __init__(self):
        self.batches = []
        self.refusals = 0
        self.error = StorageError("ledger.db", "locked", "wait", retryable=True)
        self.called = asyncio.Event()
        self.written = asyncio.Event()

    async def write(self, notes):
        """Keep a copy of the notes."""
        self.called.set()
        if self.refusals:
            self.refusals -= 1
            raise self.error
        self.batches.append(Notes(dict(notes.runs), list(notes.skips), dict(notes.processes)))
        self.written.set()

    @property
    def jobs(self):
        """The jobs of all runs written, in order."""
        return [run.job_id for batch in self.batches for run in batch.runs.values()]


@pytest.fixture
def recorder():
    """A place to write to."""
    return Recorder()


async def _within_limit(event):
    async with asyncio.timeout(LIMIT_SECONDS):
        await event.wait()


def _skip(n):
    return Skip(schedule_id=f"s{n}", first_ms=n, last_ms=n, count=1, reason="busy")


async def test_notes_are_written_after_a_moment(recorder):
    """Several notes of one run become one row, and nobody has to ask for it."""
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=0.01)
    buffer.start()
    buffer.add_runs([a_run("a", RunState.RUNNING)])
    buffer.add_runs([a_run("a"), a_run("b")])
    await _within_limit(recorder.written)
    await buffer.stop()
    assert recorder.jobs == ["a", "b"]
    assert recorder.batches[0].runs["a.1"].state is RunState.SUCCEEDED


async def test_many_notes_are_written_at_once(recorder):
    """A crowd is not kept waiting for the moment to pass."""
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=NEVER_SECONDS)
    buffer.start()
    buffer.add_runs([a_run(f"j{n}") for n in range(ENOUGH_ROWS)])
    await _within_limit(recorder.written)
    recorder.written.clear()
    buffer.add_skips([_skip(n) for n in range(ENOUGH_ROWS)])
    await _within_limit(recorder.written)
    await buffer.stop()
    assert len(recorder.jobs) == ENOUGH_ROWS
    assert len(recorder.batches[1].skips) == ENOUGH_ROWS


async def test_notes_are_written_at_once_for_those_who_wait(recorder):
    """Whoever waits for a run's end does not wait for others to be noted as well."""
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=NEVER_SECONDS)
    buffer.start()
    buffer.hurry()
    buffer.add_runs([a_run("a")])
    await asyncio.sleep(0)
    assert not recorder.called.is_set()
    buffer.hurry()
    await _within_limit(recorder.written)
    await buffer.stop()
    assert recorder.jobs == ["a"]


def _timers():
    return sum(not it.cancelled() for it in asyncio.get_running_loop()._scheduled)


async def test_no_timer_runs_while_nothing_waits(recorder):
    """An idle ledger does not wake its process; only a note that waits for others sets a timer."""
    before = _timers()
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=0.05)
    buffer.start()
    await asyncio.sleep(0)
    assert _timers() == before
    buffer.add_runs([a_run("a")])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert _timers() == before + 1
    await _within_limit(recorder.written)
    await buffer.flush()
    await asyncio.sleep(0)
    assert _timers() == before
    await buffer.stop()


async def test_failed_write_is_tried_again(recorder, caplog):
    """Everything is kept, newer notes go on top, and the log says what waits."""
    recorder.refusals = 2
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=0.001, retry_seconds=0.001)
    buffer.start()
    with caplog.at_level(logging.WARNING, logger="mahavishnu.history"):
        buffer.add_runs([a_run("a", RunState.RUNNING), a_run("b")])
        await _within_limit(recorder.called)
        buffer.add_runs([a_run("a"), a_run("b", RunState.RUNNING)])
        await _within_limit(recorder.written)
    await buffer.stop()
    assert {run.job_id: run.state for run in recorder.batches[-1].runs.values()} == {
        "a": RunState.SUCCEEDED,
        "b": RunState.SUCCEEDED,
    }
    assert "ledger_write_failed: 2 runs wait" in caplog.text


async def test_flush_says_that_it_failed_and_keeps_the_notes(recorder):
    """Whoever asks for certainty is told the truth."""
    recorder.refusals = 1
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=NEVER_SECONDS)
    buffer.add_runs([a_run("a")])
    buffer.add_skips([_skip(1)])
    with pytest.raises(StorageError):
        await buffer.flush()
    await buffer.flush()
    assert recorder.jobs == ["a"]
    assert recorder.batches[0].skips == [_skip(1)]


async def test_stop_writes_what_waits(recorder):
    """Also when the background task was in the middle of waiting, and only once."""
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=NEVER_SECONDS)
    buffer.start()
    buffer.start()
    buffer.add_runs([a_run("a")])
    await asyncio.sleep(0)
    await buffer.stop()
    await buffer.stop()
    assert recorder.jobs == ["a"]
    assert not buffer.is_running


async def test_stop_logs_what_it_cannot_write(recorder, caplog):
    """A loss at the very end is not silent."""
    recorder.refusals = 1
    buffer = NoteBuffer(recorder.write, name="t")
    buffer.start()
    buffer.add_runs([a_run("a"), a_run("b")])
    await buffer.stop()
    assert "ledger_notes_lost: 2 runs" in caplog.text


async def test_stop_while_a_write_is_under_way_loses_nothing(recorder):
    """The write that was cut short is done again."""
    inner, begun = recorder.write, asyncio.Event()

    async def slow(notes):
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        await inner(notes)

    buffer = NoteBuffer(slow, name="t", linger_seconds=0.001)
    buffer.start()
    buffer.add_runs([a_run("a")])
    await _within_limit(begun)
    await buffer.stop()
    assert recorder.jobs == ["a"]


async def test_too_many_notes_lose_the_live_ones_first(recorder, caplog):
    """A run's end is worth more than its beginning; what was dropped is counted in the log."""
    most = 2 * ENOUGH_ROWS
    buffer = NoteBuffer(recorder.write, name="t", most_runs=most)
    buffer.add_runs([a_run(f"end{n}") for n in range(most // 2)])
    buffer.add_runs([a_run(f"live{n}", RunState.RUNNING) for n in range(most // 2)])
    buffer.add_runs([a_run("last")])
    dropped = 1 + most // 100
    assert f"ledger_notes_dropped: {dropped} notes" in caplog.text
    await buffer.flush()
    assert set(recorder.jobs) == {f"end{n}" for n in range(most // 2)} | {"last"} | {
        f"live{n}" for n in range(dropped, most // 2)
    }


async def test_too_many_ends_lose_the_oldest(recorder):
    """With nothing less valuable left, the newest are kept."""
    most = ENOUGH_ROWS
    buffer = NoteBuffer(recorder.write, name="t", most_runs=most)
    buffer.add_runs([a_run(f"j{n}") for n in range(most + 1)])
    await buffer.flush()
    assert recorder.jobs == [f"j{n}" for n in range(1 + most // 100, most + 1)]


async def test_notes_that_can_never_be_stored_do_not_block_later_ones(recorder, caplog):
    """A fault of ours is logged with its traceback, and the ledger goes on."""
    recorder.refusals, recorder.error = 1, TypeError("not a run")
    buffer = NoteBuffer(recorder.write, name="t", linger_seconds=0.001)
    buffer.start()
    buffer.add_runs([a_run("a")])
    await _within_limit(recorder.called)
    buffer.add_runs([a_run("b")])
    await buffer.stop()
    assert recorder.jobs == ["b"]
    assert "ledger_notes_lost: 1 runs could not be stored" in caplog.text


async def test_large_backlog_is_written_in_parts(recorder):
    """No single transaction holds the file for long."""
    buffer = NoteBuffer(recorder.write, name="t")
    buffer.add_runs([a_run(f"j{n}") for n in range(12_000)])
    await buffer.flush()
    assert [len(batch.runs) for batch in recorder.batches] == [5000, 5000, 2000]
    assert len(set(recorder.jobs)) == 12_000


async def test_a_later_note_finds_the_first_ripe(recorder, monkeypatch):
    """Once the first has waited nearly all of its time, the next one has both written at once."""
    now = 100.0
    monkeypatch.setattr("mahavishnu.history.notes.monotonic", lambda: now)
    buffer = NoteBuffer(recorder.write, name="test", linger_seconds=NEVER_SECONDS)
    buffer.start()
    buffer.add_runs([a_run("first")])
    now += NEVER_SECONDS / 2
    buffer.add_runs([a_run("early")])
    for _ in range(5):
        await asyncio.sleep(0)
    assert recorder.jobs == []
    now += NEVER_SECONDS * 0.4
    buffer.add_runs([a_run("ripe")])
    await _within_limit(recorder.written)
    assert recorder.jobs == ["first", "early", "ripe"]
    await buffer.stop()
