"""`mahavishnu worker`: run durable jobs, in this process or in several."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli.options import provider
from mahavishnu.errors import CapabilityError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.cli.session import Session
    from mahavishnu.scheduler.app import MahavishnuApp
    from mahavishnu.worker.worker import Worker

__all__ = ["command", "make_worker", "worker_command"]

_STUCK = 75  # EX_TEMPFAIL: whoever started this shall start it again
_MARGIN = timedelta(seconds=15)


@click.command("worker")
@click.option("--queue", "queues", metavar="NAME", multiple=True, help="A queue to work on; repeatable.")
@provider
@click.option("--concurrency", type=click.IntRange(1), help="Jobs at once per process; 100 by default.")
@click.option("--processes", type=click.IntRange(1, 1024), help="How many processes; 1 by default.")
@click.pass_obj
def command(
    session: Session, *, queues: tuple[str, ...], provider: str | None, concurrency: int | None, processes: int | None
) -> None:
    """Run durable jobs until SIGTERM or Ctrl-C; running jobs then have time to finish."""
    import asyncio

    from mahavishnu.observability.logs import configure_logging

    app = _app_of_child(session)
    settings = app.settings
    configure_logging(settings.logging.level, settings.logging.format)
    count = processes or settings.worker.processes
    if count == 1:
        code = asyncio.run(_work(app, queues=queues, provider=provider, concurrency=concurrency))
    else:
        code = asyncio.run(_supervise(app, count, queues=queues, provider=provider, concurrency=concurrency))
    if code == _STUCK:  # a thread that never returns would keep the interpreter from ending
        sys.stdout.flush()
        os._exit(_STUCK)
    raise click.exceptions.Exit(code)


def _app_of_child(session: Session) -> MahavishnuApp:
    """Load the app, and end with the supervisor if one started this process."""
    from mahavishnu.worker.signals import end_with_parent

    app = session.app(required=True)
    end_with_parent(app.settings.worker.grace + _MARGIN)
    return app


async def _work(app: MahavishnuApp, *, queues: Sequence[str], provider: str | None, concurrency: int | None) -> int:
    from mahavishnu.worker.signals import leave, stop_on_signals

    try:
        worker = await make_worker(app, queues=queues, provider=provider, concurrency=concurrency)
        with stop_on_signals(worker):
            await worker.run()
    finally:
        await app.runtime.close()
    if worker.leftovers and not worker.is_stuck:
        leave()  # a job that will not end would keep the event loop from closing
    return _STUCK if worker.is_stuck else 0


async def make_worker(
    app: MahavishnuApp,
    *,
    queues: Sequence[str] = (),
    provider: str | None = None,
    concurrency: int | None = None,
    is_alone: bool = False,
) -> Worker:
    """Return a worker on an open queue of the app, as the settings say where nothing is given.

    Args:
        app: Whose workflows it runs.
        queues: The queues to serve.
        provider: The queue provider.
        concurrency: Most jobs at once.
        is_alone: Whether producers and scheduler are in this process too, so that nothing need be shared.

    Raises:
        CapabilityError: The provider's jobs never leave the process that made them.
    """
    from mahavishnu.worker.worker import Worker

    runtime, settings = app.runtime, app.settings.worker
    history = await runtime.open_history()
    queue = await runtime.open_queue(provider)
    shared = queue.capabilities.shared_between_processes
    if not (shared or is_alone):
        who = f"queue provider {queue.provider_name!r}"
        raise CapabilityError(who, "a worker process", "its jobs never leave the process that made them", ["sqlite"])
    return Worker(
        queue,
        app.registry,
        history,
        events=runtime.events,
        queues=tuple(queues) or settings.queues,
        concurrency=concurrency or settings.concurrency,
        threads=settings.threads,
        lease=settings.lease,
        grace=settings.grace,
        max_deliveries=settings.max_deliveries,
        make_queue=(lambda: runtime.new_queue(provider)) if shared else None,
        clock=runtime.clock,
    )


async def _supervise(
    app: MahavishnuApp, count: int, *, queues: Sequence[str], provider: str | None, concurrency: int | None
) -> int:
    from mahavishnu.worker.signals import stop_on_signals
    from mahavishnu.worker.supervisor import Supervisor

    argv = worker_command(queues=queues, provider=provider, concurrency=concurrency)
    supervisor = Supervisor(argv, processes=count, grace=app.settings.worker.grace)
    with stop_on_signals(supervisor):
        code = await supervisor.run()
    if code:
        raise ConfigurationError("the worker processes were called wrongly; their own message above says how")
    return code


def worker_command(
    *, queues: Sequence[str] = (), provider: str | None = None, concurrency: int | None = None
) -> list[str]:
    """Return the command line of one worker process; global options reach it through the environment."""
    options: list[tuple[str, Any]] = [("--queue", queue) for queue in queues]
    options += [("--provider", provider), ("--concurrency", concurrency), ("--processes", 1)]
    given = [part for name, value in options if value is not None for part in (name, str(value))]
    return [sys.executable, "-m", "mahavishnu", "worker", *given]
