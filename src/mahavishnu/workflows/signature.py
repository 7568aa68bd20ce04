"""Which arguments a workflow takes, looked up once, and how a context becomes them."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

import msgspec

from mahavishnu.errors import ContextError, WorkflowError, nearest
from mahavishnu.workflows.context import JobContext
from mahavishnu.workflows.repos import Repo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Parameter", "Signature", "describe", "inspect_signature", "is_async_function"]

_PLACE = re.compile(r" - at `\$(?P<path>.*)`$")
_NAMES_JOB_CONTEXT = re.compile(r"\bJobContext\b")
# What modules tend to import for type checking only; such annotations have no value where they stand.
_WELL_KNOWN = {one.__name__: one for one in (JobContext, Repo, Path, datetime, timedelta)}
_REPO_FIELDS = {field.name for field in fields(Repo)}
_THEIR_WORDS = re.compile(r"\b(array|object|null|duration|datetime)\b")
_OUR_WORDS = {
    "array": "list",
    "object": "mapping",
    "null": "None",
    "duration": "timedelta (or ISO 8601 text such as 'PT5M')",
    "datetime": "datetime (or ISO 8601 text)",
}
_REFUSED_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of positional arguments",
}


class _UnknownTypeError(Exception):
    """An annotation names a type that nothing here converts to; never leaves this module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument a context may give.

    Attributes:
        name: Its name.
        annotation: Its resolved annotation; `Any` where there is none, or none that can be resolved.
        is_required: Whether it has no default.
        is_checked: Whether values are converted to the annotation; else they are passed as they are.
    """

    name: str
    annotation: Any
    is_required: bool
    is_checked: bool

    def convert(self, key: str, name: str, value: object) -> object:
        """Return `value` as the annotation wants it.

        Args:
            key: The workflow's key, for messages.
            name: The argument's name, which is another than ours for `**kwargs`.
            value: What the context has: the wanted type, or its encoded form.

        Raises:
            ContextError: It does not fit. The message has types and never the value, save that of an enum.
        """
        if not self.is_checked or type(value) is self.annotation:
            return value
        try:
            return _convert(value, self.annotation)
        except _UnknownTypeError:
            return value
        except msgspec.ValidationError as exc:
            raise ContextError(key, _explain(name, str(exc))) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The arguments of one function.

    Attributes:
        parameters: Those a context may give, by name.
        required: The names of those it must give.
        context_parameter: The one annotated `JobContext`, which the executor supplies; `None`: there is none.
        extra: What `**kwargs` takes; `None`: unknown names are refused.
    """

    parameters: Mapping[str, Parameter]
    required: frozenset[str]
    context_parameter: str | None = None
    extra: Parameter | None = None

    def accepts(self, name: str) -> bool:
        """Return whether a context may have `name`."""
        return name in self.parameters or (self.extra is not None and name != self.context_parameter)

    def bind(self, key: str, context: Mapping[str, object]) -> dict[str, object]:
        """Return the keyword arguments that `context` stands for.

        Args:
            key: The workflow's key, for messages.
            context: Argument names and values, as given or as decoded.

        Raises:
            ContextError: An argument is unknown or missing, or a value does not fit its annotation.
        """
        bound: dict[str, object] = {}
        for name, value in context.items():
            parameter = self.parameters.get(name) or self._other(key, name)
            bound[name] = parameter.convert(key, name, value)
        if not self.required <= bound.keys():
            missing = ", ".join(f"{name!r}" for name in self.parameters if name in self.required - bound.keys())
            raise ContextError(key, f"argument {missing} is missing and has no default")
        return bound

    def _other(self, key: str, name: str) -> Parameter:
        if name == self.context_parameter:
            raise ContextError(key, f"argument {name!r} is supplied when the job runs; leave it out")
        if self.extra is None:
            known = nearest(str(name), self.parameters) or "; it takes no arguments"
            raise ContextError(key, f"argument {name!r} is unknown{known}")
        return self.extra


def describe(function: Callable[..., object]) -> str:
    """Return where `function` comes from, such as `"backups.daily_backup"`."""
    plain = _plain_function(function)
    return f"{plain.__module__}.{getattr(plain, '__qualname__', repr(plain))}"


def is_async_function(function: Callable[..., object]) -> bool:
    """Return whether calling `function` gives a coroutine: an `async def`, or an object with an async `__call__`."""
    called = cast("object", getattr(type(function), "__call__", None))  # noqa: B004  # the method is wanted, not the answer
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def inspect_signature(key: str, function: Callable[..., object]) -> Signature:
    """Return the arguments of `function`, its annotations resolved as far as possible.

    Args:
        key: The workflow's key, for messages.
        function: A function, method, partial, or object with `__call__`.

    Raises:
        WorkflowError: It cannot be a workflow: no function, a generator, or with arguments that cannot be
            given by name.
    """
    _refuse_unsuitable(key, function)
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as exc:
        raise _unsuitable(key, function, "has no readable signature; wrap it in a function of your own") from exc
    hints = _hints(function)
    parameters: dict[str, Parameter] = {}
    extra: Parameter | None = None
    context_parameter: str | None = None
    for one in found:
        if one.kind in _REFUSED_KINDS:
            problem = f"has the parameter {one.name!r}, which {_REFUSED_KINDS[one.kind]}"
            raise _unsuitable(key, function, f"{problem}; contexts are passed by name, so make it an ordinary one")
        if _is_job_context(hints.get(one.name)):
            if context_parameter is not None:
                raise _unsuitable(key, function, "has two JobContext parameters; keep one")
            context_parameter = one.name
        elif one.kind is inspect.Parameter.VAR_KEYWORD:
            extra = _parameter(one, hints)
        else:
            parameters[one.name] = _parameter(one, hints)
    required = frozenset(name for name, parameter in parameters.items() if parameter.is_required)
    return Signature(parameters=parameters, required=required, context_parameter=context_parameter, extra=extra)


def _refuse_unsuitable(key: str, function: object) -> None:
    if isinstance(function, type) or not callable(function):
        raise WorkflowError(f"workflow {key!r}: {function!r} is not a function; register a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _unsuitable(key, function, "is a generator; a workflow returns its result once")


def _unsuitable(key: str, function: Callable[..., object], problem: str) -> WorkflowError:
    return WorkflowError(f"workflow {key!r}: {describe(function)} {problem}")


def _plain_function(function: Any) -> Any:
    """Return what carries the annotations: the function inside partials, decorators and callable objects."""
    while isinstance(function, partial):
        function = cast("partial[object]", function).func
    function = inspect.unwrap(function)
    return function if inspect.isroutine(function) else type(function).__call__


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    """Return the annotations of `function`; one that cannot be resolved stays as its text."""
    plain = _plain_function(function)
    try:
        return get_type_hints(plain, include_extras=True)
    except Exception:  # an annotation is any expression, and may fail in any way
        annotations: dict[str, Any] = getattr(plain, "__annotations__", {})
        return {name: _hint(annotation, plain) for name, annotation in annotations.items()}


def _hint(annotation: Any, plain: Any) -> Any:
    alone = SimpleNamespace(__annotations__={"it": annotation})
    names = {**_WELL_KNOWN, **getattr(plain, "__globals__", {})}
    try:
        return get_type_hints(alone, globalns=names, include_extras=True)["it"]
    except Exception:  # as above; such a parameter is passed unchecked
        return annotation


def _is_job_context(hint: Any) -> bool:
    if isinstance(hint, str):  # not to be resolved, such as a module imported for type checking only
        return _NAMES_JOB_CONTEXT.search(hint) is not None
    return hint is JobContext or JobContext in get_args(hint)


def _parameter(found: inspect.Parameter, hints: Mapping[str, Any]) -> Parameter:
    annotation = hints.get(found.name, Any)
    return Parameter(
        name=found.name,
        annotation=annotation,
        is_required=found.default is inspect.Parameter.empty,
        is_checked=_can_check(annotation),
    )


def _can_check(annotation: Any) -> bool:
    """Return whether msgspec knows what to do with `annotation`, found out by trying it."""
    if annotation is Any or annotation is object or isinstance(annotation, str):
        return False
    try:
        msgspec.convert(object(), annotation, dec_hook=_from_plain)
    except msgspec.ValidationError:
        return True
    except Exception:  # what it says depends on the annotation: TypeError, NameError, our own
        return False
    return False


def _convert(value: object, annotation: Any) -> object:
    try:
        return msgspec.convert(value, annotation, dec_hook=_from_plain)
    except msgspec.ValidationError:
        # A path, or a repository, is as good as its text wherever text is asked for.
        as_text = _paths_as_text(value)
        if as_text is value:
            raise
        return msgspec.convert(as_text, annotation, dec_hook=_from_plain)


def _from_plain(wanted: type[Any], value: object) -> object:
    if isinstance(wanted, type) and issubclass(wanted, PurePath):  # pyright: ignore[reportUnnecessaryIsInstance]  # generic aliases come here too
        if isinstance(value, str | os.PathLike):
            return wanted(cast("str", value))
        raise ValueError(f"Expected `path`, got `{type(value).__name__}`")
    raise _UnknownTypeError


def _paths_as_text(value: object) -> object:
    """Return `value` with paths turned into text, or `value` itself where it has none."""
    match value:
        case os.PathLike():
            return os.fspath(cast("os.PathLike[str]", value))
        case list() | tuple():
            parts = cast("list[object]", value)
            texts = [_paths_as_text(part) for part in parts]
            return texts if any(new is not old for new, old in zip(texts, parts, strict=True)) else parts
        case dict():
            mapping = cast("dict[object, object]", value)
            if mapping.keys() == _REPO_FIELDS:  # a repository that has travelled
                return mapping["path"]
            changed = {name: _paths_as_text(part) for name, part in mapping.items()}
            return changed if any(changed[name] is not mapping[name] for name in mapping) else mapping
        case _:
            return value


def _explain(name: str, message: str) -> str:
    place = _PLACE.search(message)
    if place is not None:
        name += place["path"]
        message = message[: place.start()]
    if message.startswith("Expected"):  # types read well bare, names of fields and values do not
        message = _THEIR_WORDS.sub(lambda word: _OUR_WORDS[word[0]], message.replace("`", ""))
    message = message.replace("`", "'")
    return f"argument {name!r}: {message[:1].lower()}{message[1:]}"
