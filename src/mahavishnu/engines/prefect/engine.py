"""The Prefect engine: schedules are deployments, jobs are flow runs, and what becomes of them is in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from mahavishnu.engines.base import EngineHealth
from mahavishnu.engines.prefect.deploying import Deployer, put_in_order
from mahavishnu.engines.prefect.direct import DirectDeployer, Wanted
from mahavishnu.engines.prefect.host import Host
from mahavishnu.engines.prefect.listing import DeploymentInfo, list_deployments
from mahavishnu.engines.prefect.marks import FLOW_LABEL, FLOW_RUN_LABEL, FLOW_TAG, job_ids_of, ledger_tag
from mahavishnu.engines.prefect.readback import Readback
from mahavishnu.engines.prefect.site import Site
from mahavishnu.engines.prefect.submitting import Submitter, polling_workers
from mahavishnu.engines.prefect.timing import plan_trigger
from mahavishnu.engines.prefect.upkeep import Upkeep, by_deployment, delete_deployment, set_paused
from mahavishnu.errors import DeploymentNotFoundError, MahavishnuError, ScheduleNotFoundError
from mahavishnu.history.store import HistoryStore, Request, RequestKind
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id
from mahavishnu.model.schedule import Schedule, ScheduleState
from mahavishnu.model.secret import redact_url
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mahavishnu.clock import Clock
    from mahavishnu.engines.prefect.deployments import Deployment
    from mahavishnu.model.job import EnqueuedJob, JobRequest
    from mahavishnu.model.run import Run
    from mahavishnu.observability.events import Events
    from mahavishnu.settings import Settings
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["PrefectEngine"]

_HEALTH_SECONDS = 1.8
_CANCELLED = "cancelled on request"
_LEFT_FOR_STOPPING = timedelta(seconds=10)


class PrefectEngine:
    """Engine over a Prefect 3 server.

    `apply`, `submit` and `deploy` need no start, only a server: the one of the settings, or the managed one that
    another process runs. `start` makes this process run what is missing of server and worker, and keep ledger and
    server in agreement.

    Args:
        settings: Where the server, the app and the state folder are.
        history: The ledger.
        events: Told of skips and of ends that are read back.
        registry: Workflows known to this process; contexts are checked against their signatures.
        clock: Source of time.
        owner: This process's id.
    """

    name = EngineName.PREFECT

    def __init__(
        self,
        *,
        settings: Settings,
        history: HistoryStore,
        events: Events,
        registry: WorkflowRegistry,
        clock: Clock,
        owner: str,
    ) -> None:
        self._settings = settings
        self._history = history
        self._clock = clock
        self._host = Host(
            registry=registry,
            history=history,
            events=events,
            clock=clock,
            worker=owner,
            threads=settings.worker.threads,
            state_dir=settings.state_dir,
        )
        self._tag = ledger_tag(settings)
        self._site = site = Site(settings, clock=clock)
        self._deployer = deployer = Deployer(settings, registry)
        self._submitter = Submitter(
            site=site,
            deployer=deployer,
            registry=registry,
            history=history,
            clock=clock,
            work_pool=settings.prefect.work_pool,
        )
        self._direct = DirectDeployer(
            settings, site=site, deployer=deployer, registry=registry, history=history, clock=clock
        )
        readback = Readback(
            history=history, events=events, clock=clock, tag=self._tag, announces=lambda: site.runs_worker
        )
        self._upkeep = Upkeep(site=site, deployer=deployer, readback=readback, history=history, clock=clock)

    # --- lifecycle ---

    async def start(self) -> None:
        """Have a server and a worker, bring the server into agreement with the ledger, and keep it so. Idempotent.

        Raises:
            EngineUnavailableError: The server or the worker cannot be had; nothing is left running.
        """
        try:
            await self._site.start()
            await self._upkeep.start()
        except BaseException:
            await self._site.stop()
            raise

    async def stop(self, grace: timedelta) -> None:
        """Let flow runs of this process's worker finish for about `grace`, then stop what it runs. Idempotent."""
        await self._upkeep.stop()
        try:
            await self._site.drain(max(timedelta(0), grace - _LEFT_FOR_STOPPING))
            if self._site.runs_worker:
                await self._site.stop_worker()
                with contextlib.suppress(MahavishnuError):  # what is not read now is read at the next start
                    await self._upkeep.read_back()
        finally:
            await self._site.stop()

    # --- schedules ---

    async def apply(self, schedule: Schedule) -> Schedule:
        """Have a deployment of the schedule's workflow, paused if the schedule is.

        Raises:
            WorkflowNotFoundError: No such workflow is registered here.
            ContextError: The context does not fit it, or does not survive JSON.
            CapabilityError: It has an option that Prefect cannot honour, or fires more than once a minute.
            ConfigurationError: The settings name no app.
            EngineUnavailableError: The server does not answer.
        """
        if FLOW_LABEL in schedule.options.labels:
            return await self._hold(schedule)
        deployment = self._deployer.of_schedule(schedule)
        now = self._clock.now()
        plan = plan_trigger(schedule.trigger, now)
        before = await self._external_id(schedule.id)
        async with self._site.connect() as client:
            deployment_id = await put_in_order(
                client,
                deployment,
                plan=plan,
                paused=schedule.state is ScheduleState.PAUSED,
                now=now,
                enforce=True,
            )
            if before is not None and before != str(deployment_id):
                await delete_deployment(client, before)
        return replace(schedule, external_id=str(deployment_id), next_fire_at=None)

    async def _hold(self, schedule: Schedule) -> Schedule:
        """Hold or release the deployment of a user's own flow."""
        if schedule.external_id is None:
            raise DeploymentNotFoundError(schedule.id)
        async with self._site.connect() as client:
            try:
                await set_paused(client, UUID(schedule.external_id), schedule.state is ScheduleState.PAUSED)
            except ObjectNotFound:
                raise DeploymentNotFoundError(schedule.id) from None
        return replace(schedule, next_fire_at=None)

    async def _external_id(self, schedule_id: str) -> str | None:
        try:
            stored = await self._history.get_schedule(schedule_id)
        except ScheduleNotFoundError:
            return None
        return stored.external_id if stored.engine is EngineName.PREFECT else None

    async def withdraw(self, schedule: Schedule) -> None:
        """Delete the schedule's deployment. Idempotent. Runs under way are left to finish.

        Raises:
            EngineUnavailableError: The server does not answer.
        """
        if schedule.external_id is not None:
            async with self._site.connect() as client:
                await delete_deployment(client, schedule.external_id)

    async def deploy(
        self,
        flow_or_key: Any,
        *,
        name: str | None = None,
        schedule: Any = None,
        work_pool_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        paused: bool | None = None,
    ) -> Deployment:
        """Make a deployment of a registered workflow or a flow, and record it as a schedule where it has times.

        Args:
            flow_or_key: A registered workflow's key, or a flow.
            name: The deployment's name and the schedule's id; the key or the flow's name by default.
            schedule: A cron expression, a timedelta, or a Prefect schedule; a rule that no trigger expresses runs
                too, but is not in the ledger.
            work_pool_name: The work pool; the settings' by default.
            parameters: The flow's parameters, or the workflow's context.
            tags: Tags of the deployment.
            paused: Whether it is held; `None` (default) leaves an existing one as it is.

        Raises:
            ConfigurationError: It is neither, or a parameter is unknown.
            ScheduleExistsError: Something else has that id.
            CapabilityError: The schedule fires more often than once a minute.
            EngineUnavailableError: The server does not answer.
        """
        wanted = Wanted(
            name=name,
            schedule=schedule,
            work_pool_name=work_pool_name,
            parameters=dict(parameters or {}),
            tags=tuple(tags),
            paused=paused,
        )
        if isinstance(flow_or_key, str):
            return await self._direct.workflow(flow_or_key, wanted, apply=self.apply)
        return await self._direct.flow(flow_or_key, wanted)

    async def deployments(self) -> list[DeploymentInfo]:
        """Return what the server holds: on a managed one everything, else what belongs to this ledger.

        Raises:
            EngineUnavailableError: The server does not answer.
        """
        schedules = await by_deployment(self._history)
        async with self._site.connect() as client:
            tag = None if self._site.is_managed else self._tag
            return await list_deployments(client, schedules, tag=tag, now=self._clock.now())

    # --- jobs ---

    async def submit(self, requests: Sequence[JobRequest]) -> list[EnqueuedJob]:
        """Run jobs as flow runs; called inside a flow run they run right here, below it, and have ended on return.

        Raises:
            WorkflowNotFoundError: A workflow is not registered here.
            ContextError: A context does not fit its workflow, or does not survive JSON.
            CapabilityError: A job has an option that only queues know.
            DeploymentNotFoundError: A schedule has no deployment.
            EngineUnavailableError: The server does not answer, or jobs that are waited for have no worker.
        """
        single = [request for request in requests if request.schedule_id is None]
        if FlowRunContext.get() is not None:
            done = iter(await self._submitter.run_here(single, self._host))
        else:
            done = iter(await self._submitter.run_jobs(single) if single else [])
        jobs = [
            next(done) if request.schedule_id is None else await self._submitter.run_schedule(request)
            for request in requests
        ]
        self._upkeep.wake()
        return jobs

    async def cancel(self, run: Run) -> bool:
        """Stop a job: a waiting flow run at once, a running job by its own process, a running flow by its worker.

        Raises:
            EngineUnavailableError: The server does not answer.
        """
        label = (run.labels or {}).get(FLOW_RUN_LABEL)
        if run.ends_job or label is None:
            return False
        async with self._site.connect() as client:
            try:
                flow_run = await client.read_flow_run(UUID(label))
            except ObjectNotFound:
                return False
            waits = flow_run.state is not None and flow_run.state.type in {StateType.SCHEDULED, StateType.PENDING}
            is_own_flow = FLOW_TAG in flow_run.tags
            if waits and len(job_ids_of(flow_run)) == 1:
                await client.set_flow_run_state(flow_run.id, Cancelled(message=_CANCELLED))
            elif is_own_flow:
                await client.set_flow_run_state(flow_run.id, Cancelling(message=_CANCELLED))
        if run.state in {RunState.QUEUED, RunState.SCHEDULED}:
            await self._end_waiting(run)
        elif not is_own_flow:
            await self._ask_to_stop(run)
        self._upkeep.wake()
        return True

    async def _end_waiting(self, run: Run) -> None:
        """Record a job that has not begun as cancelled; its flow run, should it begin, then leaves it out."""
        ended = msgspec.structs.replace(
            run, state=RunState.CANCELLED, finished_at_ms=self._clock.now_ms(), reason=_CANCELLED
        )
        await self._history.record_runs([ended])

    async def _ask_to_stop(self, run: Run) -> None:
        now_ms = self._clock.now_ms()
        request = Request(id=new_id(now_ms), kind=RequestKind.CANCEL_RUN, target=run.job_id, asked_ms=now_ms)
        await self._history.ask(request)

    async def health(self) -> EngineHealth:
        """Say whether the server answers and a worker polls the pool, within two seconds, without raising."""
        pool = self._settings.prefect.work_pool
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                url = self._site.api_url
                async with self._site.connect() as client:
                    server = await client.api_version()
                    workers = await polling_workers(client, pool)
        except TimeoutError:
            return self._unwell(f"the server does not answer within {_HEALTH_SECONDS:g} s")
        except Exception as exc:  # health is asked for when things are broken; whatever it is, it is said
            return self._unwell(str(exc) or type(exc).__name__)
        poll = f"worker {workers[0]}" if workers else f"no worker polls pool {pool!r}; start one with `mahavishnu up`"
        return EngineHealth(
            engine=self.name,
            enabled=True,
            ready=bool(workers),
            detail=f"server {server} at {redact_url(url)}, {poll}",
            version=version("prefect"),
            facts={"url": redact_url(url), "server": server, "work pool": pool, "workers": ", ".join(workers)},
        )

    def _unwell(self, problem: str) -> EngineHealth:
        return EngineHealth(engine=self.name, enabled=True, ready=False, detail=problem, version=version("prefect"))
