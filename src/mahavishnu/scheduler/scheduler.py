"""The front door: say what a task is like, and it runs on the engine that suits it.

Thin on purpose: every method picks an engine and delegates.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from mahavishnu.errors import ConfigurationError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.job import EnqueuedJob, JobRequest
from mahavishnu.scheduler.choosing import choose_engine
from mahavishnu.scheduler.lifecycle import Services, terminate_cleanly
from mahavishnu.scheduler.operations import Operations
from mahavishnu.scheduler.options import OPTION_NAMES, ScheduleOptions, job_options
from mahavishnu.scheduler.presence import Presence
from mahavishnu.scheduler.results import Scheduled
from mahavishnu.scheduler.storing import ScheduleStorer
from mahavishnu.triggers import trigger_from_arguments, trigger_when

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from mahavishnu.classification import TaskCharacteristics
    from mahavishnu.prefect import Deployment
    from mahavishnu.scheduler.app import MahavishnuApp
    from mahavishnu.triggers import Trigger

__all__ = ["MahavishnuScheduler"]


class MahavishnuScheduler(Operations):
    """Schedules tasks on three engines, and lists and steers them all in one way.

    Scheduling, enqueueing and listing work outside `lifecycle` too; in-process schedules fire inside it.
    Options of schedules are described at `ScheduleOptions`.

    Args:
        app: The app whose settings, workflows and repositories are used.
    """

    def __init__(self, app: MahavishnuApp) -> None:
        self._app = app
        self._runtime = runtime = app.runtime
        self._storer = ScheduleStorer(runtime)
        self._services = Services(
            lambda: [
                Presence(runtime.history, runtime.clock, runtime.process_id, kind="scheduler"),
                *runtime.enabled_engines(),
            ],
            events=runtime.events,
            grace=runtime.settings.scheduler.stop_grace,
        )

    @asynccontextmanager
    async def lifecycle(self) -> AsyncGenerator[Self]:
        """Run every enabled engine inside the block, and the app's `on_start` callbacks before it.

        Either all start or none: what had started before a failure is stopped again. At the end they stop in
        reverse, running jobs draining for at most `scheduler.stop_grace_seconds` each; also on SIGTERM, unless
        the program handles that itself.

        Raises:
            EngineUnavailableError: An enabled engine cannot start.
            StorageError: The state folder cannot be used.
        """
        async with terminate_cleanly():
            try:
                await self._runtime.open_history()
                await self._services.start()
                for callback in self._app.start_callbacks:
                    await callback(self)
                yield self
            finally:
                await self._services.stop()
                await self._runtime.close()

    async def schedule_internal_task(
        self,
        func: Callable[..., Any] | str,
        trigger_type: str = "interval",
        id: str | None = None,  # named in the public contract
        context: Mapping[str, Any] | None = None,
        **trigger: Any,
    ) -> str:
        """Run a function in this process at the times of a trigger; returns the schedule's id.

        Args:
            func: A sync or async function, or a registered workflow's key. A sync one runs in a thread.
            trigger_type: `interval` (fields `weeks` to `milliseconds`, `start`, `end`), `cron` (`expression`, or
                `minute hour day month day_of_week`) or `date` (`run_date`).
            id: The schedule's id; derived from the function's name by default.
            context: Keyword arguments of the function.
            **trigger: The trigger's fields, and options: `timezone misfire misfire_grace overlap coalesce
                max_instances jitter timeout on_conflict`.

        Raises:
            InvalidTriggerError: The trigger is wrong or never fires.
            CapabilityError: An option is another engine's.
            ScheduleExistsError: The id is taken and `on_conflict` is `error`.
        """
        options = {name: trigger.pop(name) for name in OPTION_NAMES & trigger.keys()}
        if trigger_type == "cron":
            trigger["timezone"] = options.get("timezone") or self._zone
        elif options.get("timezone") is not None:
            raise ConfigurationError(f"timezone= goes with trigger_type='cron', not {trigger_type!r}; leave it out")
        rule = trigger_from_arguments(trigger_type, trigger, anchor=self._runtime.clock.now())
        return (
            await self._storer.store(
                EngineName.APSCHEDULER,
                self._app.workflow_of(func),
                rule,
                id=id,
                context=context,
                options=cast("ScheduleOptions", options),
            )
        ).id

    async def enqueue_workflow(
        self,
        key: str,
        queue_provider: str | None = None,
        context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> EnqueuedJob:
        """Put one durable job on a queue, for a worker to run. It is safe once this returns.

        Args:
            key: A registered workflow's key.
            queue_provider: Which provider; the settings' default (`sqlite`) if none is named.
            context: Keyword arguments of the workflow, checked against its signature; plain data.
            metadata: `schedule_time` (aware datetime or ISO 8601), `idempotency_key`, `priority` (0 to 9, 9 most
                urgent, default 5), `max_attempts`, `timeout_seconds`, `queue`, `labels`; any other key is an error.

        Raises:
            WorkflowNotFoundError: No such workflow is registered.
            ContextError: The context does not fit, cannot be encoded or is too large.
            QueueConnectionError: The provider cannot be reached.
        """
        request = JobRequest(task=key, context=context or {}, options=job_options(metadata), provider=queue_provider)
        return (await self._runtime.queue.submit([request]))[0]

    async def enqueue_workflows(
        self,
        key: str,
        contexts: Sequence[Mapping[str, Any]],
        queue_provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[EnqueuedJob]:
        """Put many jobs of one workflow on a queue in one batch; otherwise as `enqueue_workflow`.

        Raises:
            ConfigurationError: `metadata` has an idempotency key, which would make all of them one job.
        """
        options = job_options(metadata)
        if options.idempotency_key is not None and len(contexts) > 1:
            raise ConfigurationError("metadata 'idempotency_key' makes one job, not many; leave it out")
        return await self._runtime.queue.submit(
            [JobRequest(task=key, context=c, options=options, provider=queue_provider) for c in contexts]
        )

    async def schedule_workflow(
        self,
        key: str,
        *,
        cron: str | None = None,
        every: timedelta | None = None,
        at: datetime | str | None = None,
        id: str | None = None,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> str:
        """Enqueue a workflow at the times of a trigger, each exactly once however many schedulers run.

        Args:
            key: A registered workflow's key.
            cron: A cron expression, by Debian's rules.
            every: An interval; counted from now, and still from the same instant when scheduled again.
            at: One aware instant.
            id: The schedule's id; the key by default.
            context: Keyword arguments of every job.
            **options: `queue_provider metadata timezone misfire misfire_grace overlap timeout on_conflict`.

        Returns:
            The schedule's id.

        Raises:
            InvalidTriggerError: The trigger is wrong or never fires.
            WorkflowNotFoundError: No such workflow is registered.
            ContextError: The context does not fit, cannot be encoded or is too large.
        """
        rule = self._when(cron, every, at, options)
        workflow = self._app.registry.get(key)
        stored = await self._storer.store(EngineName.ONEIRIC, workflow, rule, id=id, context=context, options=options)
        return stored.id

    async def schedule_deployment(
        self,
        flow_or_key: Any,
        name: str | None = None,
        schedule: Any = None,
        *,
        work_pool_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        paused: bool | None = None,
    ) -> Deployment:
        """Make a Prefect deployment of a registered workflow or a `@flow`, with its schedule.

        Args:
            flow_or_key: A registered workflow's key, or a flow.
            name: The deployment's name; the workflow's key or the flow's name by default.
            schedule: A cron expression, a timedelta, or a Prefect schedule.
            work_pool_name: The work pool; the settings' by default, created when missing.
            parameters: The flow's parameters, or the workflow's context; checked against its signature.
            tags: Tags of the deployment.
            paused: Whether it starts paused; `None` leaves an existing one as it is.

        Raises:
            EngineUnavailableError: Prefect is not enabled or does not answer.
        """
        await self._runtime.open_history()
        return await self._runtime.prefect.deploy(
            flow_or_key,
            name=name,
            schedule=schedule,
            work_pool_name=work_pool_name,
            parameters=parameters,
            tags=tags,
            paused=paused,
        )

    async def schedule(
        self,
        func_or_key: Callable[..., Any] | str,
        *,
        cron: str | None = None,
        every: timedelta | None = None,
        at: datetime | str | None = None,
        characteristics: TaskCharacteristics | None = None,
        engine: str | None = None,
        id: str | None = None,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Scheduled:
        """Schedule a task on the engine that suits what it is like.

        Args:
            func_or_key: A registered workflow's key, or a function.
            cron: A cron expression, by Debian's rules.
            every: An interval.
            at: One aware instant.
            characteristics: What the task is like; by default what was said
                when it was registered, else only its frequency is known, from the trigger.
            engine: `apscheduler`, `oneiric` or `prefect`, to overrule the classification.
            id: The schedule's id; derived from the task's name by default.
            context: Keyword arguments of every run.
            **options: Those of `ScheduleOptions`; one that the engine cannot honour is refused, naming who can.

        Raises:
            InvalidTriggerError: The trigger is wrong or never fires.
            CapabilityError: The chosen engine cannot honour an option.
            EngineUnavailableError: The chosen engine is not enabled.
        """
        rule = self._when(cron, every, at, options)
        workflow = self._app.workflow_of(func_or_key)
        known = characteristics or self._app.characteristics_of(workflow.key)
        choice = choose_engine(workflow.key, rule, known, engine, now=self._runtime.clock.now())
        stored = await self._storer.store(
            choice.engine, workflow, rule, id=id, context=context, options=options, reasons=choice.reasons
        )
        return Scheduled(
            id=stored.id,
            engine=stored.engine,
            classification=choice.classification,
            next_fire_time=self._with_next(stored).next_fire_at,
        )

    @property
    def _zone(self) -> str | None:
        return self._runtime.settings.timezone or None

    def _when(
        self, cron: str | None, every: timedelta | None, at: datetime | str | None, options: ScheduleOptions
    ) -> Trigger:
        timezone = options.get("timezone") or (None if cron is None else self._zone)
        return trigger_when(cron=cron, every=every, at=at, anchor=self._runtime.clock.now(), timezone=timezone)
