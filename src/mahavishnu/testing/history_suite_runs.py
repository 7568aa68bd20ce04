"""The part of the ledger's contract suite about runs."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from mahavishnu.errors import RunNotFoundError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import FINAL_RUN_STATES, RunState
from mahavishnu.testing.history_samples import (
    MINUTE,
    START,
    HistoryStoreTests,
    a_run,
    reachable,
)

if TYPE_CHECKING:
    from mahavishnu.history.store import HistoryStore

__all__ = ["RunTests"]


class RunTests(HistoryStoreTests):
    """What becomes of runs, and how they are found."""

    # --- runs ---

    async def test_run_comes_back_as_it_was_recorded(self, store: HistoryStore) -> None:
        """Every part of a run survives, and a bare one stays bare."""
        full = Run(
            id="job.2.3",
            job_id="job",
            task="report",
            engine=EngineName.ONEIRIC,
            state=RunState.FAILED,
            attempt=2,
            delivery=3,
            schedule_id="nightly",
            scheduled_for_ms=1,
            provider="sqlite",
            queue="default",
            started_at_ms=2,
            finished_at_ms=3,
            worker="host:1",
            reason="because",
            error="ValueError: no",
            traceback="Traceback…\n",
            result='{"a":1}',
            next_attempt_at_ms=4,
            repo="repo",
            commit_sha="abc",
            parent_id="parent",
            labels={"team": "x"},
        )
        bare = Run(id="x", job_id="y", task="t", engine=EngineName.PREFECT, state=RunState.SCHEDULED)
        await store.record_runs([full, bare])
        assert await store.get_run("job.2.3") == full
        assert await store.get_run("x") == bare
        assert await store.get_run("y") == bare

    @pytest.mark.parametrize(("old", "new"), list(product(RunState, RunState)))
    async def test_states_follow_the_table(self, store: HistoryStore, old: RunState, new: RunState) -> None:
        """A recorded run moves only to what can follow; a live one may be recorded again as it is."""
        await store.record_runs([a_run("j", old, worker="first")])
        await store.record_runs([a_run("j", new, worker="second")])
        moves = new in reachable(old) or (new is old and old not in FINAL_RUN_STATES)
        run = await store.get_run("j.1")
        assert (run.state, run.worker) == ((new, "second") if moves else (old, "first"))

    async def test_noted_runs_are_there_after_flush(self, store: HistoryStore) -> None:
        """The latest note of a run counts, and a final one is not taken back."""
        store.note_runs([a_run("a", RunState.RUNNING), a_run("b", RunState.RUNNING)])
        store.note_runs([a_run("a"), a_run("a", RunState.RUNNING)])
        await store.flush()
        assert {it.job_id: it.state for it in await store.list_runs(RunFilter())} == {
            "a": RunState.SUCCEEDED,
            "b": RunState.RUNNING,
        }

    async def test_text_that_is_not_unicode_is_stored_visibly(self, store: HistoryStore) -> None:
        """An odd file name in an exception's text does not cost the run, nor its neighbours."""
        await store.record_runs(
            [a_run("a"), a_run("b", RunState.FAILED, error="OSError: \udcff", labels={"k": "\udc80"})]
        )
        run = await store.get_run("b")
        assert (await store.get_run("a")).state is RunState.SUCCEEDED
        assert run.error is not None
        assert run.error.startswith("OSError: ")

    async def test_runs_are_listed_newest_first(self, store: HistoryStore) -> None:
        """By beginning, or due time; of equal times the one recorded last comes first."""
        await store.record_runs(
            [
                a_run("c", at=START + MINUTE * 2),
                a_run("a", at=START),
                a_run("b", at=START + MINUTE),
                a_run("b2", at=START + MINUTE),
                a_run("due", RunState.SCHEDULED, started_at_ms=None, scheduled_for_ms=to_ms(START + MINUTE * 3)),
            ]
        )
        found = await store.list_runs(RunFilter())
        assert [it.job_id for it in found] == ["due", "c", "b2", "b", "a"]
        assert await store.list_runs(RunFilter(limit=2)) == found[:2]
        assert await store.list_runs(RunFilter(since=START + MINUTE)) == found[:4]

    @pytest.mark.parametrize(
        ("where", "jobs"),
        [
            (RunFilter(schedule_id="s1"), "ecba"),
            (RunFilter(task="sweep"), "db"),
            (RunFilter(engine=EngineName.PREFECT), "d"),
            (RunFilter(state=RunState.SUCCEEDED), "da"),
            (RunFilter(state=RunState.FAILED), "cb"),
            (RunFilter(state=RunState.FAILED, schedule_id="s1", task="sweep"), "b"),
            (RunFilter(state=RunState.FAILED, limit=1), "c"),
            (RunFilter(state=RunState.RUNNING, engine=EngineName.ONEIRIC), "e"),
            (RunFilter(job_id="b"), "b"),
            (RunFilter(job_id="d"), "d"),
            (RunFilter(job_id="d", state=RunState.FAILED), ""),
            (RunFilter(job_id="missing"), ""),
            (RunFilter(parent_id="p"), "dc"),
            (RunFilter(parent_id="p", state=RunState.FAILED), "c"),
            (RunFilter(parent_id="p", since=START + MINUTE * 3), "d"),
            (RunFilter(schedule_id="s1", since=START + MINUTE * 2), "ec"),
            (RunFilter(job_id="b", since=START + MINUTE * 2), ""),
        ],
        ids=repr,
    )
    async def test_runs_are_filtered(self, store: HistoryStore, where: RunFilter, jobs: str) -> None:
        """Each filter alone and with others."""
        await store.record_runs(
            [
                a_run("a", schedule_id="s1", at=START),
                a_run("b", RunState.FAILED, schedule_id="s1", task="sweep", at=START + MINUTE),
                a_run("c", RunState.FAILED, schedule_id="s1", parent_id="p", at=START + MINUTE * 2),
                a_run("d", id="d", task="sweep", engine=EngineName.PREFECT, parent_id="p", at=START + MINUTE * 3),
                a_run("e", RunState.RUNNING, schedule_id="s1", at=START + MINUTE * 4),
            ]
        )
        assert "".join(it.job_id for it in await store.list_runs(where)) == jobs

    async def test_run_is_found_by_its_own_id_and_by_its_jobs(self, store: HistoryStore) -> None:
        """A job's id finds its latest run; ids that only begin alike are not mixed up."""
        runs = [
            a_run("ab", RunState.FAILED, next_attempt_at_ms=1),
            a_run("ab", attempt=2, at=START + MINUTE),
            a_run("abc", at=START + MINUTE * 2),
            a_run("a.b", at=START + MINUTE * 3),
        ]
        await store.record_runs(runs)
        assert await store.get_run("ab.1") == runs[0]
        assert await store.get_run("ab") == runs[1]
        assert await store.get_run("a.b") == runs[3]
        for missing in ("a", "abd", "ab.3", ""):
            with pytest.raises(RunNotFoundError):
                await store.get_run(missing)

    async def test_ended_jobs_name_the_run_that_ended_them(self, store: HistoryStore) -> None:
        """The latest ending counts; unfinished and unknown jobs are absent."""
        again = a_run("dead", attempt=2, at=START + MINUTE)
        await store.record_runs(
            [a_run("dead", RunState.DEAD), again, a_run("on", RunState.SNOOZED, next_attempt_at_ms=1)]
        )
        assert await store.ended_jobs(["dead", "on", "unknown"]) == {"dead": again}
        assert await store.ended_jobs([]) == {}

    async def test_lost_runs_are_found_by_worker(self, store: HistoryStore) -> None:
        """Only those recorded as running, of that worker."""
        await store.record_runs(
            [
                a_run("a", RunState.RUNNING, worker="host:12:x"),
                a_run("b", RunState.RUNNING, worker="host:123:x"),
                a_run("c", worker="host:12:x"),
                a_run("d", RunState.RUNNING),
            ]
        )
        assert [it.job_id for it in await store.lost_runs("host:12:")] == ["a"]
        await store.record_runs([a_run("a", RunState.LOST, worker="host:12:x")])
        assert await store.lost_runs("host:12:") == []
