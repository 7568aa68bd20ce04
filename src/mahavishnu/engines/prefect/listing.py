"""What a Prefect server holds for a project, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from mahavishnu.engines.prefect.instants import due_at
from mahavishnu.engines.prefect.timing import trigger_of
from mahavishnu.errors import MahavishnuError
from mahavishnu.triggers import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

    from mahavishnu.model.schedule import Schedule

__all__ = ["DeploymentInfo", "list_deployments", "read_deployments"]

_PAGE = 200
_MOST = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentInfo:
    """One deployment on the server.

    Attributes:
        id: Prefect's id of it.
        name: Its name, without the flow's.
        flow: The flow's name; of a registered workflow its key.
        schedule: When it runs, in words; empty where nothing but a request starts it.
        paused: Whether it is held.
        next_run: When it runs next (UTC), as far as Prefect has prepared runs.
        work_pool: The pool its runs go to; empty for none.
        status: Prefect's word: `READY`, or `NOT_READY` where no worker polls the pool.
        tags: Its tags.
        schedule_id: The schedule in the ledger that it belongs to.
    """

    id: str
    name: str
    flow: str
    schedule: str
    paused: bool
    next_run: datetime | None
    work_pool: str
    status: str
    tags: tuple[str, ...] = ()
    schedule_id: str | None = None


async def list_deployments(
    client: PrefectClient, schedules: Mapping[str, Schedule], *, tag: str | None, now: datetime
) -> list[DeploymentInfo]:
    """Return deployments by flow and name.

    Args:
        client: An open client.
        schedules: The ledger's, by the ids of their deployments.
        tag: Only those with this tag; `None`: all.
        now: The current instant, aware.
    """
    found = [it for it in await read_deployments(client) if tag is None or tag in it.tags]
    flows = await _flow_names(client, [it.id for it in found])
    nexts = await _next_runs(client, [it.id for it in found])
    infos = [
        DeploymentInfo(
            id=str(it.id),
            name=it.name,
            flow=flows.get(it.flow_id, ""),
            schedule=_words(it, schedules.get(str(it.id)), now),
            paused=it.paused,
            next_run=nexts.get(it.id),
            work_pool=it.work_pool_name or "",
            status="" if it.status is None else it.status.value,
            tags=tuple(it.tags),
            schedule_id=schedules[str(it.id)].id if str(it.id) in schedules else None,
        )
        for it in found
    ]
    return sorted(infos, key=lambda info: (info.flow, info.name))


async def read_deployments(client: PrefectClient) -> list[DeploymentResponse]:
    """Return every deployment on the server, at most two thousand."""
    found: list[DeploymentResponse] = []
    while len(found) < _MOST:
        page = await client.read_deployments(limit=_PAGE, offset=len(found))
        found += page
        if len(page) < _PAGE:
            break
    return found


async def _flow_names(client: PrefectClient, deployment_ids: Sequence[UUID]) -> dict[UUID, str]:
    names: dict[UUID, str] = {}
    for ids in _pages(deployment_ids):
        flows = await client.read_flows(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids)), limit=_PAGE
        )
        names |= {flow.id: flow.name for flow in flows}
    return names


async def _next_runs(client: PrefectClient, deployment_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when each deployment runs next; read as runs, for asking for scheduled ones counts as polling."""
    nexts: dict[UUID, datetime] = {}
    for ids in _pages(deployment_ids):
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=ids),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_PAGE,
        )
        for run in runs:
            due = due_at(run)
            if run.deployment_id is not None and due is not None:
                nexts.setdefault(run.deployment_id, due)
    return nexts


def _words(deployment: DeploymentResponse, schedule: Schedule | None, now: datetime) -> str:
    if schedule is not None:
        return build(schedule.trigger).describe()
    return "; ".join(_in_words(it.schedule, now) for it in deployment.schedules)


def _in_words(schedule: SCHEDULE_TYPES, now: datetime) -> str:
    try:
        spec = trigger_of(schedule, now)
    except MahavishnuError:  # made by a person in Prefect, who may write what we would not
        spec = None
    if spec is not None:
        return build(spec).describe()
    return getattr(schedule, "rrule", "") or getattr(schedule, "cron", "") or type(schedule).__name__


def _pages(ids: Sequence[UUID]) -> list[list[UUID]]:
    return [list(ids[at : at + _PAGE]) for at in range(0, len(ids), _PAGE)]
