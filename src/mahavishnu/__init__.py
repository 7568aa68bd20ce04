"""Mahavishnu: one front door to the right scheduler.

The public names are imported on first use, so that `import mahavishnu` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mahavishnu.classification import Classification as Classification
    from mahavishnu.classification import TaskCharacteristics as TaskCharacteristics
    from mahavishnu.classification import classify_task as classify_task
    from mahavishnu.classification import explain_task as explain_task
    from mahavishnu.errors import MahavishnuError as MahavishnuError
    from mahavishnu.model.job import BackoffPolicy as BackoffPolicy
    from mahavishnu.model.job import EnqueuedJob as EnqueuedJob
    from mahavishnu.model.outcome import Cancel as Cancel
    from mahavishnu.model.outcome import Retry as Retry
    from mahavishnu.model.outcome import Snooze as Snooze
    from mahavishnu.model.run import Run as Run
    from mahavishnu.model.schedule import Schedule as Schedule
    from mahavishnu.observability.logs import get_logger as get_logger
    from mahavishnu.scheduler.app import MahavishnuApp as MahavishnuApp
    from mahavishnu.scheduler.results import Scheduled as Scheduled
    from mahavishnu.scheduler.results import WorkflowResult as WorkflowResult
    from mahavishnu.scheduler.scheduler import MahavishnuScheduler as MahavishnuScheduler
    from mahavishnu.workflows.context import JobContext as JobContext
    from mahavishnu.workflows.repos import Repo as Repo

_HOMES = {
    "classification": ("Classification", "TaskCharacteristics", "classify_task", "explain_task"),
    "errors": ("MahavishnuError",),
    "model.job": ("BackoffPolicy", "EnqueuedJob"),
    "model.outcome": ("Cancel", "Retry", "Snooze"),
    "model.run": ("Run",),
    "model.schedule": ("Schedule",),
    "observability.logs": ("get_logger",),
    "scheduler.app": ("MahavishnuApp",),
    "scheduler.results": ("Scheduled", "WorkflowResult"),
    "scheduler.scheduler": ("MahavishnuScheduler",),
    "workflows.context": ("JobContext",),
    "workflows.repos": ("Repo",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name's module when the name is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    """Return the public names too, for people exploring at a prompt."""
    return sorted({*globals(), *_HOME_OF})
