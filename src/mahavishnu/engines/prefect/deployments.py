"""A flow, its schedule and its work pool, kept on a Prefect server under one name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Self, cast

from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.engines.prefect.api import API_TIMEOUT, connect
from mahavishnu.engines.prefect.entrypoints import flow_entrypoint
from mahavishnu.engines.prefect.schedules import PlannedSchedule, ScheduleLike, plan_schedule
from mahavishnu.engines.prefect.worker import DEFAULT_WORK_POOL, ensure_work_pool
from mahavishnu.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = ["SCHEDULE_SLUG", "Deployment", "find_deployment"]

SCHEDULE_SLUG = "mahavishnu"
"""Marks the schedule that is ours on a deployment; others on it, made by people in the UI, are left alone.

A schedule with a stable slug is updated in place, so that one paused by an operator stays paused.
"""

POOL_VARIABLE = "MAHAVISHNU_PREFECT_POOL"
"""The environment variable that names the pool of deployments that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A flow with its schedule, ready to be put on a Prefect server.

    Make one with `build`, which checks what it is given.

    Attributes:
        flow: The flow; a worker must be able to import it, so it stands at the top level of a module.
        name: The deployment's name, one per flow.
        schedule: When it runs; `None`: when somebody asks.
        work_pool_name: The pool whose workers run it.
        parameters: Keyword arguments of every run.
        tags: For looking it up in the UI.
        paused: Whether its schedule is held; `None`: as it is, and not held at first.
        description: For the UI; by default the flow's.
        version: By default the flow's.
        job_variables: Further settings of the pool's jobs, such as `env` and `working_dir`.
        concurrency_limit: Most runs at once; `None`: no limit.
    """

    flow: Flow[..., Any]
    name: str
    schedule: ScheduleLike | None = None
    work_pool_name: str = DEFAULT_WORK_POOL
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: Sequence[str] = ()
    paused: bool | None = None
    description: str | None = None
    version: str | None = None
    job_variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    concurrency_limit: int | None = None

    @classmethod
    def build(
        cls,
        *,
        flow: Flow[..., Any],
        name: str,
        schedule: ScheduleLike | None = None,
        work_pool_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        paused: bool | None = None,
        description: str | None = None,
        version: str | None = None,
        job_variables: Mapping[str, Any] | None = None,
        concurrency_limit: int | None = None,
    ) -> Self:
        """Describe a deployment; nothing is sent before `apply`.

        Args:
            flow: A Prefect flow.
            name: The deployment's name.
            schedule: A `CronSchedule` or another of Prefect's, a cron expression, or a `timedelta`. Cron follows
                Debian's rules, in the machine's time zone unless the schedule names one.
            work_pool_name: By default `MAHAVISHNU_PREFECT_POOL` from the environment, else `mahavishnu-pool`.
            parameters: Keyword arguments of every run; checked against the flow's signature.
            tags: For looking it up in the UI.
            paused: Whether to hold its schedule. By default left as it is on the server.
            description: For the UI; by default the flow's.
            version: By default the flow's.
            job_variables: Further settings of the pool's jobs; `env` is merged with ours.
            concurrency_limit: Most runs at once; no limit by default.

        Raises:
            ConfigurationError: The flow is none, the name is empty, or a parameter is not the flow's.
            CapabilityError: The schedule fires more often than once a minute.
            InvalidTriggerError: The schedule cannot be used.
        """
        deployment = cls(
            flow=flow,
            name=name,
            schedule=schedule,
            work_pool_name=work_pool_name or os.environ.get(POOL_VARIABLE) or DEFAULT_WORK_POOL,
            parameters=dict(parameters or {}),
            tags=tuple(tags or ()),
            paused=paused,
            description=description,
            version=version,
            job_variables=dict(job_variables or {}),
            concurrency_limit=concurrency_limit,
        )
        deployment._check()
        return deployment

    build_from_flow = build

    @property
    def full_name(self) -> str:
        """The flow's name and this one, as Prefect writes them: `flow/name`."""
        return f"{self.flow.name}/{self.name}"

    def plan(self, now: datetime | None = None) -> PlannedSchedule | None:
        """Return what Prefect is given as its schedule, and until when that is exact; `None` without one.

        Args:
            now: From when on; the current instant by default.
        """
        return plan_schedule(self.schedule, now or SYSTEM_CLOCK.now())

    async def apply(self, *, api_url: str | None = None, timeout: timedelta = API_TIMEOUT) -> UUID:
        """Put the deployment on the server, new or in place of the one of this name.

        A pool that is missing is created, as a process pool. What an operator paused stays paused unless `paused`
        says otherwise, and schedules that people added stay. Calling it again changes nothing but renews the
        dates of a schedule that is kept as dates.

        Args:
            api_url: The server's address, ending in `/api`; by default Prefect's own setting (`PREFECT_API_URL`).
            timeout: How long it may take; 30 s by default.

        Returns:
            The deployment's id.

        Raises:
            ConfigurationError: No worker could import the flow.
            EngineUnavailableError: The server does not answer, or no address is set.
            EngineError: The server refuses it, for example parameters of the wrong type.
        """
        self._contents()  # refuses what no worker could run, before the server is asked
        plan = self.plan()
        async with connect(api_url, timeout=timeout) as client:
            return await self.put(client, plan, await find_deployment(client, self.full_name))

    async def put(
        self, client: PrefectClient, plan: PlannedSchedule | None, existing: DeploymentResponse | None
    ) -> UUID:
        """Put the deployment on the server through an open client; otherwise as `apply`.

        Args:
            client: An open client.
            plan: What Prefect is given as its schedule.
            existing: The deployment of this name, if there is one.
        """
        contents = self._contents()
        await ensure_work_pool(client, self.work_pool_name)
        if existing is None:
            return await self._create(client, contents, plan)
        await self._update(client, existing, contents, plan)
        return existing.id

    def _check(self) -> None:
        given = cast("object", self.flow)  # callers without a type checker pass plain functions
        if not isinstance(given, Flow):
            kind = type(given).__name__
            raise ConfigurationError(f"flow={given!r} is a {kind}, not a flow; decorate the function with @flow")
        if not self.name or "/" in self.name or "%" in self.name:
            raise ConfigurationError(f"deployment name {self.name!r} must not be empty or hold '/' or '%'")
        known = signature(self.flow.fn).parameters
        unknown = sorted(set(self.parameters) - set(known))
        if unknown and not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
            raise ConfigurationError(
                f"flow {self.flow.name!r} has no parameter {unknown[0]!r}{nearest(unknown[0], known)}"
            )
        self.plan()

    def _contents(self) -> dict[str, Any]:
        """Return everything but the schedule, as both creating and updating take it."""
        entrypoint = flow_entrypoint(self.flow)
        place = {} if entrypoint.working_dir is None else {"working_dir": str(entrypoint.working_dir)}
        contents = {
            "entrypoint": entrypoint.path,
            # Given a directory here, every run would first copy all of it.
            "path": None,
            "pull_steps": [],
            "work_pool_name": self.work_pool_name,
            "parameters": dict(self.parameters),
            "tags": list(self.tags),
            "description": self.description or self.flow.description,
            "version": self.version or self.flow.version,
            "job_variables": {**place, **self.job_variables},
            "concurrency_limit": self.concurrency_limit,
            "parameter_openapi_schema": parameter_schema(self.flow).model_dump(exclude_unset=True),
            "enforce_parameter_schema": True,
        }
        return contents if self.paused is None else {**contents, "paused": self.paused}

    async def _create(self, client: PrefectClient, contents: dict[str, Any], plan: PlannedSchedule | None) -> UUID:
        flow_id = await client.create_flow_from_name(self.flow.name)
        return await client.create_deployment(
            flow_id=flow_id, name=self.name, schedules=[] if plan is None else [_ours(plan)], **contents
        )

    async def _update(
        self,
        client: PrefectClient,
        existing: DeploymentResponse,
        contents: dict[str, Any],
        plan: PlannedSchedule | None,
    ) -> None:
        await client.update_deployment(existing.id, DeploymentUpdate(**contents))
        # Schedules one by one: sent with the rest, those without a slug would make Prefect replace them all.
        ours = [schedule for schedule in existing.schedules if schedule.slug == SCHEDULE_SLUG]
        if plan is None:
            for schedule in ours:
                await client.delete_deployment_schedule(existing.id, schedule.id)
        elif ours:
            await client.update_deployment_schedule(existing.id, ours[0].id, schedule=plan.schedule)
        else:
            await client.create_deployment_schedules(existing.id, [_ours(plan)])


async def find_deployment(client: PrefectClient, full_name: str) -> DeploymentResponse | None:
    """Return the deployment called `flow/name`; `None` where there is none."""
    try:
        return await client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _ours(plan: PlannedSchedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=plan.schedule, active=True, slug=SCHEDULE_SLUG)
