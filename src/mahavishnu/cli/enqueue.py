"""`mahavishnu enqueue`: put one durable job on a queue, and wait for it where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli import as_json as to_json
from mahavishnu.cli.durations import duration
from mahavishnu.cli.options import ahead, as_json, context, pair, provider, text_pair
from mahavishnu.cli.output import print_json
from mahavishnu.cli.progress import spinner
from mahavishnu.cli.wording import when
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.errors import ConfigurationError
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from mahavishnu.cli.session import Session
    from mahavishnu.model.job import EnqueuedJob
    from mahavishnu.model.run import Run
    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["command"]


@click.command("enqueue")
@click.argument("key")
@click.option(
    "--context", type=context, metavar="JSON", help="Arguments as a JSON object, @FILE, or - for standard input."
)
@click.option(
    "--set",
    "pairs",
    type=pair,
    metavar="NAME=VALUE",
    multiple=True,
    help="One argument; repeatable. JSON, or else text.",
)
@click.option(
    "--at", type=ahead, metavar="TIME", help="Not before then: ISO 8601 with an offset, or in how long (10m)."
)
@click.option("--key", "idempotency_key", metavar="KEY", help="Equal keys of one workflow make one job.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is most urgent; 5 by default.")
@click.option("--queue", metavar="NAME", help="The queue it waits in; `default` by default.")
@provider
@click.option("--max-attempts", type=click.IntRange(1), help="How often it may run until it succeeds.")
@click.option("--timeout", type=duration, help="How long one attempt may take, such as 90s or 5m.")
@click.option(
    "--label", "labels", type=text_pair, metavar="NAME=TEXT", multiple=True, help="A label for the ledger; repeatable."
)
@click.option("--wait", is_flag=True, help="Wait until the job has ended; exit 1 if it did not succeed.")
@as_json
@click.pass_obj
def command(
    session: Session,
    key: str,
    *,
    context: dict[str, Any] | None,
    pairs: tuple[tuple[str, Any], ...],
    provider: str | None,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put one durable job of the workflow KEY on a queue. It is safe once this returns."""
    arguments = {**(context or {}), **dict(pairs)}
    metadata = _metadata(**options)

    async def act(app: MahavishnuApp) -> tuple[EnqueuedJob, Run | None]:
        job = await app.scheduler.enqueue_workflow(key, provider, arguments, metadata)
        if not wait:
            return job, None
        if not as_json:
            click.echo(_accepted(job), err=True)
        with spinner(f"waiting for {key}"):
            return job, await _ended(app, job)

    job, ended = session.run(act)
    _report(job, ended, as_json=as_json)
    if ended is not None and ended.state is not RunState.SUCCEEDED:
        raise click.exceptions.Exit(1)


def _metadata(
    *,
    at: datetime | None,
    timeout: timedelta | None,
    labels: tuple[tuple[str, str], ...],
    **others: Any,
) -> dict[str, Any]:
    seconds = None if timeout is None else timeout.total_seconds()
    return {"schedule_time": at, "timeout_seconds": seconds, "labels": dict(labels) or None, **others}


async def _ended(app: MahavishnuApp, job: EnqueuedJob) -> Run:
    from mahavishnu.history.waiting import wait_for_jobs
    from mahavishnu.scheduler.presence import PRESENT_MS

    if job.provider == "memory":
        raise ConfigurationError("--wait needs a provider that workers share; 'memory' ends with this process")
    history = await app.runtime.open_history()
    processes = await history.list_processes(seen_since_ms=SYSTEM_CLOCK.now_ms() - PRESENT_MS)
    if not any(process.kind == "worker" for process in processes):
        click.echo("no worker is running; the job waits until one is (`mahavishnu worker`)", err=True)
    return (await wait_for_jobs(history, [job.job_id]))[job.job_id]


def _report(job: EnqueuedJob, ended: Run | None, *, as_json: bool) -> None:
    if as_json:
        print_json(to_json.enqueued_job(job) | ({} if ended is None else {"run": to_json.run(ended)}))
    elif ended is None:
        click.echo(_accepted(job))
    else:
        from mahavishnu.cli.runs import print_run

        print_run(ended)


def _accepted(job: EnqueuedJob) -> str:
    due = "" if job.scheduled_for is None else f", due {when(job.scheduled_for, SYSTEM_CLOCK.now())}"
    again = " (there already: the same key made it before)" if job.deduplicated else ""
    return f"job {job.job_id} of {job.workflow} is on {job.provider}/{job.queue}{due}{again}"
