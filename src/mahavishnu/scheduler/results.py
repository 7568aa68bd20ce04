"""What the front door hands back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from mahavishnu.classification import Classification
    from mahavishnu.model.engine import EngineName
    from mahavishnu.model.run import Run

__all__ = ["RepoRun", "Scheduled", "WorkflowResult", "WorkflowState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """What `schedule` returns.

    Attributes:
        id: The schedule's id.
        engine: Where it runs.
        classification: Why there.
        next_fire_time: When it fires next (UTC); `None`: paused, or its engine has not said yet.
    """

    id: str
    engine: EngineName
    classification: Classification
    next_fire_time: datetime | None


class WorkflowState(StrEnum):
    """How a workflow across repositories ended."""

    SUCCEEDED = "succeeded"
    """Every repository's run succeeded."""
    PARTIAL = "partial"
    """Some succeeded, some did not."""
    FAILED = "failed"
    """None succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoRun:
    """One repository's part of a workflow.

    Attributes:
        repo: The repository's name, or `""` for a workflow that was given none.
        job_id: The job it became.
        state: How it ended.
        result: What the workflow returned, as plain data.
        error: The error in one line.
        duration: How long the last attempt took.
        commit_sha: The repository's commit when it began.
        attempts: How many attempts it took.
    """

    repo: str
    job_id: str
    state: RunState
    result: Any = None
    error: str | None = None
    duration: timedelta | None = None
    commit_sha: str | None = None
    attempts: int = 1

    @classmethod
    def of(cls, run: Run) -> RepoRun:
        """Return the part that the ledger's run tells of."""
        return cls(
            repo=run.repo or "",
            job_id=run.job_id,
            state=run.state,
            result=None if run.result is None else msgspec.json.decode(run.result),
            error=run.error or run.reason,
            duration=run.duration,
            commit_sha=run.commit_sha,
            attempts=run.attempt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """What `execute_workflow` returns.

    Attributes:
        id: The execution's id; its runs carry it as `parent_id`.
        task: The workflow's key.
        engine: Where it ran.
        runs: One per repository, in the order they were given.
    """

    id: str
    task: str
    engine: EngineName
    runs: Sequence[RepoRun]

    @property
    def failed(self) -> list[RepoRun]:
        """The runs that did not succeed."""
        return [run for run in self.runs if run.state is not RunState.SUCCEEDED]

    @property
    def state(self) -> WorkflowState:
        """How the whole ended."""
        if not self.failed:
            return WorkflowState.SUCCEEDED
        return WorkflowState.FAILED if len(self.failed) == len(self.runs) else WorkflowState.PARTIAL
