"""Every error Mahavishnu raises, in one tree.

```
MahavishnuError                  .retryable: whether the same call may succeed later
├── ConfigurationError           settings, files and arguments that cannot work
│   ├── SettingError             .source, .line, .key
│   ├── UnknownProviderError
│   └── MissingExtraError        names the extra to install
├── StorageError                 the state folder or a database in it cannot be used
├── ScheduleError
│   ├── InvalidTriggerError
│   ├── ScheduleNotFoundError
│   └── ScheduleExistsError
├── WorkflowError
│   ├── WorkflowNotFoundError
│   ├── WorkflowExistsError
│   ├── ContextError             a context does not fit the workflow's signature
│   ├── CommandError             a command could not be started
│   ├── CommandFailedError       a command ended badly; retryable
│   └── BackupFailedError        retryable
├── QueueError
│   ├── QueueConnectionError     retryable
│   ├── QueueNotFoundError
│   ├── LeaseExpiredError
│   ├── EnvelopeError            bytes in a queue that are not a job
│   └── CapabilityError          the engine or provider cannot honour an option
├── EngineError
│   ├── EngineUnavailableError   retryable
│   └── DeploymentNotFoundError
├── HistoryError
│   └── RunNotFoundError
└── CrontabError                 .path, .line
```

Each error keeps what it was given as attributes and builds its own one-line message: the thing, the value,
the remedy. Client libraries' exceptions never leave the module that talks to the client.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BackupFailedError",
    "CapabilityError",
    "CommandError",
    "CommandFailedError",
    "ConfigurationError",
    "ContextError",
    "CrontabError",
    "DeploymentNotFoundError",
    "EngineError",
    "EngineUnavailableError",
    "EnvelopeError",
    "HistoryError",
    "InvalidTriggerError",
    "LeaseExpiredError",
    "MahavishnuError",
    "MissingExtraError",
    "QueueConnectionError",
    "QueueError",
    "QueueNotFoundError",
    "RunNotFoundError",
    "ScheduleError",
    "ScheduleExistsError",
    "ScheduleNotFoundError",
    "SettingError",
    "StorageError",
    "UnknownProviderError",
    "WorkflowError",
    "WorkflowExistsError",
    "WorkflowNotFoundError",
    "nearest",
]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint naming the known word closest to `word`, or all of them.

    Args:
        word: What was given.
        known: The valid words.

    Returns:
        `"; did you mean 'x'?"` when one is close, else `"; known: a, b"`, or `""` when nothing is known.
    """
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


class MahavishnuError(Exception):
    """The root of every error this package raises on purpose."""

    retryable: bool = False


class ConfigurationError(MahavishnuError):
    """Settings, a file or an argument that cannot work as given."""


class SettingError(ConfigurationError):
    """A setting that cannot be read or used; says where it was given.

    Attributes:
        source: The file, `environment variable NAME` or `argument`.
        key: The setting, dotted; empty where the whole source cannot be read.
        problem: What is wrong with it, and what would be right.
        line: Its line in the file, from 1; `None` where there is none.
    """

    def __init__(self, source: str, key: str, problem: str, *, line: int | None = None) -> None:
        self.source = source
        self.key = key
        self.problem = problem
        self.line = line
        where = source if line is None else f"{source}:{line}"
        super().__init__(": ".join(_visible(part) for part in (where, key, problem) if part))


def _visible(text: str) -> str:
    """Return text on one line: a name from outside may have line breaks and other control characters in it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UnknownProviderError(ConfigurationError):
    """A queue provider name that nothing answers to."""

    def __init__(self, provider: str, known: Iterable[str]) -> None:
        self.provider = provider
        self.known: list[str] = sorted(known)
        super().__init__(f"queue provider {provider!r} is unknown{nearest(provider, self.known)}")


class MissingExtraError(ConfigurationError):
    """Something needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} is not installed: run `pip install 'mahavishnu-scheduler[{extra}]'`")


class StorageError(MahavishnuError):
    """A database file or its folder cannot be read or written.

    `retryable` is true where waiting may help (the file is locked by another process).
    """

    def __init__(self, path: str, problem: str, remedy: str, *, retryable: bool = False) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        self.retryable = retryable
        super().__init__(f"{path}: {problem}; {remedy}")


class ScheduleError(MahavishnuError):
    """Something about a schedule is wrong."""


class InvalidTriggerError(ScheduleError):
    """A trigger that cannot be built or would never fire.

    `code` is the machine-readable reason where one exists (the codes of the crontab reader).
    """

    def __init__(self, trigger: str, problem: str, remedy: str = "", *, code: str | None = None) -> None:
        self.trigger = trigger
        self.problem = problem
        self.remedy = remedy
        self.code = code
        super().__init__(f"trigger {trigger!r}: {problem}" + (f"; {remedy}" if remedy else ""))


class ScheduleNotFoundError(ScheduleError):
    """No schedule has this id."""

    def __init__(self, schedule_id: str, known: Iterable[str] = ()) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"schedule {schedule_id!r} does not exist{nearest(schedule_id, known)}")


class ScheduleExistsError(ScheduleError):
    """The id is taken and the caller asked for `on_conflict="error"`."""

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(
            f"schedule {schedule_id!r} exists already; choose another id, or on_conflict='replace' or 'keep'"
        )


class WorkflowError(MahavishnuError):
    """Something about a workflow is wrong."""


class WorkflowNotFoundError(WorkflowError):
    """No workflow is registered under this key."""

    def __init__(self, key: str, known: Iterable[str] = ()) -> None:
        self.key = key
        super().__init__(
            f"workflow {key!r} is not registered{nearest(key, known)}"
            f" (register it with @app.workflow({key!r}) in the module given to --app)"
        )


class WorkflowExistsError(WorkflowError):
    """Two different functions were registered under one key."""

    def __init__(self, key: str, existing: str) -> None:
        self.key = key
        self.existing = existing
        super().__init__(f"workflow {key!r} is registered already, for {existing}; choose another key")


class ContextError(WorkflowError):
    """A context does not fit the workflow's signature, or cannot be encoded."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        self.problem = problem
        super().__init__(f"context of workflow {key!r}: {problem}")


class CommandError(WorkflowError):
    """A command that cannot be started as given."""

    def __init__(self, program: str, problem: str) -> None:
        self.program = program
        self.problem = problem
        super().__init__(f"command {program!r} cannot be started: {problem}")


class CommandFailedError(WorkflowError):
    """A command that ran and ended badly; `stderr_tail` holds the end of what it said."""

    retryable = True

    def __init__(self, command: str, ending: str, *, exit_code: int, stderr_tail: str = "") -> None:
        self.command = command
        self.ending = ending
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail
        last = stderr_tail.strip().rpartition("\n")[2].strip()
        super().__init__(f"command {command!r} {ending}" + (f": {last}" if last else ""))


class BackupFailedError(WorkflowError):
    """Some repositories could not be saved; `problems` says which and why, `report` has all outcomes."""

    retryable = True

    def __init__(self, problems: dict[str, str], report: object) -> None:
        self.problems = problems
        self.report = report
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        super().__init__(f"backup failed for {len(problems)} of the repositories: {listed}")


class QueueError(MahavishnuError):
    """Something about a queue or its provider went wrong."""


class QueueConnectionError(QueueError):
    """The provider's server cannot be reached. `url` has no credentials in it."""

    retryable = True

    def __init__(self, provider: str, url: str, problem: str) -> None:
        self.provider = provider
        self.url = url
        super().__init__(f"queue provider {provider!r} at {url}: {problem}; check that the server is up and the URL")


class QueueNotFoundError(QueueError):
    """The named queue holds nothing and is not declared."""

    def __init__(self, queue: str, known: Iterable[str] = ()) -> None:
        self.queue = queue
        super().__init__(f"queue {queue!r} does not exist{nearest(queue, known)}")


class LeaseExpiredError(QueueError):
    """A delivery is no longer ours: its lease ran out and somebody else may hold it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the lease on job {job_id} ran out; its outcome here was not accepted")


class EnvelopeError(QueueError):
    """Bytes in a queue that cannot be read as a job. `code` names why for dead letters."""

    def __init__(self, problem: str, *, code: str = "unreadable") -> None:
        self.problem = problem
        self.code = code
        super().__init__(f"message cannot be read as a job: {problem}")


class CapabilityError(QueueError):
    """An option that this engine or provider cannot honour; `alternatives` names who can."""

    def __init__(self, who: str, option: str, why: str, alternatives: Iterable[str] = ()) -> None:
        self.who = who
        self.option = option
        self.alternatives: list[str] = list(alternatives)
        able = f"; available on: {', '.join(self.alternatives)}" if self.alternatives else ""
        super().__init__(f"{who} cannot honour {option}: {why}{able}")


class EngineError(MahavishnuError):
    """Something about an execution engine went wrong."""


class EngineUnavailableError(EngineError):
    """The engine is not enabled, not started, or its server does not answer."""

    retryable = True

    def __init__(self, engine: str, problem: str, remedy: str) -> None:
        self.engine = engine
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"engine {engine!r}: {problem}; {remedy}")


class DeploymentNotFoundError(EngineError):
    """No Prefect deployment has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"deployment {name!r} does not exist; list them with `mahavishnu deployments`")


class HistoryError(MahavishnuError):
    """Something about the ledger went wrong."""


class RunNotFoundError(HistoryError):
    """No run or job has this id."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id!r} does not exist; list them with `mahavishnu runs`")


class CrontabError(MahavishnuError):
    """A crontab line that cannot be read."""

    def __init__(self, path: str, line: int, code: str, problem: str) -> None:
        self.path = path
        self.line = line
        self.code = code
        super().__init__(f"{path}:{line}: {problem} ({code})")
