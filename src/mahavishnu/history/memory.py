"""The ledger in this process's memory: for tests, and for work whose history nobody will ask for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from mahavishnu.errors import RunNotFoundError, ScheduleExistsError, ScheduleNotFoundError, StorageError
from mahavishnu.history.rows import may_replace, schedule_from_row, schedule_row
from mahavishnu.history.schedules import SCHEDULE_REMOVED, first_stored, last_decided, paused_or_resumed, replaced
from mahavishnu.history.waiting import WriteSignal
from mahavishnu.model.instants import from_ms, to_ms
from mahavishnu.model.schedule import Occurrence, OnConflict, ScheduleState
from mahavishnu.model.states import OccurrenceState, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime, timedelta

    from mahavishnu.clock import Clock
    from mahavishnu.history.store import Advance, ProcessInfo, Request, RequestKind, Skip
    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.run import Run, RunFilter
    from mahavishnu.model.schedule import Schedule

__all__ = ["MemoryHistory"]

K_ = TypeVar("K_")
V_ = TypeVar("V_")
_OPEN = frozenset({OccurrenceState.CLAIMED, OccurrenceState.HELD})
_DECIDED = frozenset({OccurrenceState.DISPATCHED, OccurrenceState.SKIPPED})


@dataclass(slots=True)
class _Entry:
    """A run, when it began or was due, and its place in the order of recording."""

    run: Run
    at_ms: int
    ended_ms: int
    place: int


@dataclass(slots=True)
class _Kept:
    """An occurrence and how long its owner may take to dispatch it."""

    occurrence: Occurrence
    lease_until: datetime | None = None


class MemoryHistory:
    """A ledger in memory; see `HistoryStore` for what each method promises. Nothing survives the process.

    Args:
        clock: Tells when things were decided.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._is_open = False
        self._schedules: dict[str, Schedule] = {}
        self._occurrences: dict[tuple[str, datetime], _Kept] = {}
        self._runs: dict[str, _Entry] = {}
        self._requests: dict[str, Request] = {}
        self._processes: dict[str, ProcessInfo] = {}
        self._writes = 0
        self._steered = 0
        self._places = count()
        self._signal = WriteSignal()

    @property
    def url(self) -> str:
        """Where it is kept."""
        return "memory:"

    async def open(self) -> None:
        """Begin to take calls. Idempotent."""
        self._is_open = True

    async def close(self) -> None:
        """Refuse calls until opened again. Idempotent."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError(self.url, "the ledger is closed", "open it first")

    def _write(self) -> None:
        self._check_open()
        self._writes += 1

    def _steer(self) -> None:
        self._steered += 1

    # --- schedules ---

    async def put_schedule(self, schedule: Schedule, *, on_conflict: OnConflict) -> Schedule:
        """Store a schedule and return it as stored."""
        self._write()
        old = self._schedules.get(schedule.id)
        now = self._clock.now()
        if old is None:
            return self._stored(first_stored(schedule, now))
        if on_conflict is OnConflict.ERROR:
            raise ScheduleExistsError(schedule.id)
        return old if on_conflict is OnConflict.KEEP else self._stored(replaced(old, schedule, now))

    def _stored(self, schedule: Schedule) -> Schedule:
        """Keep a schedule as a file would, apart from the caller's own mappings."""
        stored = self._schedules[schedule.id] = schedule_from_row(tuple(schedule_row(schedule).values()))
        self._steer()
        return stored

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """Return one schedule."""
        self._check_open()
        try:
            return self._schedules[schedule_id]
        except KeyError:
            raise ScheduleNotFoundError(schedule_id) from None

    async def list_schedules(self, *, engine: EngineName | None = None, task: str | None = None) -> list[Schedule]:
        """Return schedules by id."""
        self._check_open()
        found = [it for it in self._schedules.values() if engine in {None, it.engine} and task in {None, it.task}]
        return sorted(found, key=lambda it: it.id)

    async def schedule_revisions(self, engine: EngineName) -> dict[str, int]:
        """Return the revision of each of the engine's schedules by id."""
        self._check_open()
        return {it.id: it.revision for it in self._schedules.values() if it.engine is engine}

    async def set_paused(self, schedule_id: str, paused: bool, *, next_fire_at: datetime | None) -> Schedule:
        """Pause or resume a schedule."""
        old = await self.get_schedule(schedule_id)
        self._write()
        return self._stored(paused_or_resumed(old, paused, next_fire_at, self._clock.now()))

    async def set_external_id(self, schedule_id: str, external_id: str | None) -> None:
        """Remember the engine's own name for the schedule."""
        old = await self.get_schedule(schedule_id)
        self._write()
        self._schedules[schedule_id] = replace(old, external_id=external_id)

    async def delete_schedule(self, schedule_id: str) -> None:
        """Forget a schedule. What it held is skipped; what somebody has claimed is left to them."""
        await self.get_schedule(schedule_id)
        self._write()
        del self._schedules[schedule_id]
        self._steer()
        held = [kept.occurrence for kept in self._in_state(OccurrenceState.HELD)]
        await self.skip_claimed([it for it in held if it.schedule_id == schedule_id], reason=SCHEDULE_REMOVED)

    # --- occurrences ---

    def _waiting(self, engine: EngineName) -> list[tuple[datetime, str]]:
        active = (it for it in self._schedules.values() if it.engine is engine and it.state is ScheduleState.ACTIVE)
        return sorted((it.next_fire_at, it.id) for it in active if it.next_fire_at is not None)

    async def due_schedules(self, engine: EngineName, now: datetime, *, limit: int) -> list[Schedule]:
        """Return active schedules that are due, earliest first."""
        self._check_open()
        return [self._schedules[name] for at, name in self._waiting(engine) if at <= now][:limit]

    async def next_due(self, engine: EngineName) -> datetime | None:
        """Return the earliest next fire time of any active schedule."""
        self._check_open()
        return next((at for at, _ in self._waiting(engine)), None)

    async def advance(self, advances: Sequence[Advance], *, owner: str, lease: timedelta) -> list[Occurrence]:
        """Step schedules past fire times, each only if nobody else did so first."""
        self._write()
        now = self._clock.now()
        steps = [step for step in advances if self._moved(step)]
        won = [self._claimed(step, at, owner, now + lease) for step in steps for at in step.dispatch]
        for step in steps:
            for at, reason in step.hold:
                held = replace(self._occurrence(step, at), state=OccurrenceState.HELD, reason=reason)
                self._insert(step, held, None)
            self._skip(step.skips)
        return [it for it in won if it is not None]

    def _moved(self, step: Advance) -> bool:
        stored, read = self._schedules.get(step.schedule.id), step.schedule
        if stored is None or stored.state is not ScheduleState.ACTIVE:
            return False
        if (stored.revision, stored.next_fire_at) != (read.revision, read.next_fire_at):
            return False
        skipped = from_ms(max(skip.last_ms for skip in step.skips)) if step.skips else None
        self._schedules[stored.id] = replace(
            stored,
            next_fire_at=step.next_fire_at,
            last_fire_at=last_decided(step, skipped) or stored.last_fire_at,
            state=ScheduleState.ENDED if step.next_fire_at is None else stored.state,
        )
        return True

    def _claimed(self, step: Advance, at: datetime, owner: str, lease_until: datetime) -> Occurrence | None:
        occurrence = replace(self._occurrence(step, at), owner=owner)
        return occurrence if self._insert(step, occurrence, lease_until) else None

    def _occurrence(self, step: Advance, at: datetime) -> Occurrence:
        return Occurrence(
            schedule_id=step.schedule.id,
            fire_at=at,
            state=OccurrenceState.CLAIMED,
            until=at,
            decided_at=self._clock.now(),
            revision=step.schedule.revision,
        )

    def _insert(self, step: Advance, occurrence: Occurrence, lease_until: datetime | None) -> bool:
        """Insert an occurrence; false if this fire time was decided before in the schedule's present life."""
        key = (occurrence.schedule_id, occurrence.fire_at)
        old = self._occurrences.get(key)
        if old is not None and not self._from_earlier_life(old.occurrence, step):
            return False
        self._occurrences[key] = _Kept(occurrence, lease_until)
        return True

    @staticmethod
    def _from_earlier_life(old: Occurrence, step: Advance) -> bool:
        created, decided = step.schedule.created_at, old.decided_at
        return old.state in _DECIDED and created is not None and decided is not None and decided < created

    async def mark_dispatched(self, occurrences: Sequence[Occurrence]) -> None:
        """Record that occurrences became the jobs named in their `job_id`."""
        self._decide(replace(it, state=OccurrenceState.DISPATCHED) for it in occurrences)

    async def skip_claimed(self, occurrences: Sequence[Occurrence], *, reason: str) -> None:
        """Record that claimed or held occurrences will not run after all."""
        self._decide(replace(it, state=OccurrenceState.SKIPPED, job_id=None, reason=reason) for it in occurrences)

    def _decide(self, decided: Iterable[Occurrence]) -> None:
        self._write()
        for it in decided:
            kept = self._occurrences.get((it.schedule_id, it.fire_at))
            if kept is None or kept.occurrence.state not in _DECIDED:
                done = replace(it, decided_at=self._clock.now())
                self._occurrences[it.schedule_id, it.fire_at] = _Kept(done)

    async def release_held(
        self, occurrences: Sequence[Occurrence], *, owner: str, lease: timedelta
    ) -> list[Occurrence]:
        """Claim held occurrences for dispatch."""
        self._write()
        keys = [(it.schedule_id, it.fire_at) for it in occurrences]
        found = [self._occurrences[key] for key in keys if key in self._occurrences]
        held = [kept for kept in found if kept.occurrence.state is OccurrenceState.HELD]
        return [self._taken(kept, owner, lease) for kept in held]

    def _taken(self, kept: _Kept, owner: str, lease: timedelta) -> Occurrence:
        now = self._clock.now()
        kept.lease_until = now + lease
        kept.occurrence = replace(kept.occurrence, state=OccurrenceState.CLAIMED, owner=owner, decided_at=now)
        return kept.occurrence

    async def has_open_occurrences(self) -> bool:
        """Return whether any occurrence is held, or claimed and not dispatched."""
        self._check_open()
        return any(kept.occurrence.state in _OPEN for kept in self._occurrences.values())

    async def claim_abandoned(self, *, owner: str, lease: timedelta, limit: int) -> list[Occurrence]:
        """Take over claimed occurrences whose lease ran out."""
        self._write()
        now = self._clock.now()
        claimed = self._in_state(OccurrenceState.CLAIMED)
        lapsed = [kept for kept in claimed if kept.lease_until is not None and kept.lease_until <= now]
        return [self._taken(kept, owner, lease) for kept in lapsed[:limit]]

    def _in_state(self, state: OccurrenceState) -> list[_Kept]:
        found = [kept for kept in self._occurrences.values() if kept.occurrence.state is state]
        return sorted(found, key=lambda kept: (kept.occurrence.fire_at, kept.occurrence.schedule_id))

    async def held_occurrences(self) -> list[Occurrence]:
        """Return every held occurrence, oldest first."""
        self._check_open()
        return [kept.occurrence for kept in self._in_state(OccurrenceState.HELD)]

    def note_skips(self, skips: Sequence[Skip]) -> None:
        """Record fire times that were deliberately not run."""
        self._write()
        self._skip(skips)

    def _skip(self, skips: Iterable[Skip]) -> None:
        for skip in skips:
            key = (skip.schedule_id, from_ms(skip.first_ms))
            old = self._occurrences.get(key)
            if old is None or (old.occurrence.state is OccurrenceState.SKIPPED and old.occurrence.count < skip.count):
                self._occurrences[key] = _Kept(self._skipped(skip))

    def _skipped(self, skip: Skip) -> Occurrence:
        return Occurrence(
            schedule_id=skip.schedule_id,
            fire_at=from_ms(skip.first_ms),
            until=from_ms(skip.last_ms),
            state=OccurrenceState.SKIPPED,
            count=skip.count,
            reason=skip.reason,
            decided_at=self._clock.now(),
        )

    async def list_occurrences(self, schedule_id: str, *, limit: int = 100) -> list[Occurrence]:
        """Return what became of fire times of one schedule, newest first."""
        self._check_open()
        found = [kept.occurrence for key, kept in self._occurrences.items() if key[0] == schedule_id]
        return sorted(found, key=lambda it: it.fire_at, reverse=True)[:limit]

    async def unfinished_jobs(self, schedule_id: str) -> list[str]:
        """Return dispatched jobs without a run that ends them, oldest first."""
        self._check_open()
        dispatched = [it.occurrence for it in self._in_state(OccurrenceState.DISPATCHED)]
        jobs = [it.job_id for it in dispatched if it.schedule_id == schedule_id and it.job_id is not None]
        ended = self._ended()
        return [job_id for job_id in jobs if job_id not in ended]

    async def unfinished_counts(self, schedule_ids: Collection[str]) -> dict[str, int]:
        """Return how many claimed occurrences and dispatched jobs of each schedule have not ended yet."""
        claimed = Counter(
            kept.occurrence.schedule_id
            for kept in self._occurrences.values()
            if kept.occurrence.state is OccurrenceState.CLAIMED
        )
        return {name: len(await self.unfinished_jobs(name)) + claimed[name] for name in schedule_ids}

    # --- runs ---

    async def record_runs(self, runs: Sequence[Run]) -> None:
        """Write runs."""
        self.note_runs(runs)

    def note_runs(self, runs: Sequence[Run]) -> None:
        """Write runs."""
        self._write()
        for run in runs:
            old = self._runs.get(run.id)
            if old is None or may_replace(old.run.state, run.state):
                self._runs[run.id] = self._entry(run, next(self._places) if old is None else old.place)
        self._signal.notify()

    def _entry(self, run: Run, place: int) -> _Entry:
        now_ms = self._clock.now_ms()
        times = (run.started_at_ms, run.scheduled_for_ms, run.finished_at_ms)
        at_ms = next((it for it in times if it is not None), now_ms)
        return _Entry(run, at_ms, now_ms if run.finished_at_ms is None else run.finished_at_ms, place)

    async def flush(self) -> None:
        """Return: nothing waits."""
        self._check_open()

    def _newest_first(self, wanted: Callable[[_Entry], bool]) -> list[Run]:
        self._check_open()
        found = [entry for entry in self._runs.values() if wanted(entry)]
        return [it.run for it in sorted(found, key=lambda it: (it.at_ms, it.place), reverse=True)]

    async def list_runs(self, where: RunFilter) -> list[Run]:
        """Return runs, newest first."""
        names = ("schedule_id", "task", "engine", "state", "job_id", "parent_id")
        facts = [(name, getattr(where, name)) for name in names if getattr(where, name) is not None]
        since_ms = None if where.since is None else to_ms(where.since)

        def wanted(entry: _Entry) -> bool:
            recent = since_ms is None or entry.at_ms >= since_ms
            return recent and all(getattr(entry.run, name) == value for name, value in facts)

        return self._newest_first(wanted)[: where.limit]

    async def get_run(self, run_or_job_id: str) -> Run:
        """Return one run by its id, or a job's latest run by the job's id."""
        attempts = self._newest_first(lambda it: it.run.job_id == run_or_job_id)
        if run_or_job_id in self._runs:
            return self._runs[run_or_job_id].run
        if not attempts:
            raise RunNotFoundError(run_or_job_id)
        return attempts[0]

    async def ended_jobs(self, job_ids: Collection[str]) -> dict[str, Run]:
        """Return, for each of these jobs that has ended, the run that ended it."""
        ended = self._ended()
        return {job_id: ended[job_id] for job_id in job_ids if job_id in ended}

    def _ended(self) -> dict[str, Run]:
        return {run.job_id: run for run in reversed(self._newest_first(lambda it: it.run.ends_job))}

    async def lost_runs(self, worker_prefix: str) -> list[Run]:
        """Return runs still running in the ledger whose worker starts with this prefix."""
        running = self._newest_first(lambda it: it.run.state is RunState.RUNNING)
        return [run for run in reversed(running) if (run.worker or "\0").startswith(worker_prefix)]

    # --- between processes ---

    async def changed(self, *, within: timedelta) -> None:
        """Return once this process has written runs, or after `within`."""
        self._check_open()
        await self._signal.wait(within)

    async def version(self) -> int:
        """Return a number that changes with every write."""
        self._check_open()
        return self._writes

    async def steering_version(self) -> int:
        """Return a number that changes with every schedule stored or removed, and every request."""
        self._check_open()
        return self._steered

    async def ask(self, request: Request) -> None:
        """Leave a request for whoever holds its target."""
        self._write()
        self._steer()
        self._requests.setdefault(request.id, request)

    async def take_requests(self, kind: RequestKind, targets: Collection[str] | None) -> list[Request]:
        """Remove and return requests of this kind for these targets."""
        self._check_open()
        taken = [it for it in self._requests.values() if it.kind is kind and (targets is None or it.target in targets)]
        for request in taken:
            self._write()
            del self._requests[request.id]
        return sorted(taken, key=lambda it: (it.asked_ms, it.id))

    async def report_process(self, process: ProcessInfo) -> None:
        """Say that this process is alive."""
        self._write()
        self._processes[process.id] = process

    async def forget_process(self, process_id: str) -> None:
        """Say that this process has stopped."""
        self._write()
        self._processes.pop(process_id, None)

    async def list_processes(self, *, seen_since_ms: int) -> list[ProcessInfo]:
        """Return processes that reported since then."""
        self._check_open()
        recent = [it for it in self._processes.values() if it.seen_ms >= seen_since_ms]
        return sorted(recent, key=lambda it: (it.started_ms, it.id))

    # --- retention ---

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` rows decided before `before`."""
        self._write()
        before_ms = to_ms(before)
        left = limit
        left -= _delete(self._occurrences, left, lambda it: _is_old(it.occurrence, before))
        left -= _delete(self._runs, left, lambda it: it.run.is_final and max(it.at_ms, it.ended_ms) < before_ms)
        left -= _delete(self._requests, left, lambda it: it.asked_ms < before_ms)
        left -= _delete(self._processes, left, lambda it: it.seen_ms < before_ms)
        return limit - left


def _is_old(occurrence: Occurrence, before: datetime) -> bool:
    return occurrence.state in _DECIDED and occurrence.decided_at is not None and occurrence.decided_at < before


def _delete(table: dict[K_, V_], most: int, old: Callable[[V_], bool]) -> int:
    keys = [key for key, value in table.items() if old(value)][:most]
    for key in keys:
        del table[key]
    return len(keys)
