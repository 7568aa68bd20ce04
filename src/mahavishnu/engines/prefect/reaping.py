"""Gives runs of a dead worker their end: Prefect leaves them Running for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

if TYPE_CHECKING:
    from datetime import datetime

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

__all__ = ["reap", "unfinished_of"]

_WORKER_LABEL = "prefect.worker.name"
_PAGE = 200
# A worker claims a run a moment before it puts its name on it.
_NAMELESS_GRACE = timedelta(minutes=1)


async def reap(client: PrefectClient, *, work_pool: str, worker: str, before: datetime) -> list[str]:
    """Set `Crashed` on what a worker left unfinished when it ended.

    Args:
        client: An open client.
        work_pool: The pool it polled.
        worker: Its name.
        before: When it had ended; runs whose state is newer belong to its successor of the same name.

    Returns:
        The ids of the runs that were given an end.
    """
    left = [run for run in await _unfinished(client, work_pool) if _was_left(run, worker, before)]
    for run in left:
        state = Crashed(message=f"Worker {worker!r} ended while it ran this.")
        await client.set_flow_run_state(run.id, state, force=True)
    return [str(run.id) for run in left]


async def unfinished_of(client: PrefectClient, *, work_pool: str, worker: str) -> list[FlowRun]:
    """Return what a worker has in hand: runs that are starting or running."""
    return [run for run in await _unfinished(client, work_pool) if run.labels.get(_WORKER_LABEL) == worker]


async def _unfinished(client: PrefectClient, work_pool: str) -> list[FlowRun]:
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    found: list[FlowRun] = []
    while len(found) % _PAGE == 0:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool])),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if not page:
            break
    return found


def _was_left(run: FlowRun, worker: str, before: datetime) -> bool:
    if run.state is None:
        return False
    owner = run.labels.get(_WORKER_LABEL)
    if owner is None:
        return run.state.is_pending() and run.state.timestamp < before - _NAMELESS_GRACE
    return owner == worker and run.state.timestamp < before
