"""The part of the ledger's contract suite about schedules and occurrences."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.errors import ScheduleExistsError, ScheduleNotFoundError
from mahavishnu.history.store import Advance, HistoryStore, Skip
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.job import JobOptions
from mahavishnu.model.policies import MisfireKind, MisfirePolicy, OverlapPolicy
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.schedule import OnConflict, ScheduleState
from mahavishnu.model.states import OccurrenceState, RunState
from mahavishnu.testing.history_samples import (
    EVERY_MINUTE,
    LEASE,
    MINUTE,
    START,
    HistoryStoreTests,
    a_run,
    a_schedule,
    claimed,
    named,
    states_of,
)

if TYPE_CHECKING:
    from mahavishnu.testing.clock import FakeClock

__all__ = ["ScheduleTests"]


class ScheduleTests(HistoryStoreTests):
    """What becomes of schedules and their fire times."""

    # --- schedules ---

    async def test_schedule_comes_back_as_it_was_put(self, store: HistoryStore) -> None:
        """Every part of a schedule survives, to the microsecond."""
        given = a_schedule(
            context={
                "repos": ["a", "b"],
                "depth": 3,
                "ratio": 0.5,
                "nested": {"ok": True, "none": None},
                "raw": b"\x00",
            },
            options=JobOptions(
                schedule_time=START, priority=9, max_attempts=4, timeout=timedelta(seconds=1.5), labels={"team": "x"}
            ),
            misfire=MisfirePolicy(kind=MisfireKind.CAP, cap=3, grace=timedelta(minutes=5)),
            overlap=OverlapPolicy.ALLOW,
            max_running=2,
            jitter=timedelta(seconds=2.5),
            provider="sqlite",
            next_fire_at=START + timedelta(microseconds=1),
            reasons=("it is durable", "it is simple"),
            external_id="x-1",
        )
        stored = await store.put_schedule(given, on_conflict=OnConflict.ERROR)
        assert (stored.revision, stored.created_at, stored.updated_at) == (1, START, START)
        assert stored == await store.get_schedule("nightly")
        assert replace(stored, revision=0, created_at=None, updated_at=None) == given

    async def test_taken_id_is_refused_or_kept(self, store: HistoryStore) -> None:
        """`ERROR` raises, `KEEP` returns what is there."""
        first = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        with pytest.raises(ScheduleExistsError):
            await store.put_schedule(a_schedule(task="other"), on_conflict=OnConflict.ERROR)
        assert await store.put_schedule(a_schedule(task="other"), on_conflict=OnConflict.KEEP) == first

    async def test_putting_an_equal_schedule_changes_nothing(self, store: HistoryStore, clock: FakeClock) -> None:
        """Neither the revision nor the time of change moves, whatever next fire time the new one brings."""
        first = await store.put_schedule(a_schedule(context={"a": 1, "b": 2}), on_conflict=OnConflict.REPLACE)
        clock.advance(MINUTE)
        again = a_schedule(context={"b": 2, "a": 1}, next_fire_at=START + MINUTE * 5)
        assert await store.put_schedule(again, on_conflict=OnConflict.REPLACE) == first

    async def test_equal_trigger_keeps_progress_and_pause(self, store: HistoryStore, clock: FakeClock) -> None:
        """What is new is taken over; where the schedule stands is not."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        step = Advance(schedule=stored, dispatch=[START + MINUTE], next_fire_at=START + MINUTE * 2)
        await store.advance([step], owner="me", lease=LEASE)
        paused = await store.set_paused("nightly", True, next_fire_at=None)
        clock.advance(MINUTE)
        new = await store.put_schedule(a_schedule(context={"x": 1}), on_conflict=OnConflict.REPLACE)
        assert (new.state, new.next_fire_at, new.last_fire_at) == (ScheduleState.PAUSED, None, START + MINUTE)
        assert (new.context, new.revision) == ({"x": 1}, paused.revision + 1)
        assert (new.created_at, new.updated_at) == (START, START + MINUTE)

    async def test_other_trigger_begins_anew(self, store: HistoryStore) -> None:
        """A changed trigger brings its own next fire time and ends a pause."""
        await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        await store.set_paused("nightly", True, next_fire_at=None)
        new = a_schedule(trigger=EVERY_MINUTE, next_fire_at=START + MINUTE * 3)
        stored = await store.put_schedule(new, on_conflict=OnConflict.REPLACE)
        assert (stored.state, stored.next_fire_at) == (ScheduleState.ACTIVE, START + MINUTE * 3)
        assert stored.created_at == START

    async def test_schedule_that_moves_to_another_engine_takes_the_new_fire_time(self, store: HistoryStore) -> None:
        """An engine that keeps its own times leaves none behind for one that asks the ledger."""
        await store.put_schedule(a_schedule(engine=EngineName.PREFECT, next_fire_at=None), on_conflict=OnConflict.ERROR)
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.REPLACE)
        assert stored.next_fire_at == START + MINUTE

    async def test_pausing_twice_is_pausing_once(self, store: HistoryStore) -> None:
        """A paused schedule has no next fire time, and goes on where it is told."""
        await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        paused = await store.set_paused("nightly", True, next_fire_at=None)
        assert (paused.state, paused.next_fire_at, paused.revision) == (ScheduleState.PAUSED, None, 2)
        assert await store.set_paused("nightly", True, next_fire_at=None) == paused
        assert await store.next_due(EngineName.ONEIRIC) is None
        resumed = await store.set_paused("nightly", False, next_fire_at=START + MINUTE * 9)
        assert (resumed.state, resumed.next_fire_at, resumed.revision) == (ScheduleState.ACTIVE, START + MINUTE * 9, 3)
        assert await store.get_schedule("nightly") == resumed

    async def test_missing_schedule_is_an_error(self, store: HistoryStore) -> None:
        """Each call that needs a schedule names the one that is missing."""
        await store.put_schedule(a_schedule("nightly"), on_conflict=OnConflict.ERROR)
        for call in (
            store.get_schedule("nighty"),
            store.delete_schedule("nighty"),
            store.set_paused("nighty", True, next_fire_at=None),
        ):
            with pytest.raises(ScheduleNotFoundError, match="nighty"):
                await call

    async def test_schedules_are_listed_by_id(self, store: HistoryStore) -> None:
        """All, or those of an engine or task."""
        facts = [
            ("b", "report", EngineName.ONEIRIC),
            ("a", "sweep", EngineName.PREFECT),
            ("c", "sweep", EngineName.ONEIRIC),
        ]
        for name, task, engine in facts:
            await store.put_schedule(a_schedule(name, task=task, engine=engine), on_conflict=OnConflict.ERROR)
        assert [it.id for it in await store.list_schedules()] == ["a", "b", "c"]
        assert [it.id for it in await store.list_schedules(engine=EngineName.ONEIRIC)] == ["b", "c"]
        assert [it.id for it in await store.list_schedules(task="sweep")] == ["a", "c"]
        assert [it.id for it in await store.list_schedules(task="sweep", engine=EngineName.PREFECT)] == ["a"]

    async def test_schedule_revisions_show_what_changed(self, store: HistoryStore) -> None:
        """Of one engine's schedules; a change makes the number grow, a removal takes the entry away."""
        for name, engine in (("a", EngineName.APSCHEDULER), ("b", EngineName.ONEIRIC), ("c", EngineName.APSCHEDULER)):
            await store.put_schedule(a_schedule(name, engine=engine), on_conflict=OnConflict.ERROR)
        assert await store.schedule_revisions(EngineName.APSCHEDULER) == {"a": 1, "c": 1}
        await store.set_paused("a", True, next_fire_at=None)
        await store.delete_schedule("c")
        assert await store.schedule_revisions(EngineName.APSCHEDULER) == {"a": 2}
        assert await store.schedule_revisions(EngineName.PREFECT) == {}

    async def test_external_id_is_kept(self, store: HistoryStore) -> None:
        """The engine's own name stays when the schedule is put again without one."""
        await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        await store.set_external_id("nightly", "deployment-1")
        stored = await store.put_schedule(a_schedule(context={"x": 1}), on_conflict=OnConflict.REPLACE)
        assert stored.external_id == "deployment-1"

    async def test_deleted_schedule_is_gone_and_its_runs_stay(self, store: HistoryStore) -> None:
        """What it held is recorded as skipped; nothing fires any more."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        step = Advance(schedule=stored, hold=[(START + MINUTE, "busy")], next_fire_at=START + MINUTE * 2)
        await store.advance([step], owner="me", lease=LEASE)
        await store.record_runs([a_run("j", schedule_id="nightly")])
        await store.delete_schedule("nightly")
        with pytest.raises(ScheduleNotFoundError):
            await store.get_schedule("nightly")
        assert await store.held_occurrences() == []
        assert await store.next_due(EngineName.ONEIRIC) is None
        [skipped] = await store.list_occurrences("nightly")
        assert (skipped.state, "removed" in skipped.reason) == (OccurrenceState.SKIPPED, True)
        assert [it.job_id for it in await store.list_runs(RunFilter(schedule_id="nightly"))] == ["j"]

    # --- firing ---

    async def test_due_schedules_come_earliest_first(self, store: HistoryStore) -> None:
        """Only active ones of the engine whose time has come, at most so many."""
        for name, minutes in (("late", 3), ("early", 1), ("middle", 2)):
            await store.put_schedule(
                a_schedule(name, next_fire_at=START + MINUTE * minutes), on_conflict=OnConflict.ERROR
            )
        await store.put_schedule(a_schedule("elsewhere", engine=EngineName.PREFECT), on_conflict=OnConflict.ERROR)
        now = START + MINUTE * 2
        assert [it.id for it in await store.due_schedules(EngineName.ONEIRIC, now, limit=9)] == ["early", "middle"]
        assert [it.id for it in await store.due_schedules(EngineName.ONEIRIC, now, limit=1)] == ["early"]
        assert await store.next_due(EngineName.ONEIRIC) == START + MINUTE
        assert await store.next_due(EngineName.APSCHEDULER) is None

    async def test_a_step_is_won_once(self, store: HistoryStore, clock: FakeClock) -> None:
        """The second of two equal steps wins nothing and changes nothing."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        step = Advance(schedule=stored, dispatch=[START + MINUTE], next_fire_at=START + MINUTE * 2)
        clock.advance(MINUTE)
        [won] = await store.advance([step], owner="me", lease=LEASE)
        assert await store.advance([step], owner="you", lease=LEASE) == []
        assert (won.schedule_id, won.fire_at, won.until) == ("nightly", START + MINUTE, START + MINUTE)
        assert (won.state, won.owner, won.revision) == (OccurrenceState.CLAIMED, "me", stored.revision)
        assert await store.list_occurrences("nightly") == [won]
        now = await store.get_schedule("nightly")
        assert (now.next_fire_at, now.last_fire_at) == (START + MINUTE * 2, START + MINUTE)
        assert now.revision == stored.revision

    @pytest.mark.parametrize("change", ["replaced", "paused", "deleted"])
    async def test_a_step_from_a_stale_schedule_is_lost(self, store: HistoryStore, change: str) -> None:
        """Whoever read the schedule before it was changed fires nothing."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        if change == "replaced":
            await store.put_schedule(a_schedule(context={"x": 1}), on_conflict=OnConflict.REPLACE)
        elif change == "paused":
            await store.set_paused("nightly", True, next_fire_at=None)
        else:
            await store.delete_schedule("nightly")
        step = Advance(schedule=stored, dispatch=[START + MINUTE], next_fire_at=START + MINUTE * 2)
        assert await store.advance([step], owner="me", lease=LEASE) == []
        assert await store.list_occurrences("nightly") == []

    async def test_one_lost_step_does_not_spoil_the_others(self, store: HistoryStore) -> None:
        """In one call for many schedules, each is judged alone."""
        schedules = [await store.put_schedule(a_schedule(it), on_conflict=OnConflict.ERROR) for it in ("a", "b")]
        await store.set_paused("a", True, next_fire_at=None)
        steps = [
            Advance(schedule=it, dispatch=[START + MINUTE, START + MINUTE * 2], next_fire_at=START + MINUTE * 3)
            for it in schedules
        ]
        won = await store.advance(steps, owner="me", lease=LEASE)
        assert [(it.schedule_id, it.fire_at) for it in won] == [("b", START + MINUTE), ("b", START + MINUTE * 2)]

    async def test_step_records_what_is_held_and_skipped(self, store: HistoryStore) -> None:
        """Every fire time is accounted for, with its reason, and the last one is remembered."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        times = [START + MINUTE * n for n in range(1, 6)]
        skip = Skip(schedule_id="nightly", first_ms=to_ms(times[0]), last_ms=to_ms(times[2]), count=3, reason="missed")
        step = Advance(schedule=stored, dispatch=[times[3]], hold=[(times[4], "busy")], skips=[skip])
        await store.advance([step], owner="me", lease=LEASE)
        occurrences = await store.list_occurrences("nightly")
        assert states_of(occurrences) == [(times[4], "held"), (times[3], "claimed"), (times[0], "skipped")]
        assert [(it.count, it.until, it.reason) for it in occurrences[::2]] == [
            (1, times[4], "busy"),
            (3, times[2], "missed"),
        ]
        assert states_of(await store.list_occurrences("nightly", limit=1)) == [(times[4], "held")]
        ended = await store.get_schedule("nightly")
        assert (ended.state, ended.next_fire_at, ended.last_fire_at) == (ScheduleState.ENDED, None, times[4])

    async def test_schedule_made_again_may_have_the_same_fire_time(self, store: HistoryStore, clock: FakeClock) -> None:
        """What its namesake did before it was deleted does not count; what it did itself does."""
        for _ in range(2):
            stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
            step = Advance(schedule=stored, dispatch=[START + MINUTE])
            [won] = await store.advance([step], owner="me", lease=LEASE)
            await store.mark_dispatched([named(won, "j")])
            clock.advance(MINUTE)
            await store.delete_schedule("nightly")
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        await store.advance(
            [Advance(schedule=stored, dispatch=[START], next_fire_at=START + MINUTE)], owner="me", lease=LEASE
        )
        stale = await store.get_schedule("nightly")
        again = Advance(schedule=stale, dispatch=[START], next_fire_at=START + MINUTE * 2)
        assert await store.advance([again], owner="me", lease=LEASE) == []

    # --- occurrences ---

    async def test_abandoned_claims_are_taken_over_once(self, store: HistoryStore, clock: FakeClock) -> None:
        """Only after the lease, by one taker, and not once they were dispatched."""
        won = await claimed(store, START + MINUTE, START + MINUTE * 2, START + MINUTE * 3)
        await store.mark_dispatched([named(won[0], "j")])
        assert await store.claim_abandoned(owner="you", lease=LEASE, limit=9) == []
        clock.advance(LEASE)
        taken = await store.claim_abandoned(owner="you", lease=LEASE, limit=1)
        assert [(it.fire_at, it.owner, it.state) for it in taken] == [
            (START + MINUTE * 2, "you", OccurrenceState.CLAIMED)
        ]
        assert [it.fire_at for it in await store.claim_abandoned(owner="you", lease=LEASE, limit=9)] == [
            START + MINUTE * 3
        ]
        assert await store.claim_abandoned(owner="they", lease=LEASE, limit=9) == []

    async def test_open_occurrences_are_those_held_or_claimed(self, store: HistoryStore) -> None:
        """What is dispatched or skipped is not open any more."""
        assert not await store.has_open_occurrences()
        [won] = await claimed(store, START + MINUTE)
        assert await store.has_open_occurrences()
        await store.mark_dispatched([named(won, "j")])
        assert not await store.has_open_occurrences()
        stored = await store.get_schedule("nightly")
        await store.advance([Advance(schedule=stored, hold=[(START + MINUTE * 9, "busy")])], owner="me", lease=LEASE)
        assert await store.has_open_occurrences()
        await store.skip_claimed(await store.held_occurrences(), reason="not wanted")
        assert not await store.has_open_occurrences()

    async def test_held_occurrences_are_released_once(self, store: HistoryStore, clock: FakeClock) -> None:
        """The first to release one has it, claimed; later ones get nothing."""
        stored = await store.put_schedule(a_schedule(), on_conflict=OnConflict.ERROR)
        step = Advance(
            schedule=stored,
            hold=[(START + MINUTE * 2, "busy"), (START + MINUTE, "busy")],
            next_fire_at=START + MINUTE * 3,
        )
        await store.advance([step], owner="me", lease=LEASE)
        held = await store.held_occurrences()
        assert states_of(held) == [(START + MINUTE, "held"), (START + MINUTE * 2, "held")]
        clock.advance(MINUTE)
        [won] = await store.release_held(held[:1], owner="you", lease=LEASE)
        assert (won.state, won.owner, won.fire_at) == (OccurrenceState.CLAIMED, "you", START + MINUTE)
        assert await store.release_held(held[:1], owner="me", lease=LEASE) == []
        assert await store.held_occurrences() == held[1:]
        clock.advance(LEASE)
        assert len(await store.claim_abandoned(owner="me", lease=LEASE, limit=9)) == 1

    async def test_decided_occurrence_stays_decided(self, store: HistoryStore) -> None:
        """Dispatched is not made skipped, nor skipped dispatched, and repeating either does no harm."""
        first, second = await claimed(store, START + MINUTE, START + MINUTE * 2)
        await store.mark_dispatched([named(first, "j")])
        await store.skip_claimed([second], reason="removed")
        before = await store.list_occurrences("nightly")
        await store.skip_claimed([first], reason="again")
        await store.mark_dispatched([named(second, "k"), named(first, "other")])
        assert await store.list_occurrences("nightly") == before
        assert [(it.state.value, it.job_id) for it in before] == [("skipped", None), ("dispatched", "j")]

    async def test_claim_of_a_deleted_schedule_can_still_be_settled(self, store: HistoryStore) -> None:
        """Whoever had it when the schedule went says what became of it."""
        first, second = await claimed(store, START + MINUTE, START + MINUTE * 2)
        await store.delete_schedule("nightly")
        await store.mark_dispatched([named(first, "j")])
        await store.skip_claimed([second], reason="removed")
        assert [it.state.value for it in await store.list_occurrences("nightly")] == ["skipped", "dispatched"]

    async def test_skips_are_recorded_once(self, store: HistoryStore) -> None:
        """The same span twice is one; a longer one from the same time takes its place; jobs are not touched."""
        await claimed(store, START + MINUTE)
        spans = [(2, 2, 1), (2, 2, 1), (2, 4, 3), (1, 1, 1)]
        for first, last, count in spans:
            skip = Skip(
                schedule_id="nightly",
                first_ms=to_ms(START + MINUTE * first),
                last_ms=to_ms(START + MINUTE * last),
                count=count,
                reason="busy",
            )
            store.note_skips([skip])
        await store.flush()
        found = await store.list_occurrences("nightly")
        assert [(it.fire_at, it.until, it.count, it.state.value) for it in found] == [
            (START + MINUTE * 2, START + MINUTE * 4, 3, "skipped"),
            (START + MINUTE, START + MINUTE, 1, "claimed"),
        ]

    async def test_unfinished_jobs_are_those_without_an_ending_run(self, store: HistoryStore) -> None:
        """A retry to come, an interruption and a lost run do not end a job; failing for good does."""
        outcomes: list[tuple[str, list[Run]]] = [
            ("none", []),
            ("running", [a_run("running", RunState.RUNNING)]),
            ("done", [a_run("done", RunState.FAILED, next_attempt_at_ms=1), a_run("done", attempt=2)]),
            ("retry", [a_run("retry", RunState.FAILED, next_attempt_at_ms=1)]),
            ("failed", [a_run("failed", RunState.FAILED)]),
            ("handed", [a_run("handed", RunState.INTERRUPTED)]),
            ("lost", [a_run("lost", RunState.LOST), a_run("lost", RunState.RUNNING, delivery=2)]),
            ("flow-run", [a_run("flow-run", id="flow-run")]),
            ("dead", [a_run("dead", RunState.DEAD)]),
        ]
        won = await claimed(store, *(START + MINUTE * n for n in range(1, len(outcomes) + 1)))
        assert await store.unfinished_counts(["nightly"]) == {"nightly": len(outcomes)}, "claimed ones are under way"
        await store.mark_dispatched([named(it, job_id) for it, (job_id, _) in zip(won, outcomes, strict=True)])
        await store.record_runs([run for _, runs in outcomes for run in runs])
        for _ in range(2):  # the second time from what the first one noted
            assert await store.unfinished_jobs("nightly") == ["none", "running", "retry", "handed", "lost"]
        assert await store.unfinished_counts(["nightly", "other"]) == {"nightly": 5, "other": 0}
        await store.record_runs([a_run("running"), a_run("retry", attempt=2), a_run("lost", delivery=2)])
        assert await store.unfinished_jobs("nightly") == ["none", "handed"]
