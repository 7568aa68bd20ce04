"""The generic flow: runs a registered workflow, once or once per repository, each as a task of its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State  # noqa: TC002 - Prefect looks annotations up
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from mahavishnu.engines.prefect.host import APP_VARIABLE, flow_host
from mahavishnu.engines.prefect.jobs import Job, Jobs, JobSpec
from mahavishnu.engines.prefect.lateness import judge
from mahavishnu.engines.prefect.marks import FLOW_RUN_LABEL, fire_time_of
from mahavishnu.engines.prefect.turns import Turns
from mahavishnu.errors import ScheduleNotFoundError
from mahavishnu.execution.attempt import Attempt
from mahavishnu.history.store import Skip
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import to_ms
from mahavishnu.model.states import RunState
from mahavishnu.observability.events import OccurrenceSkipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from prefect.client.schemas.objects import FlowRun

    from mahavishnu.engines.prefect.host import Host
    from mahavishnu.model.run import Run
    from mahavishnu.model.schedule import Schedule

__all__ = ["APP_VARIABLE", "run_workflow", "workflow_job_variables"]

# Beside each other in one flow run; the others wait for their turn.
_AT_ONCE = 8
_MILLISECOND = timedelta(milliseconds=1)
_FINE = {RunState.SUCCEEDED, RunState.CANCELLED}


class Outcome:
    """What a task returns. Prefect links tasks by the identity of values, and this is never the same twice."""

    def __init__(self, run: Run) -> None:
        self.state = run.state.value
        self.result: str | None = run.result


@task(name="run", persist_result=False, cache_policy=NO_CACHE)
async def run_job(job: Any) -> Any:
    """Run one job until it ends or is to be tried again; a failure is raised, for Prefect to try again."""
    run = await job.try_once()
    if run.state is RunState.CANCELLED:
        return Cancelled(message=run.reason)
    return Outcome(run)


@flow(name="mahavishnu", persist_result=False)
async def run_workflow(
    workflow: str,
    context: dict[str, Any] | None = None,
    schedule_id: str | None = None,
    jobs: list[dict[str, Any]] | None = None,
    parent_id: str | None = None,
    fire_at: str | None = None,
) -> State[Any]:
    """Run a registered workflow.

    Args:
        workflow: Its key.
        context: Its arguments, where no jobs are given.
        schedule_id: The schedule this is an occurrence of.
        jobs: The jobs to run; by default one, with the id of the flow run.
        parent_id: The execution across repositories that the jobs belong to.
        fire_at: The fire time, ISO 8601, where Prefect's own schedule did not start the run.
    """
    async with flow_host() as host:
        flow_run = _flow_run()
        given = jobs or [{"job_id": flow_run.id.hex, "context": context or {}}]
        specs = [msgspec.convert(job, JobSpec) for job in given]
        due = fire_time_of(flow_run)
        schedule = None
        if schedule_id is not None:
            try:
                schedule = await host.history.get_schedule(schedule_id)
            except ScheduleNotFoundError:
                return Cancelled(name="Skipped", message=f"the schedule {schedule_id!r} was removed")
        attempts = [_attempt(workflow, spec, flow_run, schedule, due, parent_id) for spec in specs]
        if schedule is not None and due is not None:
            why_not = await _guard(host, schedule, due, flow_run, attempts[0])
            if why_not is not None:
                return Cancelled(name="Skipped", message=why_not)
        return await _run(host, attempts)


def _flow_run() -> FlowRun:
    context = FlowRunContext.get()
    assert context is not None, "called as a flow"
    assert context.flow_run is not None, "called as a flow"
    return context.flow_run


def _attempt(
    workflow: str, spec: JobSpec, flow_run: FlowRun, schedule: Schedule | None, due: datetime | None, parent: str | None
) -> Attempt:
    options = None if schedule is None else schedule.options
    timeout_ms, most, labels = spec.timeout_ms, spec.max_attempts, spec.labels
    if options is not None:
        labels = {**options.labels, **labels}
        most = most or options.max_attempts
        timeout_ms = timeout_ms or (None if options.timeout is None else options.timeout // _MILLISECOND)
    return Attempt(
        job_id=spec.job_id,
        task=workflow,
        engine=EngineName.PREFECT,
        context=spec.context,
        max_attempts=most,
        timeout_ms=timeout_ms,
        schedule_id=None if schedule is None else schedule.id,
        scheduled_for_ms=None if due is None else to_ms(due),
        repo=spec.repo,
        commit_sha=spec.commit_sha,
        parent_id=parent,
        labels={**labels, FLOW_RUN_LABEL: str(flow_run.id)},
    )


# --- may it run? ---


async def _guard(host: Host, schedule: Schedule, due: datetime, flow_run: FlowRun, attempt: Attempt) -> str | None:
    """Return why the occurrence does not run, recorded as skipped; `None`: it runs, perhaps after a wait."""
    verdict = judge(schedule, due, host.clock.now())
    why_not = verdict.skip
    if why_not is None and flow_run.deployment_id is not None:
        turns = Turns(host, schedule, deployment_id=flow_run.deployment_id, flow_run_id=flow_run.id)
        why_not = await turns.take(attempt, due, in_turn=verdict.in_turn)
    if why_not is not None:
        await _record_skip(host, schedule, to_ms(due), why_not)
    return why_not


async def _record_skip(host: Host, schedule: Schedule, due_ms: int, reason: str) -> None:
    host.history.note_skips([Skip(schedule_id=schedule.id, first_ms=due_ms, last_ms=due_ms, count=1, reason=reason)])
    await host.history.flush()
    host.events.emit(
        OccurrenceSkipped(
            schedule_id=schedule.id, task=schedule.task, first_ms=due_ms, last_ms=due_ms, count=1, reason=reason
        )
    )


# --- run it ---


async def _run(host: Host, attempts: Sequence[Attempt]) -> State[Any]:
    gate = asyncio.Semaphore(_AT_ONCE)
    async with Jobs(host, attempts) as jobs:
        await asyncio.gather(*(_run_one(job, gate) for job in jobs.jobs))
        return _state_of(jobs.jobs)


async def _run_one(job: Job, gate: asyncio.Semaphore) -> None:
    job.task = task_here = asyncio.current_task()
    try:
        async with gate:
            if await job.recall():
                await _step(job)
    except asyncio.CancelledError:
        if task_here is None or job.last is None or job.last.state is not RunState.CANCELLED:
            raise
        task_here.uncancel()  # this job alone was cancelled, while it waited


async def _step(job: Job) -> None:
    attempt = job.attempt
    step: Any = run_job.with_options(
        name=attempt.task,
        task_run_name=f"{attempt.task}:{attempt.repo}" if attempt.repo else attempt.task,
        retries=job.retries,
        retry_delay_seconds=job.delays,
        retry_condition_fn=lambda _task, _task_run, _state: job.may_repeat,
    )
    await step(quote(job), return_state=True)


def _state_of(jobs: Sequence[Job]) -> State[Any]:
    """Return the flow run's state: failed if any job failed; cancelled if that is all that happened to them."""
    states = [None if job.last is None else job.last.state for job in jobs]
    failed = [job for job, state in zip(jobs, states, strict=True) if state not in _FINE]
    cancelled = states.count(RunState.CANCELLED)
    what = "repositories" if any(job.attempt.repo for job in jobs) else "jobs"
    if len(failed) == len(jobs) == 1:
        last = failed[0].last
        return Failed(message=None if last is None else last.error or last.reason)
    if failed:
        return Failed(message=f"{len(failed)}/{len(jobs)} {what} failed")
    if cancelled == len(jobs):
        return Cancelled(message="cancelled on request")
    return Completed(message=f"{len(jobs) - cancelled}/{len(jobs)} {what} succeeded")


def workflow_job_variables(app: str, project: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the job variables with which a process worker can load the app.

    Args:
        app: The app, as `module:attribute`.
        project: The directory its module is imported from, and the run stands in.
        environment: Further variables for the run.
    """
    return {"env": {**(environment or {}), APP_VARIABLE: app}, "working_dir": str(project.absolute())}
