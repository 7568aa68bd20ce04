"""Registered workflows as deployments of the generic flow, kept on the server without needless writes.

Every write to a deployment deletes the runs Prefect has prepared for it, late ones too. So each deployment carries
a mark of what was put there, and is left alone while that is what should be there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from mahavishnu.engines.prefect.contexts import json_context
from mahavishnu.engines.prefect.deployments import SCHEDULE_SLUG, Deployment, find_deployment
from mahavishnu.engines.prefect.flow import run_workflow, workflow_job_variables
from mahavishnu.engines.prefect.marks import ON_DEMAND, WORKFLOW_TAG, deployment_name, ledger_tag, tags_of
from mahavishnu.engines.prefect.timing import is_current
from mahavishnu.errors import CapabilityError, ConfigurationError
from mahavishnu.model.ids import derived_id
from mahavishnu.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE
from mahavishnu.model.schedule import ScheduleState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from mahavishnu.engines.prefect.schedules import PlannedSchedule
    from mahavishnu.model.job import JobOptions
    from mahavishnu.model.schedule import Schedule
    from mahavishnu.model.trigger import TriggerSpec
    from mahavishnu.settings import Settings
    from mahavishnu.workflows.registry import WorkflowRegistry

__all__ = ["Deployer", "marked", "project_variables", "put_in_order", "refuse_options", "was_put_as"]

_LEAST_GRACE_SECONDS = 15
_NOTHING: Mapping[str, object] = {}


class Deployer:
    """Makes deployments of registered workflows.

    Args:
        settings: Where the project and its app are.
        registry: The workflows; contexts are checked against their signatures.
    """

    def __init__(self, settings: Settings, registry: WorkflowRegistry) -> None:
        self._settings = settings
        self._registry = registry

    def of_schedule(self, schedule: Schedule) -> Deployment:
        """Return the deployment of a schedule, marked, all but its times.

        Raises:
            WorkflowNotFoundError: Its workflow is not registered here.
            ContextError: Its context does not fit the workflow, or does not survive JSON.
            CapabilityError: It has an option that Prefect cannot honour.
            ConfigurationError: The settings name no app for the worker to load.
        """
        _refuse(schedule)
        context = json_context(self._registry.get(schedule.task), schedule.context)
        parameters = {"context": context, "schedule_id": schedule.id}
        deployment = self._build(
            schedule.task,
            deployment_name(schedule.id),
            parameters,
            tags=tags_of(dict(schedule.options.labels)),
            pool=schedule.provider,
        )
        return marked(deployment, schedule.trigger, schedule.state)

    def on_demand(
        self,
        key: str,
        *,
        name: str = ON_DEMAND,
        context: Mapping[str, object] = _NOTHING,
        pool: str | None = None,
        tags: Sequence[str] = (),
    ) -> Deployment:
        """Return a deployment of a workflow without a trigger of ours, marked.

        Raises:
            WorkflowNotFoundError: The workflow is not registered here.
            ContextError: The context does not fit it, or does not survive JSON.
            ConfigurationError: The settings name no app for the worker to load.
        """
        workflow = self._registry.get(key)
        parameters = {"context": json_context(workflow, context)} if context else {}
        return marked(self._build(key, name, parameters, tags=tags, pool=pool), None, ScheduleState.ACTIVE)

    def _build(
        self, key: str, name: str, parameters: dict[str, Any], *, tags: Sequence[str], pool: str | None
    ) -> Deployment:
        settings, workflow = self._settings, self._registry.get(key)
        if not settings.app:
            raise ConfigurationError(
                f"workflow {key!r} cannot run on Prefect: its worker would not know the app;"
                ' set app = "module:attribute" in mahavishnu.toml'
            )
        if settings.ledger_url.reveal().startswith("memory"):
            raise ConfigurationError(
                f"workflow {key!r} cannot run on Prefect: its runs are processes of their own, which do not see"
                " a ledger in memory; leave `ledger` out of the settings"
            )
        return Deployment.build(
            flow=run_workflow.with_options(name=deployment_name(key)),
            name=name,
            work_pool_name=pool or settings.prefect.work_pool,
            parameters={"workflow": key, **parameters},
            tags=["mahavishnu", WORKFLOW_TAG, ledger_tag(settings), *tags],
            description=workflow.description or f"The workflow {key!r}.",
            job_variables=workflow_job_variables(
                settings.app, settings.project_dir.resolve(), project_variables(settings)
            ),
        )


def project_variables(settings: Settings) -> dict[str, str]:
    """Return the environment in which a flow run comes to the same settings as this process."""
    variables = {
        "MAHAVISHNU_STATE_DIR": str(settings.state_dir.resolve()),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "mahavishnu.job",  # what jobs log shows on Prefect's pages too
    }
    if settings.source is not None:
        variables["MAHAVISHNU_CONFIG"] = str(settings.source.resolve())
    if settings.app:
        variables["MAHAVISHNU_APP"] = settings.app
    return variables


async def put_in_order(
    client: PrefectClient,
    deployment: Deployment,
    *,
    plan: PlannedSchedule | None,
    paused: bool,
    now: datetime,
    enforce: bool,
    existing: DeploymentResponse | None = None,
) -> UUID:
    """Have a marked deployment on the server as it should be; returns its id.

    Args:
        client: An open client.
        deployment: With a version made by `marked`.
        plan: Its times; `None`: it has none, or none any more.
        paused: Whether it is to be held.
        now: The current instant, aware.
        enforce: Whether a pause, or the absence of one, that was set on the server is overruled.
        existing: The deployment as it is on the server; `None`: to be looked up by name.
    """
    existing = existing or await find_deployment(client, deployment.full_name)
    if existing is None:
        return await replace(deployment, paused=paused).put(client, plan, None)
    if existing.version == deployment.version and _has_times(existing, plan, now):
        if not enforce or existing.paused == paused:
            return existing.id
    elif not enforce and _state_mark(existing.version) == _state_mark(deployment.version):
        return await deployment.put(client, plan, existing)
    return await replace(deployment, paused=paused).put(client, plan, existing)


def _has_times(existing: DeploymentResponse, plan: PlannedSchedule | None, now: datetime) -> bool:
    ours = [schedule for schedule in existing.schedules if schedule.slug == SCHEDULE_SLUG]
    return plan is None or (bool(ours) and is_current(ours[0].schedule, plan, now))


def marked(deployment: Deployment, trigger: TriggerSpec | None, state: ScheduleState) -> Deployment:
    """Return the deployment with a version that says what it is made of.

    Args:
        deployment: Whose own version, if it has one, counts too.
        trigger: Its times.
        state: Whether the ledger has it paused.
    """
    parts = (
        deployment.full_name,
        deployment.version,
        dict(deployment.parameters),
        list(deployment.tags),
        deployment.work_pool_name,
        dict(deployment.job_variables),
        deployment.description,
        None if trigger is None else (trigger.kind, dict(trigger.fields)),
    )
    digest = derived_id("deployment", msgspec.json.encode(parts, order="deterministic").decode())[:16]
    return replace(deployment, version=f"{digest}-{state.value}")


def _state_mark(version: str | None) -> str:
    return (version or "").rpartition("-")[2]


def was_put_as(existing: DeploymentResponse, state: ScheduleState) -> bool:
    """Return whether the ledger had the schedule in this state when the deployment was last written."""
    return _state_mark(existing.version) == state.value


def _refuse(schedule: Schedule) -> None:
    refuse_options(schedule.options)
    if schedule.jitter:
        raise CapabilityError("engine 'prefect'", "option 'jitter'", "its runs start when due", ["apscheduler"])
    if schedule.misfire.grace.total_seconds() < _LEAST_GRACE_SECONDS:
        raise CapabilityError(
            "engine 'prefect'",
            f"a misfire grace of {schedule.misfire.grace.total_seconds():g} s",
            f"its runs take seconds to start; the least is {_LEAST_GRACE_SECONDS} s",
            ["apscheduler", "oneiric"],
        )


def refuse_options(options: JobOptions) -> None:
    """Refuse options of a job that only queues know.

    Raises:
        CapabilityError: There is one.
    """
    for name, given, default in (
        ("priority", options.priority, DEFAULT_PRIORITY),
        ("queue", options.queue, DEFAULT_QUEUE),
    ):
        if given != default:
            raise CapabilityError("engine 'prefect'", f"option {name!r}", "it has no such thing", ["oneiric"])
