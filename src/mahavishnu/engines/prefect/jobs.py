"""The jobs of one flow run: each through the executor, its every attempt in the ledger before Prefect hears of it.

Prefect owns the waiting between attempts after failures, so that its pages show it; what a job asks for itself
(`Retry`, `Snooze`) is waited for inside the task.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from mahavishnu.errors import MahavishnuError, WorkflowError
from mahavishnu.execution.attempt import Attempt, StopReason
from mahavishnu.execution.backoff import backoff_delay
from mahavishnu.execution.executor import Executor
from mahavishnu.execution.outcomes import Settlement, Verb, running_run
from mahavishnu.history.store import RequestKind
from mahavishnu.model.job import DEFAULT_BACKOFF
from mahavishnu.model.run import Run, RunFilter
from mahavishnu.model.states import RunState
from mahavishnu.observability.logs import get_logger
from mahavishnu.workflows.registry import DEFAULT_MAX_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mahavishnu.engines.prefect.host import Host
    from mahavishnu.workflows.registry import Workflow

__all__ = ["Job", "JobEnded", "JobSpec", "Jobs"]

# Prefect takes no more delays than this, and repeats the last one.
_MOST_DELAYS = 50
_LOOK_SECONDS = 0.5

_log = get_logger(__name__)


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job as it goes to a flow run in its parameters, so that people can read it.

    Attributes:
        job_id: Its id.
        context: The workflow's arguments, as JSON data.
        repo: The repository it is for.
        commit_sha: That repository's commit.
        timeout_ms: How long one attempt may take; `None`: the workflow's own setting.
        max_attempts: How often it may run; `None`: the workflow's own setting.
        labels: The job's labels.
    """

    job_id: str
    context: dict[str, object] = {}
    repo: str | None = None
    commit_sha: str | None = None
    timeout_ms: int | None = None
    max_attempts: int | None = None
    labels: dict[str, str] = {}


class JobEnded(WorkflowError):
    """A job ended badly without an exception that could be raised again, such as by its time limit."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class Job:
    """One job: its attempts so far.

    Args:
        attempt: Its first attempt.
        workflow: What it runs; `None`: nothing that is registered here.
        jobs: The jobs of the flow run, whose executor it uses.
    """

    def __init__(self, attempt: Attempt, workflow: Workflow | None, jobs: Jobs) -> None:
        self.attempt = attempt
        self.last: Run | None = None
        self.task: asyncio.Task[Any] | None = None
        self.may_repeat = False
        self._jobs = jobs
        self._history = jobs.host.history
        self._clock = jobs.host.clock
        self._failures = 0
        most = attempt.max_attempts or (workflow.max_attempts if workflow else DEFAULT_MAX_ATTEMPTS)
        policy = (workflow.backoff if workflow else None) or DEFAULT_BACKOFF
        # Drawn here and not by Prefect, whose jitter lengthens delays where ours shortens them.
        self.delays: list[float] = [
            backoff_delay(policy, n).total_seconds() for n in range(1, min(most, _MOST_DELAYS + 1))
        ]
        self.retries: int = most - 1
        self._most = most

    async def recall(self) -> bool:
        """Look the job up in the ledger; returns whether there is anything left to do for it."""
        rows = await self._history.list_runs(RunFilter(job_id=self.attempt.job_id, limit=1))
        self.last = rows[0] if rows else None
        if self.last is None or not self.last.is_final:
            return True
        if self.last.state in {RunState.SUCCEEDED, RunState.CANCELLED}:
            return False
        # Run again by hand, from Prefect's page: further attempts, not the old ones once more.
        done = self.last.attempt
        self.attempt: Attempt = msgspec.structs.replace(self.attempt, attempt=done + 1, max_attempts=self._most + done)
        return True

    async def cancel_waiting(self) -> None:
        """End it while it waits for its turn, a retry or the end of a snooze; nothing if it has ended."""
        if self.last is not None and self.last.ends_job:
            return
        now_ms = self._clock.now_ms()
        self.last = msgspec.structs.replace(
            running_run(self.attempt, now_ms, self._jobs.host.worker),
            state=RunState.CANCELLED,
            finished_at_ms=now_ms,
            reason="cancelled on request",
        )
        await self._history.record_runs([self.last])
        if self.task is not None:
            self.task.cancel()

    async def try_once(self) -> Run:
        """Make attempts until the job has ended, or is to be tried again after a delay of Prefect's.

        Returns:
            The run that ended the job: succeeded or cancelled.

        Raises:
            Exception: What the job raised; `may_repeat` says whether it is to be tried again.
        """
        self.may_repeat = False
        while True:
            settlement = await self._execute()
            self.last = settlement.run
            if settlement.verb is Verb.ACK:
                return settlement.run
            if settlement.verb is not Verb.REPEAT:
                raise _error_of(settlement)
            self._advance(settlement)
            if settlement.run.state not in {RunState.SNOOZED, RunState.RETRYING}:
                self.may_repeat: bool = True
                self._failures += 1
                raise _error_of(settlement)
            await asyncio.sleep(max(0.0, ((settlement.due_ms or 0) - self._clock.now_ms()) / 1000))

    async def _execute(self) -> Settlement:
        host = self._jobs.host
        await self._history.record_runs([running_run(self.attempt, host.clock.now_ms(), host.worker)])
        settlement = await self._jobs.executor.execute(self.attempt)
        assert settlement is not None, "the executor abandons nothing here"
        if settlement.verb is Verb.HAND_BACK:
            raise asyncio.CancelledError  # its row stays live: whoever reads the flow run back records the end
        settlement = self._with_prefects_delay(settlement)
        await self._history.record_runs([settlement.run])
        return settlement

    def _with_prefects_delay(self, settlement: Settlement) -> Settlement:
        """Have the ledger say when Prefect will begin the next attempt."""
        run = settlement.run
        if settlement.verb is not Verb.REPEAT or run.state in {RunState.SNOOZED, RunState.RETRYING}:
            return settlement
        delay_ms = round(1000 * self.delays[min(self._failures, len(self.delays) - 1)])
        due_ms = (run.finished_at_ms or 0) + delay_ms
        again = msgspec.structs.replace(run, next_attempt_at_ms=due_ms)
        return msgspec.structs.replace(settlement, run=again, due_ms=due_ms)

    def _advance(self, settlement: Settlement) -> None:
        same = settlement.next_attempt == self.attempt.attempt  # a snooze: the same attempt, delivered once more
        self.attempt = msgspec.structs.replace(
            self.attempt, attempt=settlement.next_attempt, delivery=self.attempt.delivery + 1 if same else 1
        )


class Jobs:
    """The jobs of one flow run, and those who may cancel them. An async context manager.

    Args:
        host: Whose workflows and ledger are used.
        attempts: The first attempt of each.
    """

    def __init__(self, host: Host, attempts: Sequence[Attempt]) -> None:
        self.host = host
        self.executor: Executor = Executor(
            worker=host.worker, events=host.events, registry=host.registry, clock=host.clock, threads=host.threads
        )
        self.jobs: list[Job] = [
            Job(a, host.registry.get(a.task) if a.task in host.registry else None, self) for a in attempts
        ]
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Jobs:
        self._watch = asyncio.create_task(self._watch_for_cancels(), name="mahavishnu-prefect-cancels")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        self.executor.close()

    async def _watch_for_cancels(self) -> None:
        by_id = {job.attempt.job_id: job for job in self.jobs}
        seen = -1
        while True:
            try:
                version = await self.host.history.steering_version()
                if version != seen:
                    seen = version
                    for request in await self.host.history.take_requests(RequestKind.CANCEL_RUN, by_id):
                        if not self.executor.stop_jobs({request.target}, StopReason.CANCEL):
                            await by_id[request.target].cancel_waiting()
            except MahavishnuError as exc:
                _log.warning("cancels_not_watched", error=str(exc))
            await asyncio.sleep(_LOOK_SECONDS)


def _error_of(settlement: Settlement) -> Exception:
    """Return what Prefect is told: the job's own exception, unless that would end the flow run too."""
    run = settlement.run
    if isinstance(settlement.exception, Exception):
        return settlement.exception
    return JobEnded(run.error or run.reason or run.state.value)
