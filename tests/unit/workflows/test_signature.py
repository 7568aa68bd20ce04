"""Contexts become keyword arguments, or one clear line."""

from __future__ import annotations

import enum
import functools
import logging
import timeit
from collections.abc import Callable, Mapping  # noqa: TC003  # annotations under test are resolved at run time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from mahavishnu.errors import ConfigurationError, ContextError, WorkflowError
from mahavishnu.workflows.context import JobContext
from mahavishnu.workflows.encoding import decode_context, encode_context
from mahavishnu.workflows.registry import Workflow
from mahavishnu.workflows.repos import Repo

if TYPE_CHECKING:
    from decimal import Decimal

    import mahavishnu.workflows.context as somewhere


class _Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    x: int
    y: int = 0


class _Client:
    """A class nothing can convert to."""


def everything(
    repos: list[str],
    when: datetime | None = None,
    delay: timedelta | None = None,
    folder: Path = Path(),
    colour: _Colour = _Colour.RED,
    point: _Point | None = None,
    repositories: list[Repo] | None = None,
    count: int = 1,
    share: float = 0.5,
    mode: Literal["fast", "slow"] = "fast",
    client: _Client | None = None,
    anything: Any = None,
    unannotated=None,
) -> None:
    """Take one argument of each kind."""


EVERYTHING = Workflow.of("everything", everything)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("when", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("when", None, None),
        ("delay", "PT90S", timedelta(seconds=90)),
        ("folder", "/tmp/x", Path("/tmp/x")),
        ("folder", Path("/tmp/x"), Path("/tmp/x")),
        ("colour", "red", _Colour.RED),
        ("colour", _Colour.RED, _Colour.RED),
        ("point", {"x": 3}, _Point(x=3)),
        ("point", _Point(x=3), _Point(x=3)),
        ("repositories", [{"name": "a", "path": "/a", "tags": ["t"]}], [Repo(name="a", path=Path("/a"), tags=("t",))]),
        ("repositories", [Repo(name="a", path=Path("/a"))], [Repo(name="a", path=Path("/a"))]),
        ("repos", [Path("/a"), "b", Repo(name="c", path=Path("/c"))], ["/a", "b", "/c"]),
        ("share", 1, 1.0),
        ("mode", "slow", "slow"),
        ("client", "passed as it is", "passed as it is"),
        ("anything", {"a": [1]}, {"a": [1]}),
        ("unannotated", 7, 7),
    ],
)
def test_values_become_what_the_annotation_asks_for(name: str, given: object, wanted: object) -> None:
    """A value arrives in the annotated type from that type and from its encoded form; unknown types pass."""
    bound = EVERYTHING.bind({"repos": [], name: given})
    assert bound[name] == wanted
    assert type(bound[name]) is type(wanted)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"repo": ["a"]}, "argument 'repo' is unknown; did you mean 'repos'?"),
        ({}, "argument 'repos' is missing and has no default"),
        ({"repos": "a"}, "argument 'repos': expected list, got str"),
        ({"repos": ["a", 1]}, "argument 'repos[1]': expected str, got int"),
        ({"repos": [], "count": True}, "argument 'count': expected int, got bool"),
        ({"repos": [], "count": "5"}, "argument 'count': expected int, got str"),
        ({"repos": [], "when": 5}, "argument 'when': expected datetime (or ISO 8601 text) | None, got int"),
        ({"repos": [], "delay": 5}, "expected timedelta (or ISO 8601 text such as 'PT5M') | None, got int"),
        ({"repos": [], "folder": 5}, "argument 'folder': expected path, got int"),
        ({"repos": [], "colour": "blue"}, "argument 'colour': invalid enum value 'blue'"),
        ({"repos": [], "point": {"y": 1}}, "argument 'point': object missing required field 'x'"),
        ({"repos": [], "point": {"x": "1"}}, "argument 'point.x': expected int, got str"),
        ({"repos": [], "repositories": [{"name": "a"}]}, "argument 'repositories[0]': object missing"),
    ],
)
def test_a_context_that_does_not_fit_is_one_clear_line(context: dict[str, object], message: str) -> None:
    """The error names the workflow, the argument, what it wants and what it got, on one line."""
    with pytest.raises(ContextError) as caught:
        EVERYTHING.bind(context)
    assert message in str(caught.value)
    assert str(caught.value).startswith("context of workflow 'everything': ")
    assert "\n" not in str(caught.value)


def test_a_wrong_value_is_not_in_the_message() -> None:
    """What was given may be a secret: its type is named, it is not quoted."""
    with pytest.raises(ContextError) as caught:
        EVERYTHING.bind({"repos": ["a"], "count": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_function_without_arguments_says_so() -> None:
    """An unknown argument of a function that takes none gets no list of candidates."""
    workflow = Workflow.of("tick", lambda: None)
    assert workflow.bind({}) == {}
    with pytest.raises(ContextError, match="argument 'x' is unknown; it takes no arguments"):
        workflow.bind({"x": 1})


def test_extra_keywords_are_taken_and_checked() -> None:
    """`**kwargs` takes any name, and its annotation counts for each."""

    def function(a: str, **rest: int) -> None: ...

    workflow = Workflow.of("f", function)
    assert workflow.bind({"a": "x", "b": 1}) == {"a": "x", "b": 1}
    with pytest.raises(ContextError, match="argument 'b': expected int, got str"):
        workflow.bind({"a": "x", "b": "1"})


def test_the_job_context_is_found_and_may_not_be_given() -> None:
    """The parameter annotated `JobContext` is none of the context's."""

    def function(job: JobContext, n: int = 1) -> None: ...

    workflow = Workflow.of("f", function)
    assert workflow.context_parameter == "job"
    assert workflow.bind({}) == {}
    with pytest.raises(ContextError, match="argument 'job' is supplied when the job runs"):
        workflow.bind({"job": 1})


def test_an_optional_job_context_counts() -> None:
    """`JobContext | None` lets a function also be called directly."""

    def function(job: JobContext | None = None) -> None: ...

    assert Workflow.of("f", function).context_parameter == "job"


def test_annotations_that_cannot_be_resolved_are_tolerated() -> None:
    """Types imported for type checking only: those we know are resolved, others pass unchecked."""

    def function(job: somewhere.JobContext, price: Decimal, when: datetime, n: int) -> None: ...

    workflow = Workflow.of("f", function)
    assert workflow.context_parameter == "job"
    assert workflow.bind({"price": "1", "when": "2026-01-01T00:00:00Z", "n": 1}) == {
        "price": "1",
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "n": 1,
    }
    with pytest.raises(ContextError, match="argument 'n'"):
        workflow.bind({"price": "1", "when": "2026-01-01T00:00:00Z", "n": "1"})


def test_names_imported_for_type_checking_only_are_known(tmp_path: Path) -> None:
    """`Repo`, `Path` and the like are resolved although the module has them only for the type checker."""
    scope: dict[str, Any] = {}
    exec("from __future__ import annotations\ndef f(repos: list[Repo], at: Path, odd: Odd): ...", scope)
    bound = Workflow.of("f", scope["f"]).bind({"repos": [{"name": "a", "path": "/a"}], "at": "/b", "odd": 1})
    assert bound == {"repos": [Repo(name="a", path=Path("/a"))], "at": Path("/b"), "odd": 1}


def _positional(a: int, /) -> None: ...
def _starred(*names: str) -> None: ...
def _two_contexts(a: JobContext, b: JobContext) -> None: ...
def _generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_positional, "parameter 'a', which is positional-only"),
        (_starred, "parameter 'names', which takes any number of positional arguments"),
        (_two_contexts, "two JobContext parameters"),
        (_generator, "is a generator"),
        (_Client, "is not a function"),
        ("text", "is not a function"),
    ],
)
def test_functions_that_cannot_be_workflows_are_refused(function: Callable[..., object], reason: str) -> None:
    """Registration refuses what no context could call, with the reason."""
    with pytest.raises(WorkflowError, match=reason):
        Workflow.of("f", function)


class _CallableObject:
    async def __call__(self, n: int) -> int:
        return n

    def method(self, n: int) -> int:
        return n


def _wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


async def _coroutine(n: int) -> int:
    return n


def _plain(n: int, m: int = 0) -> int:
    return n


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (_CallableObject(), True),
        (_CallableObject().method, False),
        (_coroutine, True),
        (functools.partial(_coroutine), True),
        (functools.partial(_plain, m=3), False),
        (_wrapped(_plain), False),
    ],
    ids=["async object", "method", "coroutine", "async partial", "partial", "decorated"],
)
def test_all_kinds_of_callables_are_understood(function: Callable[..., object], is_async: bool) -> None:
    """Objects, methods, partials and decorated functions show the signature and kind of what they call."""
    workflow = Workflow.of("f", function)
    assert workflow.is_async is is_async
    assert workflow.bind({"n": 1}) == {"n": 1}
    with pytest.raises(ContextError, match="argument 'n': expected int, got str"):
        workflow.bind({"n": "1"})


@pytest.mark.parametrize(
    ("key", "options", "reason"),
    [
        ("", {}, "is empty"),
        (" a", {}, "blanks"),
        ("a", {"max_attempts": 0}, "at least 1"),
        ("a", {"timeout": timedelta()}, "must be positive"),
    ],
)
def test_options_out_of_range_are_refused(key: str, options: Mapping[str, Any], reason: str) -> None:
    """An unusable key or option is found at registration, not when the job runs."""
    with pytest.raises(ConfigurationError, match=reason):
        Workflow.of(key, _plain, **options)


def test_encode_binds_first() -> None:
    """What `encode` writes is what the signature asks for, and `bind` reads it back equal."""
    given = {"repos": [Repo(name="c", path=Path("/c"))], "point": _Point(x=1), "delay": timedelta(hours=1)}
    decoded = decode_context(EVERYTHING.encode(given))
    assert decoded["repos"] == ["/c"]
    assert EVERYTHING.bind(decoded) == EVERYTHING.bind(given)
    with pytest.raises(ContextError, match="unknown"):
        EVERYTHING.encode({"repo": []})


def test_a_repository_that_has_travelled_is_still_a_path() -> None:
    """Encoded as it was given, a repository binds to text and to `Path` on the other side."""
    given = {"repos": [Repo(name="c", path=Path("/c"), tags=("t",))], "folder": Repo(name="d", path=Path("/d"))}
    bound = EVERYTHING.bind(decode_context(encode_context("everything", given)))
    assert bound == EVERYTHING.bind(given) == {"repos": ["/c"], "folder": Path("/d")}
    with pytest.raises(ContextError, match=r"repos\[0\]"):
        EVERYTHING.bind({"repos": [{"path": "/c"}]})


def test_binding_nothing_costs_next_to_nothing() -> None:
    """The empty context of a function without arguments is bound without looking at anything."""
    bind = Workflow.of("tick", lambda: None).bind
    empty: dict[str, object] = {}
    best = min(timeit.repeat(lambda: bind(empty), number=20_000, repeat=7)) / 20_000
    assert best < 1e-6  # about 0.1 us; the margin is for slow machines


def test_a_job_context_reports_cancellation_and_progress() -> None:
    """`cancel` turns `is_cancelled` on for good; `heartbeat` moves the time of the last sign of life."""

    class Clock:
        seconds = 5.0

        def now(self) -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC)

        def now_ms(self) -> int:
            return 0

        def monotonic(self) -> float:
            return self.seconds

    clock = Clock()
    job = JobContext(job_id="j1", task="t", logger=logging.getLogger("t"), attempt=2, clock=clock)
    assert (job.heartbeat_at, job.is_cancelled, job.schedule_id) == (5.0, False, None)
    clock.seconds = 9.0
    job.heartbeat()
    assert job.heartbeat_at == 9.0
    job.cancel()
    job.cancel()
    assert job.is_cancelled
    assert repr(job) == "JobContext(task='t', job_id='j1', attempt=2)"
