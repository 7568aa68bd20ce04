"""What a scheduler process does for its own upkeep: watch its engines, count, and forget what is old."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mahavishnu.errors import CapabilityError, EngineError
from mahavishnu.history.retention import RetentionPolicy, prune_all
from mahavishnu.model.instants import to_ms
from mahavishnu.queues.base import DeadLetterFilter
from mahavishnu.scheduler.presence import PRESENT_MS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mahavishnu.scheduler.runtime import Runtime
    from mahavishnu.scheduler.scheduler import MahavishnuScheduler

__all__ = [
    "HEALTH_EVERY",
    "INTERNAL_PREFIX",
    "METRICS_EVERY",
    "collect_metrics",
    "engine_health",
    "prune_ledger",
    "schedule_internals",
]

INTERNAL_PREFIX = "mahavishnu."
"""How the ids of the product's own schedules begin."""

HEALTH_EVERY = timedelta(seconds=30)
METRICS_EVERY = timedelta(seconds=60)


async def engine_health(runtime: Runtime) -> dict[str, Any]:
    """Ask every enabled engine how it is.

    Returns:
        By engine, what it says.

    Raises:
        EngineError: One of them cannot take work; the run fails, and `on_failure` hooks hear of it.
    """
    found = [await engine.health() for engine in runtime.enabled_engines()]
    ill = [f"{health.engine}: {health.detail}" for health in found if not health.ready]
    if ill:
        raise EngineError("; ".join(ill))
    return {health.engine: health.detail for health in found}


async def collect_metrics(runtime: Runtime) -> dict[str, Any]:
    """Count what waits, runs and is parked in each queue, the schedules, and the processes at work."""
    history = await runtime.open_history()
    await history.flush()
    queues = {
        f"{queue.provider_name}/{stats.queue}": {
            "ready": stats.ready,
            "delayed": stats.delayed,
            "in_flight": stats.in_flight,
            "dead": stats.dead,
        }
        for queue in await runtime.open_queues()
        for stats in await queue.stats()
    }
    processes = await history.list_processes(seen_since_ms=runtime.clock.now_ms() - PRESENT_MS)
    return {
        "queues": queues,
        "schedules": len(await history.list_schedules()),
        "processes": {kind: sum(it.kind == kind for it in processes) for kind in sorted({it.kind for it in processes})},
    }


async def prune_ledger(runtime: Runtime) -> dict[str, Any]:
    """Delete what the settings let go: old runs and occurrences, and dead letters nobody came for."""
    keep = runtime.settings.retention
    history = await runtime.open_history()
    rows = await prune_all(history, RetentionPolicy(keep=keep.keep), runtime.clock)
    old = DeadLetterFilter(died_before_ms=to_ms(runtime.clock.now() - keep.keep_dead_letters))
    letters = 0
    for queue in await runtime.open_queues():
        try:
            letters += await queue.discard(None, old)
        except CapabilityError:  # a provider that keeps none has none to forget
            continue
    return {"rows": rows, "dead_letters": letters}


_UPKEEP: dict[str, Callable[[Runtime], Awaitable[dict[str, Any]]]] = {
    "health": engine_health,
    "metrics": collect_metrics,
    "retention": prune_ledger,
}


async def schedule_internals(scheduler: MahavishnuScheduler, runtime: Runtime) -> list[str]:
    """Schedule the upkeep in this process; returns the ids of its schedules.

    They are `mahavishnu.health` (every 30 s), `mahavishnu.metrics` (every 60 s) and `mahavishnu.retention` (every
    hour unless the settings say otherwise).

    Args:
        scheduler: Inside its lifecycle.
        runtime: What the same app holds open.
    """
    every = {"health": HEALTH_EVERY, "metrics": METRICS_EVERY, "retention": runtime.settings.retention.interval}
    ids: list[str] = []
    for name, work in _UPKEEP.items():
        key = f"{INTERNAL_PREFIX}{name}"
        if key not in runtime.registry:
            runtime.registry.register(
                key, functools.partial(work, runtime), max_attempts=1, description=_first_line(work)
            )
        seconds = every[name].total_seconds()
        ids.append(await scheduler.schedule_internal_task(key, "interval", id=key, seconds=seconds))
    return ids


def _first_line(work: Callable[..., Any]) -> str:
    return (work.__doc__ or "").strip().partition("\n")[0]
