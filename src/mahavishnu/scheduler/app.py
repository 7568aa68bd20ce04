"""The app: one program's settings, workflows and repositories, and its scheduler."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mahavishnu.clock import SYSTEM_CLOCK, Clock
from mahavishnu.scheduler.across_repos import AcrossRepos
from mahavishnu.scheduler.runtime import Runtime
from mahavishnu.scheduler.scheduler import MahavishnuScheduler
from mahavishnu.settings import Settings, load_settings
from mahavishnu.workflows.builtin import builtin_registry
from mahavishnu.workflows.registry import Workflow, WorkflowRegistry
from mahavishnu.workflows.repos import Repo, RepoCatalogue

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from mahavishnu.classification import TaskCharacteristics
    from mahavishnu.model.job import BackoffPolicy
    from mahavishnu.observability.hooks import Failure
    from mahavishnu.scheduler.results import WorkflowResult

__all__ = ["MahavishnuApp"]

F = TypeVar("F", bound=Callable[..., Any])
StartCallback: TypeAlias = Callable[[MahavishnuScheduler], Awaitable[object]]


class MahavishnuApp:
    """One program's settings, workflows and repositories.

    Settings come from `mahavishnu.toml` in the nearest parent folder, then `MAHAVISHNU_*` environment variables,
    then the arguments. Nothing is opened, and no engine imported, until something is scheduled or run.

    Args:
        settings: Ready-made settings; then neither file nor environment is read.
        config: The settings file, instead of the nearest one.
        clock: Source of time.
        **overrides: Settings by name, such as `state_dir=".state"`.

    Raises:
        ConfigurationError: A setting is unknown or wrong; it says in which file and line.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **overrides: Any,
    ) -> None:
        self.settings: Settings = settings or load_settings(
            None if config is None else Path(config), overrides=overrides
        )
        self._clock = clock
        self._characteristics: dict[str, TaskCharacteristics] = {}
        self.start_callbacks: list[StartCallback] = []
        self.registry: WorkflowRegistry = WorkflowRegistry(fallback=builtin_registry(self.settings.checks))
        self.repos: RepoCatalogue = RepoCatalogue(
            Repo(name=r.name, path=r.path, tags=r.tags, role=r.role or None) for r in self.settings.repos
        )

    @cached_property
    def runtime(self) -> Runtime:
        """What this app holds open in this process."""
        return Runtime(self.settings, self.registry, clock=self._clock)

    @cached_property
    def scheduler(self) -> MahavishnuScheduler:
        """The app's scheduler."""
        return MahavishnuScheduler(self)

    # --- workflows ---

    def workflow(
        self,
        key: str,
        *,
        max_attempts: int | None = None,
        timeout: timedelta | None = None,
        backoff: BackoffPolicy | None = None,
        characteristics: TaskCharacteristics | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function under a key; the function itself stays as it is.

        Args:
            key: What jobs and schedules call it by.
            max_attempts: How often a job of it may run until it succeeds; the settings' by default (3).
            timeout: How long one attempt may take; the settings' by default (no limit).
            backoff: Delays between attempts; exponential from 2 s to 15 min, with jitter, by default.
            characteristics: What the task is like, for choosing its engine.

        Raises:
            WorkflowExistsError: Another function has the key.
            WorkflowError: The function cannot be a workflow.
        """

        def register(function: F) -> F:
            attempts = self.settings.jobs.max_attempts if max_attempts is None else max_attempts
            self.registry.register(key, function, max_attempts=attempts, timeout=timeout, backoff=backoff)
            if characteristics is not None:
                self._characteristics[key] = characteristics
            return function

        return register

    def workflow_of(self, func_or_key: Callable[..., Any] | str) -> Workflow:
        """Return the workflow of a key, of a registered function, or of any other function under its own name.

        Raises:
            WorkflowNotFoundError: No workflow has this key.
            WorkflowError: The function cannot be run by a scheduler.
        """
        if isinstance(func_or_key, str):
            return self.registry.get(func_or_key)
        for workflow in self.registry:
            if workflow.function == func_or_key:
                return workflow
        return Workflow.of(_name_of(func_or_key), func_or_key, max_attempts=1)

    def characteristics_of(self, key: str) -> TaskCharacteristics | None:
        """Return what was said of a workflow when it was registered; `None`: nothing."""
        return self._characteristics.get(key)

    def on_start(self, callback: StartCallback) -> StartCallback:
        """Await `callback(scheduler)` at each start of the scheduler, once its engines run; usable as a decorator.

        The place to make schedules: scheduling an id again replaces it, so a restart never makes a second copy. If
        the callback raises, the start fails.
        """
        self.start_callbacks.append(callback)
        return callback

    def on_failure(self, callback: Callable[[Failure], Awaitable[None] | None]) -> Callable[..., Any]:
        """Call `callback` with every failed, timed out or dead-lettered run of this process; usable as a decorator."""
        self.runtime.hooks.add(callback)
        return callback

    # --- repositories ---

    def get_repos(self, tag: str | None = None, role: str | None = None) -> list[Repo]:
        """Return the configured repositories, those with a tag and a role where these are given."""
        return self.repos.select(tag, role)

    async def execute_workflow(
        self,
        task: Mapping[str, Any],
        adapter_name: str | None = None,
        repos: Sequence[Repo | str | os.PathLike[str]] | None = None,
        *,
        resume: WorkflowResult | str | None = None,
        timeout: timedelta | None = None,
    ) -> WorkflowResult:
        """Run a workflow once per repository on an engine, and wait for all of them.

        One repository's failure does not stop the others.

        Args:
            task: `type` is the workflow's key, the other keys are its context.
            adapter_name: `apscheduler`, `oneiric` or `prefect`; `None`: as the workflow is classified.
            repos: Repositories, their configured names, or paths; `None`: all configured ones.
            resume: An earlier result, or its id: only what did not succeed then is run again.
            timeout: How long to wait; what is unfinished then is reported as running, and goes on.

        Returns:
            Its state, and one run per repository in the order given.

        Raises:
            WorkflowNotFoundError: No such workflow is registered.
            ContextError: The context does not fit it.
            EngineUnavailableError: The engine is not enabled, does not answer, or has no worker.
        """
        return await AcrossRepos(self.runtime, self.repos).execute(
            task,
            adapter_name=adapter_name,
            repos=repos,
            resume=resume,
            characteristics=self.characteristics_of(str(task.get("type"))),
            timeout=timeout,
        )


def _name_of(function: Callable[..., Any]) -> str:
    """Return `module.name` of a function, the same whether its module is imported or run as a script."""
    inner = getattr(function, "func", function)
    module = getattr(inner, "__module__", "") or ""
    if module == "__main__":
        main = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(main).stem if main else ""
    name = getattr(inner, "__qualname__", type(inner).__qualname__).replace("<locals>.", "")
    return f"{module}.{name}" if module else name
