"""What became of flow runs, read back into the ledger: of users' own flows, and of runs whose process died.

Runs of registered workflows write their own rows. Only where such a flow run has ended and a job of it has not,
because its process was killed, cancelled or never came to be, is the end recorded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

import msgspec
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from mahavishnu.engines.prefect.instants import ended_at, started_at
from mahavishnu.engines.prefect.marks import FLOW_RUN_LABEL, FLOW_TAG, fire_time_of, job_ids_of
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.run import Run, RunFilter, run_id
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import Events, RunFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.types import DateTime

    from mahavishnu.clock import Clock
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.model.schedule import Schedule

__all__ = ["Readback", "end_of"]

_PAGE = 200
_MOST = 10_000
# Between an end on the server and its being seen here; looked at again, which changes nothing.
_MARGIN = timedelta(minutes=2)
_FIRST_LOOK_BACK = timedelta(days=30)
_LIVE = [StateType.RUNNING, StateType.CANCELLING]
_BAD = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]


@dataclass(frozen=True, slots=True)
class End:
    """How a flow run ended, in the ledger's words."""

    state: RunState
    reason: str | None = None
    error: str | None = None


class Readback:
    """Reads flow runs of one ledger's deployments back into it.

    Args:
        history: The ledger.
        events: Told of ends that are news.
        clock: Source of time.
        tag: What those deployments and their runs are tagged with.
        announces: Whether ends that are news are told here; several processes may read the same.
    """

    def __init__(
        self, *, history: HistoryStore, events: Events, clock: Clock, tag: str, announces: Callable[[], bool]
    ) -> None:
        self._history = history
        self._events = events
        self._clock = clock
        self._tag = tag
        self._announces = announces
        self._since: datetime | None = None
        self._known: set[UUID] = set()
        self._flow_names: dict[UUID, str] = {}
        self.is_busy = False

    async def read(self, client: PrefectClient, schedules: Mapping[str, Schedule]) -> None:
        """Record what has happened since the last call.

        Args:
            client: An open client.
            schedules: Schedules by the ids of their deployments.
        """
        since = self._since or await self._first_since(client, schedules)
        began = self._clock.now()
        live = await self._find(client, state=_states(_LIVE))
        own = [run for run in live if FLOW_TAG in run.tags and run.id not in self._known]
        if own:
            rows = [await self._row(client, run, End(RunState.RUNNING), schedules) for run in own]
            await self._history.record_runs(rows)
            self._known.update(run.id for run in own)
        ended = await self._find(client, end_time=FlowRunFilterEndTime(after_=cast("DateTime", since)))
        await self._settle(client, [run for run in ended if run.parent_task_run_id is None], schedules)
        self._known.difference_update(run.id for run in ended)
        self._since = began - _MARGIN
        self.is_busy: bool = bool(live)

    async def _first_since(self, client: PrefectClient, schedules: Mapping[str, Schedule]) -> datetime:
        """Settle what the ledger still holds as live, and return from when on ends may have been missed."""
        open_runs: list[Run] = []
        for state in (RunState.RUNNING, RunState.QUEUED, RunState.SCHEDULED):
            where = RunFilter(engine=EngineName.PREFECT, state=state, limit=_MOST)
            open_runs += await self._history.list_runs(where)
        ids = {run.labels[FLOW_RUN_LABEL] for run in open_runs if run.labels and FLOW_RUN_LABEL in run.labels}
        for page in _pages(sorted(ids)):
            found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=page)))
            await self._settle(
                client, [run for run in found if run.state is not None and run.state.is_final()], schedules
            )
        latest = await self._history.list_runs(RunFilter(engine=EngineName.PREFECT, limit=1))
        started = latest[0].started_at if latest else None
        floor = self._clock.now() - _FIRST_LOOK_BACK
        return floor if started is None else max(floor, started - timedelta(hours=1))

    async def _find(
        self,
        client: PrefectClient,
        *,
        state: FlowRunFilterState | None = None,
        end_time: FlowRunFilterEndTime | None = None,
    ) -> list[FlowRun]:
        where = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._tag]), state=state, end_time=end_time)
        found: list[FlowRun] = []
        while len(found) < _MOST:
            page = await client.read_flow_runs(
                flow_run_filter=where, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(found)
            )
            found += page
            if len(page) < _PAGE:
                break
        return found

    async def _settle(
        self, client: PrefectClient, flow_runs: Sequence[FlowRun], schedules: Mapping[str, Schedule]
    ) -> None:
        rows: list[Run] = []
        for flow_run in flow_runs:
            end = end_of(flow_run)
            if end is None:
                continue
            if FLOW_TAG in flow_run.tags:
                rows.append(await self._row(client, flow_run, end, schedules))
            elif flow_run.state is not None and flow_run.state.type in _BAD and flow_run.state.name != "Skipped":
                rows += await self._left_open(client, flow_run, end, schedules)
        news = await self._news(rows)
        if news:
            await self._history.record_runs(news)
        for run in news if self._announces() else ():
            self._events.emit(RunFinished(run))

    async def _news(self, rows: Sequence[Run]) -> list[Run]:
        """Return those rows that the ledger does not have as ended."""
        ended = await self._history.ended_jobs([row.job_id for row in rows]) if rows else {}
        return [row for row in rows if row.job_id not in ended or ended[row.job_id].attempt < row.attempt]

    async def _left_open(
        self, client: PrefectClient, flow_run: FlowRun, end: End, schedules: Mapping[str, Schedule]
    ) -> list[Run]:
        """Return ends for the jobs of a flow run that have none."""
        ids = job_ids_of(flow_run)
        ended = await self._history.ended_jobs(ids)
        rows: list[Run] = []
        for job_id in ids:
            if job_id in ended:
                continue
            known = await self._history.list_runs(RunFilter(job_id=job_id, limit=1))
            row = await self._row(client, flow_run, end, schedules)
            base = known[0] if known else msgspec.structs.replace(row, id=run_id(job_id, 1), job_id=job_id)
            rows.append(_ended(base, end, row.finished_at_ms or self._clock.now_ms()))
        return rows

    async def _row(self, client: PrefectClient, flow_run: FlowRun, end: End, schedules: Mapping[str, Schedule]) -> Run:
        """Return a flow run as a row of its own."""
        schedule = schedules.get(str(flow_run.deployment_id))
        task = schedule.task if schedule is not None else await self._flow_name(client, flow_run.flow_id)
        return _row(flow_run, end, task, None if schedule is None else schedule.id)

    async def _flow_name(self, client: PrefectClient, flow_id: UUID) -> str:
        if flow_id not in self._flow_names:
            self._flow_names[flow_id] = (await client.read_flow(flow_id)).name
        return self._flow_names[flow_id]


def end_of(flow_run: FlowRun) -> End | None:
    """Return how a flow run ended; `None`: it has not."""
    state = flow_run.state
    if state is None or not state.is_final():
        return None
    message = (state.message or "").strip()[:1000]
    if state.is_completed():
        return End(RunState.SUCCEEDED)
    if state.is_cancelled():
        return End(RunState.CANCELLED, reason=message or "cancelled in Prefect")
    if state.is_crashed():
        return End(RunState.FAILED, error=f"Crashed: {message or 'the process that ran it died'}")
    timed_out = state.name == "TimedOut"
    return End(RunState.TIMED_OUT if timed_out else RunState.FAILED, error=message or "failed in Prefect")


def _ended(run: Run, end: End, finished_ms: int) -> Run:
    """Return the run ended; the next attempt in its place, where it was waited for."""
    if run.next_attempt_at_ms is not None:
        again = run.state is RunState.SNOOZED
        attempt, delivery = (run.attempt, run.delivery + 1) if again else (run.attempt + 1, 1)
        run = msgspec.structs.replace(
            run,
            id=run_id(run.job_id, attempt, delivery),
            attempt=attempt,
            delivery=delivery,
            started_at_ms=None,
            next_attempt_at_ms=None,
            traceback=None,
            result=None,
        )
    return msgspec.structs.replace(run, state=end.state, finished_at_ms=finished_ms, reason=end.reason, error=end.error)


def _row(flow_run: FlowRun, end: End, task: str, schedule_id: str | None) -> Run:
    job_id = flow_run.id.hex
    due = fire_time_of(flow_run)
    attempt = max(1, flow_run.run_count) if FLOW_TAG in flow_run.tags else 1
    worker = flow_run.labels.get("prefect.worker.name")
    return Run(
        id=run_id(job_id, attempt),
        job_id=job_id,
        task=str(flow_run.parameters.get("workflow") or task) if FLOW_TAG not in flow_run.tags else task,
        engine=EngineName.PREFECT,
        state=end.state,
        attempt=attempt,
        schedule_id=schedule_id,
        scheduled_for_ms=_ms(due),
        started_at_ms=_ms(started_at(flow_run)),
        finished_at_ms=_ms(ended_at(flow_run)),
        worker=None if worker is None else str(worker),
        reason=end.reason,
        error=end.error,
        labels={FLOW_RUN_LABEL: str(flow_run.id)},
    )


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)


def _states(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _pages(ids: Collection[str]) -> list[list[UUID]]:
    every = [UUID(it) for it in ids]
    return [every[at : at + _PAGE] for at in range(0, len(every), _PAGE)]
