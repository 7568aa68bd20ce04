"""Run one workflow once per repository, on any engine, and gather what became of each."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mahavishnu.classification import TaskCharacteristics, explain_task
from mahavishnu.errors import ConfigurationError, EngineUnavailableError, MahavishnuError, RunNotFoundError
from mahavishnu.history.waiting import wait_for_jobs
from mahavishnu.model.engine import EngineName
from mahavishnu.model.ids import new_id
from mahavishnu.model.job import JobOptions, JobRequest
from mahavishnu.model.run import Run, RunFilter, run_id
from mahavishnu.model.states import RunState
from mahavishnu.scheduler.choosing import parse_engine
from mahavishnu.scheduler.presence import PRESENT_MS
from mahavishnu.scheduler.results import RepoRun, WorkflowResult
from mahavishnu.workflows.registry import Workflow, repository_arguments
from mahavishnu.workflows.repos import Repo, RepoCatalogue, commit_sha, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mahavishnu.scheduler.runtime import Runtime

__all__ = ["AcrossRepos"]

_MANY = 10_000
WORKER_APPEARS = timedelta(seconds=2)
"""How long a worker that has just been started may take to report itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One repository's part: the request, or the reason why there is none."""

    repo: Repo | None
    request: JobRequest
    problem: str | None = None


class AcrossRepos:
    """Executes workflows across repositories.

    Args:
        runtime: The app's engines and ledger.
        catalogue: The configured repositories.
    """

    def __init__(self, runtime: Runtime, catalogue: RepoCatalogue) -> None:
        self._runtime = runtime
        self._catalogue = catalogue

    async def execute(
        self,
        task: Mapping[str, Any],
        *,
        adapter_name: str | None,
        repos: Sequence[Repo | str | os.PathLike[str]] | None,
        resume: WorkflowResult | str | None,
        characteristics: TaskCharacteristics | None,
        timeout: timedelta | None,
    ) -> WorkflowResult:
        """Run a workflow once per repository and wait for all of them; see `MahavishnuApp.execute_workflow`."""
        workflow, context = self._workflow_of(task)
        await self._runtime.open_history()
        earlier = await self._earlier(resume)
        chosen = self._chosen(workflow, context, repos)
        again = chosen if earlier is None else _to_run_again(chosen, earlier)
        engine = self._engine(workflow, adapter_name, chosen, characteristics)
        execution = new_id(self._runtime.clock.now_ms())
        parts = [await self._part(workflow, context, repo, execution) for repo in again]
        done = await self._run(parts, engine, timeout)
        kept = {} if earlier is None else {run.repo: run for run in earlier.runs}
        runs = [done.get(_name(repo)) or kept[_name(repo)] for repo in chosen]
        return WorkflowResult(id=execution, task=workflow.key, engine=engine, runs=runs)

    def _workflow_of(self, task: Mapping[str, Any]) -> tuple[Workflow, dict[str, Any]]:
        if not isinstance(task.get("type"), str):
            raise ConfigurationError(f"task {dict(task)!r} names no workflow; write {{'type': 'code_sweep'}}")
        return self._runtime.registry.get(task["type"]), {k: v for k, v in task.items() if k != "type"}

    def _chosen(
        self, workflow: Workflow, context: Mapping[str, Any], repos: Sequence[Repo | str | os.PathLike[str]] | None
    ) -> list[Repo | None]:
        """Return the repositories to run on; one `None` for a workflow that takes none."""
        takes_repo = any(workflow.signature.accepts(name) and name not in context for name in ("repo", "repos"))
        if repos is None:
            if not takes_repo:
                return [None]
            if not len(self._catalogue):
                raise ConfigurationError(
                    f"workflow {workflow.key!r} runs on repositories and none are configured; add [[repos]] to"
                    " mahavishnu.toml, or give repos="
                )
            return list(self._catalogue)
        if not takes_repo:
            raise ConfigurationError(
                f"workflow {workflow.key!r} has no parameter `repo` or `repos` to receive a repository; add one, or"
                " leave repos= out"
            )
        found = [self._repo(repo) for repo in repos]
        RepoCatalogue(found)  # refuses two of one name, whose results could not be told apart
        return list(found)

    def _repo(self, given: Repo | str | os.PathLike[str]) -> Repo:
        """Return a repository given as such, by its configured name, or by its path."""
        if isinstance(given, str) and os.sep not in given and not os.path.isdir(given):
            return self._catalogue.get(given)
        at = Repo.at(given)
        return next((repo for repo in self._catalogue if repo.path == at.path), at)

    def _engine(
        self,
        workflow: Workflow,
        adapter_name: str | None,
        repos: Sequence[Repo | None],
        characteristics: TaskCharacteristics | None,
    ) -> EngineName:
        if adapter_name is not None:
            return parse_engine(adapter_name)
        known = characteristics or TaskCharacteristics(complexity="dag" if len(repos) > 1 else "simple")
        return explain_task(workflow.key, known).engine

    async def _part(self, workflow: Workflow, context: Mapping[str, Any], repo: Repo | None, execution: str) -> _Part:
        arguments = dict(context) if repo is None else {**repository_arguments(workflow, repo), **context}
        options = JobOptions(timeout=workflow.timeout or self._runtime.settings.jobs.timeout)
        request = JobRequest(
            task=workflow.key,
            context=arguments,
            options=options,
            job_id=new_id(self._runtime.clock.now_ms()),
            parent_id=execution,
            repo=None if repo is None else repo.name,
        )
        workflow.bind(arguments)
        if repo is None:
            return _Part(repo=None, request=request)
        try:
            await asyncio.to_thread(verify, repo)
            return _Part(repo=repo, request=replace(request, commit_sha=await commit_sha(repo)))
        except MahavishnuError as exc:
            return _Part(repo=repo, request=request, problem=str(exc))

    async def _run(self, parts: Sequence[_Part], engine: EngineName, timeout: timedelta | None) -> dict[str, RepoRun]:
        """Run what can be run, and record why the rest cannot be."""
        failed = [self._unusable(part, engine) for part in parts if part.problem is not None]
        history = self._runtime.history
        if failed:
            await history.record_runs(failed)
        requests = [part.request for part in parts if part.problem is None]
        ended: dict[str, Run] = {run.job_id: run for run in failed}
        if requests:
            if engine is EngineName.ONEIRIC:
                await self._require_worker()
            await self._runtime.engine(engine).submit(requests)
            ids = [request.job_id for request in requests if request.job_id is not None]
            ended |= await wait_for_jobs(history, ids, timeout=timeout)
        return {_name(part.repo): self._outcome(part, ended) for part in parts}

    def _outcome(self, part: _Part, ended: Mapping[str, Run]) -> RepoRun:
        run = ended.get(part.request.job_id or "")
        if run is not None:
            return RepoRun.of(run)
        return RepoRun(
            repo=_name(part.repo),
            job_id=part.request.job_id or "",
            state=RunState.RUNNING,
            error="not finished when the time given to wait was up; it goes on in the background",
        )

    def _unusable(self, part: _Part, engine: EngineName) -> Run:
        now_ms = self._runtime.clock.now_ms()
        job_id = part.request.job_id or new_id(now_ms)
        return Run(
            id=run_id(job_id, 1),
            job_id=job_id,
            task=part.request.task,
            engine=engine,
            state=RunState.FAILED,
            started_at_ms=now_ms,
            finished_at_ms=now_ms,
            worker=self._runtime.process_id,
            error=part.problem,
            repo=part.request.repo,
            parent_id=part.request.parent_id,
        )

    async def _require_worker(self) -> None:
        """Refuse to wait for jobs that nobody would run; one that is just starting is waited for."""
        give_up = self._runtime.clock.monotonic() + WORKER_APPEARS.total_seconds()
        while not await self._has_worker():
            if self._runtime.clock.monotonic() > give_up:
                raise EngineUnavailableError(
                    "oneiric",
                    "no worker is running, so nobody would run these jobs",
                    "start one with `mahavishnu worker`",
                )
            await asyncio.sleep(0.1)

    async def _has_worker(self) -> bool:
        await self._runtime.history.flush()
        since_ms = self._runtime.clock.now_ms() - PRESENT_MS
        processes = await self._runtime.history.list_processes(seen_since_ms=since_ms)
        return any(process.kind == "worker" for process in processes)

    async def _earlier(self, resume: WorkflowResult | str | None) -> WorkflowResult | None:
        if resume is None or isinstance(resume, WorkflowResult):
            return resume
        runs = await self._runtime.history.list_runs(RunFilter(parent_id=resume, limit=_MANY))
        if not runs:
            raise RunNotFoundError(resume)
        last = {run.repo or "": RepoRun.of(run) for run in reversed(runs)}
        return WorkflowResult(id=resume, task=runs[0].task, engine=runs[0].engine, runs=list(last.values()))


def _to_run_again(chosen: Sequence[Repo | None], earlier: WorkflowResult) -> list[Repo | None]:
    succeeded = {run.repo for run in earlier.runs if run.state is RunState.SUCCEEDED}
    return [repo for repo in chosen if _name(repo) not in succeeded]


def _name(repo: Repo | None) -> str:
    return "" if repo is None else repo.name
