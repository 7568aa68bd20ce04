"""Overlap on Prefect: flow runs of one schedule settle in the ledger who runs, who waits and who is left out.

Prefect's own concurrency limits poll every half minute, know nothing of "let one wait", and count runs that were
started by hand. Each flow run is a process; they meet at a lock file, which the kernel releases when one dies.
What an occurrence has decided stands in the ledger: running, or queued with the reason that it waits.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from mahavishnu.engines.overlap import decide
from mahavishnu.engines.prefect.api import connect
from mahavishnu.engines.prefect.marks import fire_time_of, job_ids_of
from mahavishnu.engines.prefect.ownership import Ownership
from mahavishnu.execution.outcomes import running_run
from mahavishnu.model.policies import OverlapPolicy
from mahavishnu.model.run import RunFilter
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

    from mahavishnu.engines.overlap import Decision
    from mahavishnu.engines.prefect.host import Host
    from mahavishnu.execution.attempt import Attempt
    from mahavishnu.model.schedule import Schedule

__all__ = ["Turns"]

_LOCK_POLL_SECONDS = 0.02
_LOOK = timedelta(seconds=1)
# A process that dies writes nothing: look at Prefect too, now and then.
_LOOKS_PER_ASKING = 5
_MOST_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class _Others:
    """The other occurrences.

    Attributes:
        unfinished: How many have begun and not ended.
        waiting: The fire times of those that wait.
        undecided: The fire times of those that have just been started and will decide next.
    """

    unfinished: int
    waiting: list[datetime]
    undecided: list[datetime]


class Turns:
    """The turns of one schedule's occurrences, as one flow run sees them.

    Args:
        host: Whose ledger and state folder are used.
        schedule: As the ledger has it.
        deployment_id: The schedule's deployment.
        flow_run_id: This flow run.
    """

    def __init__(self, host: Host, schedule: Schedule, *, deployment_id: UUID, flow_run_id: UUID) -> None:
        self._host = host
        self._schedule = schedule
        self._deployment_id = deployment_id
        self._flow_run_id = flow_run_id
        self._lock = host.state_dir / "prefect" / "turns.lock"

    async def take(self, attempt: Attempt, fire_at: datetime, *, in_turn: bool) -> str | None:
        """Return once this occurrence may run, then recorded as running; or why it does not run.

        Args:
            attempt: The occurrence's first attempt.
            fire_at: Its fire time.
            in_turn: Whether it waits for its predecessors whatever the overlap policy.
        """
        if self._schedule.overlap is OverlapPolicy.ALLOW and self._schedule.max_running is None and not in_turn:
            return None
        async with self._alone():
            others = await self._others()
            decision = self._decide(fire_at, others, in_turn)
            if decision.run:
                await self._record(attempt, RunState.RUNNING, None)
                return None
            if decision.skip:
                return decision.skip[0][1]
            await self._record(attempt, RunState.QUEUED, decision.hold[0][1])
        return await self._wait(attempt, fire_at)

    def _decide(self, fire_at: datetime, others: _Others, in_turn: bool) -> Decision:
        if not in_turn or self._schedule.overlap is OverlapPolicy.ALLOW:
            return decide(self._schedule, [fire_at], others.unfinished, has_held=bool(others.waiting))
        # Missed ones that are made up: the shared rule has several at once wait for each other, oldest first.
        earlier = any(at < fire_at for at in others.undecided)
        return decide(self._schedule, [fire_at, fire_at], others.unfinished, has_held=bool(others.waiting) or earlier)

    async def _wait(self, attempt: Attempt, fire_at: datetime) -> str | None:
        """Return once it is this occurrence's turn, or why it never is."""
        seen, looks = -1, 0
        while True:
            version = await self._host.history.version()
            if version != seen or looks % _LOOKS_PER_ASKING == 0:
                seen = version
                [mine] = await self._host.history.list_runs(RunFilter(job_id=attempt.job_id, limit=1))
                if mine.is_final:
                    return mine.reason or "cancelled while it waited"
                async with self._alone():
                    others = await self._others()
                    if not others.unfinished and all(fire_at <= at for at in others.waiting + others.undecided):
                        await self._record(attempt, RunState.RUNNING, None)
                        return None
            looks += 1
            await self._host.history.changed(within=_LOOK)

    async def _others(self) -> _Others:
        others = _Others(0, [], [])
        unfinished = 0
        for flow_run in await self._live():
            due = fire_time_of(flow_run)
            [job_id, *_] = job_ids_of(flow_run)
            rows = await self._host.history.list_runs(RunFilter(job_id=job_id, limit=1))
            if not rows:
                if due is not None:
                    others.undecided.append(due)
            elif rows[0].state is RunState.QUEUED:
                if due is not None:  # one started by hand does not wait
                    others.waiting.append(due)
            elif not rows[0].ends_job:
                unfinished += 1
        return replace(others, unfinished=unfinished)

    async def _live(self) -> list[FlowRun]:
        """Return the other flow runs of the schedule that are starting or running."""
        live = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
        async with connect() as client:
            found = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[self._deployment_id]),
                    state=FlowRunFilterState(type=live),
                ),
                limit=_MOST_LOOKED_AT,
            )
        return [flow_run for flow_run in found if flow_run.id != self._flow_run_id]

    async def _record(self, attempt: Attempt, state: RunState, reason: str | None) -> None:
        run = running_run(attempt, self._host.clock.now_ms(), self._host.worker)
        if state is not RunState.RUNNING:
            run = msgspec.structs.replace(run, state=state, started_at_ms=None, reason=reason)
        await self._host.history.record_runs([run])

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None]:
        """Inside, no other flow run of this machine decides."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        ownership = Ownership(self._lock)
        while not ownership.acquire():  # noqa: ASYNC110 - the kernel tells nobody that a lock is free
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            ownership.release()
