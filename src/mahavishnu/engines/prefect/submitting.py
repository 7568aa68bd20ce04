"""Single jobs as flow runs: of their schedule's deployment, of their workflow's, or right here inside a flow."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from mahavishnu.engines.prefect.contexts import json_context
from mahavishnu.engines.prefect.deploying import Deployer, put_in_order, refuse_options
from mahavishnu.engines.prefect.flow import run_workflow
from mahavishnu.engines.prefect.host import CURRENT_HOST, Host
from mahavishnu.engines.prefect.jobs import JobSpec
from mahavishnu.engines.prefect.marks import FLOW_LABEL, FLOW_RUN_LABEL, deployment_name, job_ids_of
from mahavishnu.errors import DeploymentNotFoundError, EngineUnavailableError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id
from mahavishnu.model.instants import to_ms
from mahavishnu.model.job import EnqueuedJob, JobRequest
from mahavishnu.model.run import Run, run_id
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

    from mahavishnu.clock import Clock
    from mahavishnu.engines.prefect.site import Site
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["Submitter", "polling_workers"]

_MILLISECOND = timedelta(milliseconds=1)


class Submitter:
    """Turns requests into flow runs.

    Args:
        site: Where the server is.
        deployer: Makes the deployments of workflows.
        registry: The workflows.
        history: The ledger.
        clock: Source of time.
        work_pool: Where jobs without a schedule run.
    """

    def __init__(
        self,
        *,
        site: Site,
        deployer: Deployer,
        registry: WorkflowRegistry,
        history: HistoryStore,
        clock: Clock,
        work_pool: str,
    ) -> None:
        self._site = site
        self._deployer = deployer
        self._registry = registry
        self._history = history
        self._clock = clock
        self._work_pool = work_pool

    async def run_schedule(self, request: JobRequest) -> EnqueuedJob:
        """Start one flow run of a schedule's deployment.

        Raises:
            DeploymentNotFoundError: The schedule has none.
            EngineUnavailableError: The server does not answer.
        """
        assert request.schedule_id is not None
        schedule = await self._history.get_schedule(request.schedule_id)
        if schedule.external_id is None:
            raise DeploymentNotFoundError(request.schedule_id)
        is_own_flow = FLOW_LABEL in schedule.options.labels
        spec = None if request.job_id is None or is_own_flow else self._spec(request)
        async with self._site.connect() as client:
            try:
                flow_run = await client.create_flow_run_from_deployment(
                    UUID(schedule.external_id),
                    parameters=None if spec is None else {"jobs": [msgspec.to_builtins(spec)]},
                    idempotency_key=request.job_id,
                )
            except ObjectNotFound:
                raise DeploymentNotFoundError(request.schedule_id) from None
        await self._record(request, job_ids_of(flow_run), flow_run, None)
        return EnqueuedJob(job_id=job_ids_of(flow_run)[0], workflow=request.task, provider="prefect", queue="")

    async def run_jobs(self, requests: Sequence[JobRequest]) -> list[EnqueuedJob]:
        """Start one flow run per workflow, execution and due time, with all its jobs.

        Raises:
            ContextError: A context does not fit its workflow, or does not survive JSON.
            CapabilityError: A job has an option that only queues know.
            EngineUnavailableError: The server does not answer, or nobody would run what somebody waits for.
        """
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            refuse_options(request.options)
            options = request.options
            alone = place if request.parent_id is None else None
            groups[request.task, request.parent_id, options.schedule_time, alone].append(place)
        specs = [self._spec(request) for request in requests]
        deployments = {request.task: self._deployer.on_demand(request.task) for request in requests}
        done: dict[int, EnqueuedJob] = {}
        async with self._site.connect() as client:
            if any(request.parent_id for request in requests):
                await _require_worker(client, self._work_pool)
            for places in groups.values():
                task = requests[places[0]].task
                now = self._clock.now()
                deployment_id = await put_in_order(
                    client, deployments[task], plan=None, paused=False, now=now, enforce=False
                )
                started = await self._start(
                    client, deployment_id, [requests[at] for at in places], [specs[at] for at in places]
                )
                done.update(zip(places, started, strict=True))
        return [done[place] for place in range(len(requests))]

    async def run_here(self, requests: Sequence[JobRequest], host: Host) -> list[EnqueuedJob]:
        """Run jobs in this process, as flow runs below the one that is running; returns when they have ended."""
        groups: dict[tuple[str, str | None], list[JobSpec]] = defaultdict(list)
        specs = [self._spec(request) for request in requests]
        for request, spec in zip(requests, specs, strict=True):
            groups[request.task, request.parent_id].append(spec)
        token = CURRENT_HOST.set(host)
        try:
            for (task, parent_id), jobs in groups.items():
                below: Any = run_workflow.with_options(name=deployment_name(task))
                plain = msgspec.to_builtins(jobs)
                await below(workflow=task, jobs=plain, parent_id=parent_id, return_state=True)
        finally:
            CURRENT_HOST.reset(token)
        return [_enqueued(request, spec.job_id) for request, spec in zip(requests, specs, strict=True)]

    def _spec(self, request: JobRequest) -> JobSpec:
        options = request.options
        return JobSpec(
            job_id=request.job_id or new_id(self._clock.now_ms()),
            context=json_context(self._registry.get(request.task), request.context),
            repo=request.repo,
            commit_sha=request.commit_sha,
            timeout_ms=None if options.timeout is None else options.timeout // _MILLISECOND,
            max_attempts=options.max_attempts,
            labels=dict(options.labels),
        )

    async def _start(
        self, client: PrefectClient, deployment_id: UUID, requests: Sequence[JobRequest], specs: Sequence[JobSpec]
    ) -> list[EnqueuedJob]:
        first = requests[0]
        due = first.options.schedule_time
        flow_run = await client.create_flow_run_from_deployment(
            deployment_id,
            parameters={"jobs": msgspec.to_builtins(list(specs)), "parent_id": first.parent_id},
            idempotency_key=first.options.idempotency_key or first.parent_id or specs[0].job_id,
            state=None if due is None else Scheduled(scheduled_time=due),
        )
        kept = job_ids_of(flow_run)
        is_copy = kept != [spec.job_id for spec in specs]  # an equal key gives the first run, whatever it was given
        if not is_copy:
            for request, job_id in zip(requests, kept, strict=True):
                await self._record(request, [job_id], flow_run, due)
        return [
            _enqueued(request, kept[0] if is_copy else spec.job_id, is_copy)
            for request, spec in zip(requests, specs, strict=True)
        ]

    async def _record(
        self, request: JobRequest, job_ids: Sequence[str], flow_run: FlowRun, due: datetime | None
    ) -> None:
        """Have accepted jobs in the ledger; one that has begun by now keeps what it has written itself."""
        now_ms = self._clock.now_ms()
        due_ms = None if due is None else to_ms(due)
        state = RunState.SCHEDULED if due_ms is not None and due_ms > now_ms else RunState.QUEUED
        runs = [
            Run(
                id=run_id(job_id, 1),
                job_id=job_id,
                task=request.task,
                engine=EngineName.PREFECT,
                state=state,
                schedule_id=request.schedule_id,
                scheduled_for_ms=due_ms,
                repo=request.repo,
                commit_sha=request.commit_sha,
                parent_id=request.parent_id,
                labels={**request.options.labels, FLOW_RUN_LABEL: str(flow_run.id)},
            )
            for job_id in job_ids
        ]
        await self._history.record_runs(runs)


def _enqueued(request: JobRequest, job_id: str, deduplicated: bool = False) -> EnqueuedJob:
    return EnqueuedJob(
        job_id=job_id,
        workflow=request.task,
        provider="prefect",
        queue="",
        scheduled_for=request.options.schedule_time,
        deduplicated=deduplicated,
    )


async def polling_workers(client: PrefectClient, pool: str) -> list[str]:
    """Return the names of the workers that poll a pool now."""
    online = WorkerFilter(status=WorkerFilterStatus(any_=[WorkerStatus.ONLINE]))
    try:
        return [worker.name for worker in await client.read_workers_for_work_pool(pool, worker_filter=online)]
    except ObjectNotFound:
        return []


async def _require_worker(client: PrefectClient, pool: str) -> None:
    """Refuse to wait for runs that nobody would run.

    Raises:
        EngineUnavailableError: No worker polls the pool.
    """
    if not await polling_workers(client, pool):
        raise EngineUnavailableError(
            "prefect", f"no worker polls the pool {pool!r}, so nobody would run this", "start one with `mahavishnu up`"
        )
