"""Put a schedule into its engine and the ledger, replacing what had its id before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mahavishnu.errors import (
    ConfigurationError,
    InvalidTriggerError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    nearest,
)
from mahavishnu.model.engine import EngineName
from mahavishnu.model.schedule import OnConflict, Schedule
from mahavishnu.model.trigger import TriggerKind, TriggerSpec
from mahavishnu.scheduler.options import Defaults, ScheduleOptions, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mahavishnu.scheduler.runtime import Runtime
    from mahavishnu.triggers import Trigger
    from mahavishnu.workflows.registry import Workflow

__all__ = ["ScheduleStorer"]


class ScheduleStorer:
    """Makes schedules.

    Args:
        runtime: Whose ledger, engines and settings are used.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def store(
        self,
        engine: EngineName,
        workflow: Workflow,
        trigger: Trigger,
        *,
        id: str | None,
        context: Mapping[str, Any] | None,
        options: ScheduleOptions,
        reasons: tuple[str, ...] = (),
    ) -> Schedule:
        """Check a schedule, make its engine fire it, and write it to the ledger; returns it as stored.

        Raises:
            InvalidTriggerError: The trigger has no time left.
            ConfigurationError: An option is wrong.
            CapabilityError: The engine cannot honour an option.
            ContextError: The context does not fit the workflow.
            ScheduleExistsError: The id is taken and `on_conflict` is `error`.
        """
        if trigger.next_after(self._runtime.clock.now()) is None:
            raise InvalidTriggerError(trigger.describe(), "it never fires again", "give a later time")
        read = read_options(engine, options, self._defaults)
        arguments = dict(context or {})
        workflow.bind(arguments)
        timeout = read.options.timeout or workflow.timeout or self._runtime.settings.jobs.timeout
        schedule = Schedule(
            id=_checked_id(workflow.key if id is None else id),
            task=workflow.key,
            engine=engine,
            trigger=trigger.spec(),
            context=arguments,
            options=replace(read.options, timeout=timeout),
            misfire=read.misfire,
            overlap=read.overlap,
            max_running=read.max_running,
            jitter=read.jitter,
            provider=read.provider,
            reasons=reasons,
        )
        return await self._put(schedule, workflow, _on_conflict(options.get("on_conflict", "replace")))

    @property
    def _defaults(self) -> Defaults:
        scheduler = self._runtime.settings.scheduler
        return Defaults(misfire=scheduler.misfire_policy, overlap=scheduler.overlap)

    async def _put(self, schedule: Schedule, workflow: Workflow, on_conflict: OnConflict) -> Schedule:
        history = await self._runtime.open_history()
        engine = self._runtime.engine(schedule.engine)
        existing = await self._existing(schedule.id)
        if existing is not None:
            if on_conflict is OnConflict.ERROR:
                raise ScheduleExistsError(schedule.id)
            if on_conflict is OnConflict.KEEP and existing.engine is not schedule.engine:
                return existing
            schedule = existing if on_conflict is OnConflict.KEEP else _succeeding(schedule, existing)
        if schedule.engine is EngineName.APSCHEDULER:
            self._runtime.local.adopt(schedule.id, workflow)
        applied = await engine.apply(schedule)
        try:
            stored = await history.put_schedule(applied, on_conflict=on_conflict)
        except BaseException:
            if existing is None or existing.engine is not schedule.engine:
                await engine.withdraw(applied)
            else:
                await engine.apply(existing)
            raise
        if stored.engine is EngineName.APSCHEDULER:
            self._runtime.local.confirm(stored)
        if existing is not None and existing.engine is not stored.engine:
            await self._runtime.engine(existing.engine).withdraw(existing)
        return stored

    async def _existing(self, schedule_id: str) -> Schedule | None:
        try:
            return await self._runtime.history.get_schedule(schedule_id)
        except ScheduleNotFoundError:
            return None


def _succeeding(new: Schedule, old: Schedule) -> Schedule:
    """Return the new schedule with what it takes over from the one it replaces.

    An unchanged trigger keeps its pause. An interval keeps the instant it is counted from: scheduling it again
    at each start of the program must not push its fire times away, or a daily job in a program that is
    restarted daily would never run.
    """
    if new.engine is not old.engine:
        return new
    trigger = _keep_anchor(new.trigger, old.trigger)
    return replace(new, trigger=trigger, state=old.state if trigger == old.trigger else new.state)


def _keep_anchor(new: TriggerSpec, old: TriggerSpec) -> TriggerSpec:
    if new.kind is not TriggerKind.INTERVAL or old.kind is not TriggerKind.INTERVAL:
        return new
    same = {**new.fields, "start": ""} == {**old.fields, "start": ""}
    return old if same else new


def _checked_id(schedule_id: str) -> str:
    if not isinstance(schedule_id, str) or not schedule_id.strip() or not schedule_id.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"schedule id {schedule_id!r}: expected printable text that is not empty")
    return schedule_id


def _on_conflict(value: str) -> OnConflict:
    try:
        return OnConflict(value)
    except ValueError:
        raise ConfigurationError(f"on_conflict {value!r} is unknown{nearest(str(value), list(OnConflict))}") from None
