"""Which functions are workflows, under which keys, and how each is to be run."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

from mahavishnu.errors import ConfigurationError, WorkflowExistsError, WorkflowNotFoundError
from mahavishnu.workflows.encoding import DEFAULT_MAX_BYTES, encode_context
from mahavishnu.workflows.repos import Repo
from mahavishnu.workflows.signature import Signature, describe, inspect_signature, is_async_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mahavishnu.model.job import BackoffPolicy
    from mahavishnu.workflows.signature import Parameter

__all__ = ["DEFAULT_MAX_ATTEMPTS", "Workflow", "WorkflowRegistry", "repository_arguments"]

DEFAULT_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workflow:
    """One registered function. Make it with `Workflow.of`, which looks the signature up.

    Attributes:
        key: What jobs call it by.
        function: The function, unchanged.
        is_async: Whether it runs on the event loop; else in a thread.
        signature: Its arguments.
        max_attempts: How often a job of it may run until it succeeds, default 3.
        timeout: How long one attempt may take; `None`: the product's default.
        backoff: Delays between attempts; `None`: the product's default.
        context_parameter: The parameter annotated `JobContext`, or `None`.
        description: What it does, in one line; by default the first of its docstring.
    """

    key: str
    function: Callable[..., Any]
    is_async: bool
    signature: Signature
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    timeout: timedelta | None = None
    backoff: BackoffPolicy | None = None
    context_parameter: str | None = None
    description: str = ""

    @classmethod
    def of(
        cls,
        key: str,
        function: Callable[..., Any],
        *,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        timeout: timedelta | None = None,
        backoff: BackoffPolicy | None = None,
        description: str | None = None,
    ) -> Workflow:
        """Return `function` as a workflow; the arguments are the attributes of the same names.

        Raises:
            ConfigurationError: The key is empty or has blanks around it, or an option is out of range.
            WorkflowError: The function cannot be a workflow.
        """
        _check_options(key, max_attempts, timeout)
        signature = inspect_signature(key, function)
        return cls(
            key=key,
            function=function,
            is_async=is_async_function(function),
            signature=signature,
            max_attempts=max_attempts,
            timeout=timeout,
            backoff=backoff,
            context_parameter=signature.context_parameter,
            description=_first_line(function) if description is None else description,
        )

    def bind(self, context: Mapping[str, object]) -> dict[str, object]:
        """Return the keyword arguments `context` stands for, checked and converted; without the `JobContext`.

        Raises:
            ContextError: An argument is unknown or missing, or a value does not fit its annotation.
        """
        if not context and not self.signature.required:
            return {}
        return self.signature.bind(self.key, context)

    def encode(self, context: Mapping[str, object], *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
        """Return `context`, checked against the signature, as bytes that `bind(decode_context(...))` reads.

        Args:
            context: Argument names and values.
            max_bytes: Largest result, default 1,000,000.

        Raises:
            ContextError: It does not fit the signature, cannot be sent, or is too large.
        """
        return encode_context(self.key, self.bind(context), max_bytes=max_bytes)


class WorkflowRegistry:
    """The workflows of one application, in the order they were registered.

    Args:
        fallback: More workflows, each found only where none of ours has its key; `None` (default): none.
    """

    def __init__(self, *, fallback: WorkflowRegistry | None = None) -> None:
        self._workflows: dict[str, Workflow] = {}
        self._fallback = fallback

    def __contains__(self, key: object) -> bool:
        return key in self._workflows or (self._fallback is not None and key in self._fallback)

    def __iter__(self) -> Iterator[Workflow]:
        yield from list(self._workflows.values())
        yield from (more for more in self._fallback or () if more.key not in self._workflows)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, workflow: Workflow) -> None:
        """Make `workflow` known. The same function again, under the same key, brings its newer options.

        Raises:
            WorkflowExistsError: Another function has the key.
        """
        existing = self._workflows.get(workflow.key)
        if existing is not None and existing.function != workflow.function:
            raise WorkflowExistsError(workflow.key, describe(existing.function))
        self._workflows[workflow.key] = workflow

    def register(self, key: str, function: Callable[..., Any], **options: Any) -> Workflow:
        """Make `function` a workflow and return it.

        Args:
            key: What jobs call it by.
            function: Sync or async, all its parameters nameable.
            **options: Those of `Workflow.of`.

        Raises:
            ConfigurationError: The key or an option is unusable.
            WorkflowError: The function cannot be a workflow.
            WorkflowExistsError: Another function has the key.
        """
        workflow = Workflow.of(key, function, **options)
        self.add(workflow)
        return workflow

    def get(self, key: str) -> Workflow:
        """Return the workflow called `key`.

        Raises:
            WorkflowNotFoundError: There is none; the message has the nearest key.
        """
        workflow = self._workflows.get(key)
        if workflow is not None:
            return workflow
        if self._fallback is not None and key in self._fallback:
            return self._fallback.get(key)
        raise WorkflowNotFoundError(key, [known.key for known in self])


def repository_arguments(workflow: Workflow, repo: Repo) -> dict[str, object]:
    """Return the argument by which `workflow` learns of the one repository it runs on.

    That is `repo` where the workflow has it, else `repos` with a list of one, else none. A parameter whose
    annotation has `Repo` in it receives the `Repo`, any other its path as text, which binding turns into a
    `Path` where that is asked for: so what arrives does not depend on the engine.
    """
    for name in ("repo", "repos"):
        if workflow.signature.accepts(name):
            parameter = workflow.signature.parameters.get(name)
            value = repo if parameter is not None and _wants_repo(parameter) else os.fspath(repo)
            return {name: value if name == "repo" else [value]}
    return {}


def _wants_repo(parameter: Parameter) -> bool:
    waiting: list[Any] = [parameter.annotation]
    while waiting:
        annotation = waiting.pop()
        if annotation is Repo:
            return True
        waiting.extend(get_args(annotation))
    return False


def _check_options(key: str, max_attempts: int, timeout: timedelta | None) -> None:
    if not key or key != key.strip():
        raise ConfigurationError(f"workflow key {key!r} is empty or has blanks around it; use a name such as 'backup'")
    if max_attempts < 1:
        raise ConfigurationError(f"workflow {key!r}: max_attempts is {max_attempts}; it must be at least 1")
    if timeout is not None and timeout <= timedelta():
        raise ConfigurationError(f"workflow {key!r}: timeout is {timeout}; it must be positive, or None")


def _first_line(function: Callable[..., Any]) -> str:
    # A partial or another object without a docstring of its own would show that of its class.
    doc = inspect.getdoc(getattr(function, "func", function))
    return doc.partition("\n")[0] if doc else ""
