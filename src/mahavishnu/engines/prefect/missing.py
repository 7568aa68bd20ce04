"""Fire times that Prefect has made no run for: made up for, or recorded as skipped, by the schedule's policy.

Prefect prepares only the next few runs. Those due while its server was down, and those it drops when a deployment
is written to, would otherwise vanish without a trace.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.states import Scheduled

from mahavishnu.engines.prefect.instants import due_at
from mahavishnu.history.store import HistoryStore, Skip
from mahavishnu.model.instants import to_ms
from mahavishnu.model.run import RunFilter
from mahavishnu.model.schedule import Schedule, ScheduleState
from mahavishnu.triggers import build, due_times, plan_due

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from prefect.client.orchestration import PrefectClient
    from prefect.types import DateTime

    from mahavishnu.clock import Clock

__all__ = ["Missing", "MissingTimes", "plan_missing"]

_PAGE = 200
_MOST = 10_000
# Until then Prefect may still make the run itself.
_PATIENCE = timedelta(seconds=45)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is to be done about fire times without a run.

    Attributes:
        make: Those that are to run after all.
        skips: The others.
    """

    make: Sequence[datetime]
    skips: Sequence[Skip]


def plan_missing(schedule: Schedule, due: Sequence[datetime], present: Collection[datetime], now: datetime) -> Missing:
    """Decide about the fire times of `due` that are not `present`. Pure.

    Args:
        schedule: Whose.
        due: All fire times since the last ones that were accounted for, ascending.
        present: When runs that exist were due; Prefect keeps single dates to the second.
        now: The current instant, aware.
    """
    plan = plan_due(due, now, schedule.misfire)
    there = sorted(present)
    make = [at for at in plan.run if not _is_near(at, there)]
    skips: list[Skip] = []
    for span in plan.skipped:
        left = [to_ms(at) for at in due if span.first <= at <= span.last and not _is_near(at, there)]
        if left:
            skips.append(
                Skip(
                    schedule_id=schedule.id,
                    first_ms=left[0],
                    last_ms=left[-1],
                    count=len(left),
                    reason=f"{span.reason} (Prefect had made no run for it)",
                )
            )
    return Missing(make=make, skips=skips)


class MissingTimes:
    """Looks for fire times without a run, for as long as this process keeps the project's schedules.

    Args:
        history: The ledger.
        clock: Source of time.
    """

    def __init__(self, *, history: HistoryStore, clock: Clock) -> None:
        self._history = history
        self._clock = clock
        self._accounted: dict[tuple[str, int], datetime] = {}

    async def look(self, client: PrefectClient, schedules: Sequence[Schedule]) -> None:
        """Account for every fire time up to a moment ago.

        Args:
            client: An open client.
            schedules: Those of registered workflows, each with its deployment.
        """
        now = self._clock.now()
        for schedule in schedules:
            if schedule.state is ScheduleState.ACTIVE and schedule.external_id is not None:
                await self._look_at(client, schedule, now)

    async def _look_at(self, client: PrefectClient, schedule: Schedule, now: datetime) -> None:
        key = (schedule.id, schedule.revision)
        since = self._accounted.get(key) or await self._accounted_until(schedule)
        until = now - _PATIENCE
        due = due_times(build(schedule.trigger), since, until) if until > since else ()
        if due:
            present = await self._present(client, UUID(schedule.external_id), since)
            missing = plan_missing(schedule, due, present, now)
            for at in missing.make:
                await self._make(client, schedule, at)
            self._history.note_skips(missing.skips)
        self._accounted[key] = max(until, since)

    async def _accounted_until(self, schedule: Schedule) -> datetime:
        """Return from when on the ledger knows nothing of the schedule's fire times."""
        known = [at for at in (schedule.updated_at, schedule.created_at) if at is not None]
        runs = await self._history.list_runs(RunFilter(schedule_id=schedule.id, limit=_PAGE))
        known += [run.scheduled_for for run in runs if run.scheduled_for is not None]
        known += [occurrence.until for occurrence in await self._history.list_occurrences(schedule.id, limit=1)]
        return max(known, default=self._clock.now())

    async def _present(self, client: PrefectClient, deployment_id: UUID, since: datetime) -> list[datetime]:
        where = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=cast("DateTime", since)),
        )
        found: list[datetime] = []
        while len(found) < _MOST:
            page = await client.read_flow_runs(flow_run_filter=where, limit=_PAGE, offset=len(found))
            found += filter(None, map(due_at, page))
            if len(page) < _PAGE:
                break
        return found

    async def _make(self, client: PrefectClient, schedule: Schedule, at: datetime) -> None:
        assert schedule.external_id is not None
        await client.create_flow_run_from_deployment(
            UUID(schedule.external_id),
            parameters={"fire_at": at.isoformat()},
            state=Scheduled(scheduled_time=at),
            idempotency_key=f"mahavishnu:{schedule.id}:{to_ms(at)}",
        )


def _is_near(at: datetime, times: Sequence[datetime]) -> bool:
    """Return whether an instant is among these, in ascending order, give or take a second."""
    place = bisect_left(times, at - _SECOND)
    return place < len(times) and times[place] <= at + _SECOND
