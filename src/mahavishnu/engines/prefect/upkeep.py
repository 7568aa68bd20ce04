"""The Prefect engine's background loop: it keeps ledger and server in agreement, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.schedules import RRuleSchedule
from prefect.exceptions import ObjectNotFound

from mahavishnu.engines.prefect.deploying import Deployer, put_in_order, was_put_as
from mahavishnu.engines.prefect.deployments import SCHEDULE_SLUG
from mahavishnu.engines.prefect.listing import read_deployments
from mahavishnu.engines.prefect.marks import FLOW_LABEL
from mahavishnu.engines.prefect.missing import MissingTimes
from mahavishnu.engines.prefect.timing import plan_trigger
from mahavishnu.errors import DeploymentNotFoundError, EngineUnavailableError, MahavishnuError, ScheduleNotFoundError
from mahavishnu.model.engine import EngineName
from mahavishnu.model.schedule import Schedule, ScheduleState
from mahavishnu.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from mahavishnu.clock import Clock
    from mahavishnu.engines.prefect.readback import Readback
    from mahavishnu.engines.prefect.site import Site
    from mahavishnu.history.store import HistoryStore

__all__ = ["Upkeep", "by_deployment", "delete_deployment"]

_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 3.0
_ROUND_SECONDS = 30.0

_log = get_logger(__name__)


async def by_deployment(history: HistoryStore) -> dict[str, Schedule]:
    """Return the ledger's Prefect schedules by the ids of their deployments."""
    found = await history.list_schedules(engine=EngineName.PREFECT)
    return {schedule.external_id: schedule for schedule in found if schedule.external_id is not None}


class Upkeep:
    """Keeps ledger and server in agreement while it runs.

    Args:
        site: Where the server is.
        deployer: Makes the deployments of workflows.
        readback: Brings runs into the ledger.
        history: The ledger.
        clock: Source of time.
    """

    def __init__(
        self, *, site: Site, deployer: Deployer, readback: Readback, history: HistoryStore, clock: Clock
    ) -> None:
        self._site = site
        self._deployer = deployer
        self._readback = readback
        self._history = history
        self._clock = clock
        self._missing = MissingTimes(history=history, clock=clock)
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._steering = -1
        self._round_at = float("-inf")
        self._revisions: Mapping[str, int] = {}
        self._schedules: Mapping[str, Schedule] = {}
        self._problem = ""

    async def start(self) -> None:
        """Bring the server into agreement with the ledger, then keep it so. Idempotent."""
        if self._task is None:
            async with self._site.connect() as client:
                await self._reconcile(client)
                await self._go_round(client)
            self._task = asyncio.create_task(self._keep_until_stopped(), name="mahavishnu-prefect-upkeep")

    async def stop(self) -> None:
        """Keep it so no longer. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """Look soon: something was started in this process."""
        self._woken.set()

    async def _keep_until_stopped(self) -> None:
        while True:
            try:
                await self.look()
                self._problem = ""
            except MahavishnuError as exc:
                if str(exc) != self._problem:  # one line per problem, however often it is met
                    _log.warning("prefect_not_kept", error=str(exc))
                self._problem = str(exc)
                if isinstance(exc, EngineUnavailableError):
                    await self._site.mend()
            except Exception:  # the loop outlives whatever one answer of the server may do to us
                _log.error("prefect_not_kept", exc_info=True)
            await self._pause()

    async def _pause(self) -> None:
        seconds = _BUSY_SECONDS if self._readback.is_busy else _IDLE_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        if self._woken.is_set():  # give what was started a moment to show
            self._woken.clear()
            await asyncio.sleep(_BUSY_SECONDS / 2)

    async def look(self) -> None:
        """Bring ledger and server into agreement once."""
        async with self._site.connect() as client:
            if await self._history.steering_version() != self._steering:
                await self._reconcile(client)
            if self._clock.monotonic() - self._round_at > _ROUND_SECONDS:
                await self._go_round(client)
            await self._readback.read(client, self._schedules)

    async def read_back(self) -> None:
        """Bring what has happened into the ledger once."""
        async with self._site.connect() as client:
            await self._readback.read(client, self._schedules)

    # --- schedules ---

    async def _reconcile(self, client: PrefectClient) -> None:
        """Have deployments for schedules that are new or changed, and none for those that were removed."""
        steering = await self._history.steering_version()
        revisions = await self._history.schedule_revisions(EngineName.PREFECT)
        changed = {it for it, revision in revisions.items() if self._revisions.get(it) != revision}
        gone = self._revisions.keys() - revisions.keys()
        if changed:
            existing = {str(it.id): it for it in await read_deployments(client)}
            for schedule in await self._history.list_schedules(engine=EngineName.PREFECT):
                if schedule.id in changed:
                    await self._put(client, schedule, existing)
        if changed or gone:
            before, self._schedules = self._schedules, await by_deployment(self._history)
            for deployment_id in before.keys() - self._schedules.keys():
                await delete_deployment(client, deployment_id)
        self._revisions, self._steering = revisions, steering

    async def _put(self, client: PrefectClient, schedule: Schedule, existing: Mapping[str, DeploymentResponse]) -> None:
        known = existing.get(schedule.external_id or "")
        try:
            if FLOW_LABEL in schedule.options.labels:
                await self._hold_flow(client, schedule, known)
                return
            deployment = self._deployer.of_schedule(schedule)
            now = self._clock.now()
            deployment_id = await put_in_order(
                client,
                deployment,
                plan=plan_trigger(schedule.trigger, now),
                paused=schedule.state is ScheduleState.PAUSED,
                now=now,
                enforce=False,
                existing=known,
            )
            if str(deployment_id) != schedule.external_id:
                await self._history.set_external_id(schedule.id, str(deployment_id))
        except EngineUnavailableError:
            raise
        except MahavishnuError as exc:
            _log.warning("schedule_not_deployed", schedule=schedule.id, error=str(exc))

    async def _hold_flow(self, client: PrefectClient, schedule: Schedule, known: DeploymentResponse | None) -> None:
        """Hold or release the deployment of a user's own flow after a change in the ledger."""
        if known is None:
            raise DeploymentNotFoundError(schedule.id)
        paused = schedule.state is ScheduleState.PAUSED
        if schedule.id in self._revisions and known.paused != paused:
            await set_paused(client, known.id, paused)

    # --- now and then ---

    async def _go_round(self, client: PrefectClient) -> None:
        """Renew dates before they are used up, heed what people did in Prefect, and account for missing times."""
        self._round_at = self._clock.monotonic()
        await self._site.start_worker()  # where the process that ran it has ended
        if not self._schedules:
            return
        for existing in await read_deployments(client):
            schedule = self._schedules.get(str(existing.id))
            if schedule is None:
                continue
            if any(it.slug == SCHEDULE_SLUG and isinstance(it.schedule, RRuleSchedule) for it in existing.schedules):
                await self._put(client, schedule, {str(existing.id): existing})
            await self._heed_pause(existing, schedule)
        if self._site.runs_worker:
            ours = [it for it in self._schedules.values() if FLOW_LABEL not in it.options.labels]
            await self._missing.look(client, ours)

    async def _heed_pause(self, existing: DeploymentResponse, schedule: Schedule) -> None:
        """Have the ledger say so where somebody paused or resumed a deployment in Prefect."""
        is_flow = FLOW_LABEL in schedule.options.labels
        paused = schedule.state is ScheduleState.PAUSED
        if existing.paused != paused and (is_flow or was_put_as(existing, schedule.state)):
            with contextlib.suppress(ScheduleNotFoundError):
                await self._history.set_paused(schedule.id, existing.paused, next_fire_at=None)


async def set_paused(client: PrefectClient, deployment_id: UUID, paused: bool) -> None:
    """Hold or release a deployment."""
    await (client.pause_deployment(deployment_id) if paused else client.resume_deployment(deployment_id))


async def delete_deployment(client: PrefectClient, deployment_id: str) -> None:
    """Delete a deployment if it is there."""
    with contextlib.suppress(ObjectNotFound):
        await client.delete_deployment(UUID(deployment_id))
