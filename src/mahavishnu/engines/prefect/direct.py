"""Deployments asked for as such: of a user's own flow, or of a registered workflow under a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect.client.schemas.schedules import CronSchedule

from mahavishnu.engines.prefect.deploying import Deployer, marked, project_variables, put_in_order
from mahavishnu.engines.prefect.deployments import Deployment
from mahavishnu.engines.prefect.entrypoints import flow_entrypoint
from mahavishnu.engines.prefect.marks import FLOW_LABEL, FLOW_TAG, deployment_name, ledger_tag
from mahavishnu.engines.prefect.timing import plan_trigger, trigger_of
from mahavishnu.errors import ScheduleExistsError, ScheduleNotFoundError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import JobOptions
from mahavishnu.model.schedule import OnConflict, Schedule, ScheduleState
from mahavishnu.model.trigger import TriggerKind
from mahavishnu.workflows.encoding import encode_context

if TYPE_CHECKING:
    from prefect.flows import Flow

    from mahavishnu.clock import Clock
    from mahavishnu.engines.prefect.schedules import ScheduleLike
    from mahavishnu.engines.prefect.site import Site
    from mahavishnu.history.store import HistoryStore
    from mahavishnu.model.trigger import TriggerSpec
    from mahavishnu.settings import Settings
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["DirectDeployer", "Wanted"]

Apply: TypeAlias = Callable[[Schedule], Awaitable[Schedule]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a deployment is to be; the attributes are the arguments of `PrefectEngine.deploy`."""

    name: str | None
    schedule: ScheduleLike | None
    work_pool_name: str | None
    parameters: Mapping[str, Any]
    tags: tuple[str, ...]
    paused: bool | None


class DirectDeployer:
    """Makes the deployments that are asked for by name, and records those with times in the ledger.

    Args:
        settings: Where the project is, and the defaults of its schedules.
        site: Where the server is.
        deployer: Makes the deployments of workflows.
        registry: The workflows.
        history: The ledger.
        clock: Source of time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        site: Site,
        deployer: Deployer,
        registry: WorkflowRegistry,
        history: HistoryStore,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._site = site
        self._deployer = deployer
        self._registry = registry
        self._history = history
        self._clock = clock

    async def workflow(self, key: str, wanted: Wanted, *, apply: Apply) -> Deployment:
        """Deploy a registered workflow; `apply` puts a schedule on the server."""
        workflow = self._registry.get(key)
        now = self._clock.now()
        when = self._zoned(wanted.schedule)
        trigger = trigger_of(when, now)
        schedule_id = wanted.name or key
        if trigger is None:
            deployment = self._deployer.on_demand(
                key,
                name=deployment_name(schedule_id),
                context=wanted.parameters,
                pool=wanted.work_pool_name,
                tags=wanted.tags,
            )
            return await self._put(replace(deployment, schedule=when), wanted.paused)
        timeout = workflow.timeout or self._settings.jobs.timeout
        entry = await self._entry(
            schedule_id, key, trigger, wanted, JobOptions(timeout=timeout, labels=_labels(wanted))
        )
        applied = await apply(entry)
        await self._record(applied)
        return replace(self._deployer.of_schedule(applied), schedule=when)

    async def flow(self, flow: Flow[..., Any], wanted: Wanted) -> Deployment:
        """Deploy a user's own flow."""
        when = self._zoned(wanted.schedule)
        deployment = Deployment.build(
            flow=flow,
            name=wanted.name or flow.name,
            schedule=when,
            work_pool_name=wanted.work_pool_name or self._settings.prefect.work_pool,
            parameters=wanted.parameters,
            tags=["mahavishnu", FLOW_TAG, ledger_tag(self._settings), *wanted.tags],
            version=flow.version,
            job_variables={"env": project_variables(self._settings)},
        )
        now = self._clock.now()
        trigger = trigger_of(when, now)
        if trigger is None:
            return await self._put(marked(deployment, None, ScheduleState.ACTIVE), wanted.paused)
        encode_context(flow.name, wanted.parameters)  # refused before anything is changed
        labels = {FLOW_LABEL: flow_entrypoint(flow).path, **_labels(wanted)}
        entry = await self._entry(deployment.name, flow.name, trigger, wanted, JobOptions(labels=labels))
        plan = plan_trigger(entry.trigger, now)
        paused = entry.state is ScheduleState.PAUSED
        deployment = marked(deployment, entry.trigger, entry.state)
        async with self._site.connect() as client:
            deployment_id = await put_in_order(
                client, deployment, plan=plan, paused=paused, now=now, enforce=wanted.paused is not None
            )
        await self._record(replace(entry, external_id=str(deployment_id)))
        return deployment

    async def _put(self, deployment: Deployment, paused: bool | None) -> Deployment:
        """Put a deployment on the server that the ledger has no schedule for."""
        now = self._clock.now()
        plan = deployment.plan(now)
        async with self._site.connect() as client:
            await put_in_order(client, deployment, plan=plan, paused=bool(paused), now=now, enforce=paused is not None)
        return deployment

    def _zoned(self, schedule: ScheduleLike | None) -> ScheduleLike | None:
        """Give a cron expression the zone of the settings, if they name one."""
        if isinstance(schedule, str) and self._settings.timezone:
            # Not checked by Prefect, whose cron is another one than ours.
            return CronSchedule.model_construct(cron=schedule, timezone=self._settings.timezone, day_or=True)
        return schedule

    async def _entry(
        self, schedule_id: str, task: str, trigger: TriggerSpec, wanted: Wanted, options: JobOptions
    ) -> Schedule:
        """Return the ledger's schedule of a deployment.

        Raises:
            ScheduleExistsError: The id belongs to something else.
        """
        existing = await self._existing(schedule_id)
        state = ScheduleState.PAUSED if wanted.paused else ScheduleState.ACTIVE
        if existing is not None:
            if _kind_of(existing) != (EngineName.PREFECT, task, FLOW_LABEL in options.labels):
                raise ScheduleExistsError(schedule_id)
            trigger = _keep_anchor(trigger, existing.trigger)
            state = existing.state if wanted.paused is None else state
        scheduler = self._settings.scheduler
        return Schedule(
            id=schedule_id,
            task=task,
            engine=EngineName.PREFECT,
            trigger=trigger,
            context=dict(wanted.parameters),
            options=options,
            misfire=scheduler.misfire_policy,
            overlap=scheduler.overlap,
            state=state,
            provider=wanted.work_pool_name,
            reasons=("deployed on Prefect on request",),
        )

    async def _existing(self, schedule_id: str) -> Schedule | None:
        try:
            return await self._history.get_schedule(schedule_id)
        except ScheduleNotFoundError:
            return None

    async def _record(self, schedule: Schedule) -> None:
        stored = await self._history.put_schedule(schedule, on_conflict=OnConflict.REPLACE)
        if stored.state is not schedule.state:  # a schedule that is put again keeps its pause
            paused = schedule.state is ScheduleState.PAUSED
            await self._history.set_paused(schedule.id, paused, next_fire_at=None)


def _kind_of(schedule: Schedule) -> tuple[EngineName, str, bool]:
    return schedule.engine, schedule.task, FLOW_LABEL in schedule.options.labels


def _labels(wanted: Wanted) -> dict[str, str]:
    return dict.fromkeys(wanted.tags, "")


def _keep_anchor(new: TriggerSpec, old: TriggerSpec) -> TriggerSpec:
    """Return the old interval where only the instant it is counted from differs: a restart must not push it away."""
    if new.kind is TriggerKind.INTERVAL and old.kind is TriggerKind.INTERVAL:
        return old if {**new.fields, "start": ""} == {**old.fields, "start": ""} else new
    return new
