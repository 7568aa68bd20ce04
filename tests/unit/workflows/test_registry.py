"""Workflows are found by key, and know where their repository goes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mahavishnu.errors import WorkflowExistsError, WorkflowNotFoundError
from mahavishnu.settings import CheckSettings
from mahavishnu.workflows.builtin import builtin_registry
from mahavishnu.workflows.builtin.checks import Check
from mahavishnu.workflows.builtin.shell import shell
from mahavishnu.workflows.encoding import decode_context
from mahavishnu.workflows.registry import Workflow, WorkflowRegistry, repository_arguments
from mahavishnu.workflows.repos import Repo

REPO = Repo(name="a", path=Path("/srv/a"), tags=("x",), role="service")


def _sync_one(n: int = 1) -> int:
    """Return it.

    More text.
    """
    return n


async def _other() -> None: ...


def test_a_registered_workflow_is_found_with_its_options() -> None:
    """What was registered comes back, with defaults where nothing was said."""
    registry = WorkflowRegistry()
    made = registry.register("one", _sync_one, max_attempts=5, timeout=timedelta(minutes=30))
    assert registry.get("one") is made
    assert made.function is _sync_one
    assert (made.max_attempts, made.timeout, made.backoff) == (5, timedelta(minutes=30), None)
    assert (made.is_async, made.description) == (False, "Return it.")
    assert registry.register("two", _other).max_attempts == 3
    assert [workflow.key for workflow in registry] == ["one", "two"]
    assert "one" in registry
    assert "three" not in registry
    assert len(registry) == 2


def test_an_unknown_key_names_the_nearest() -> None:
    """A typo is answered with the key that was meant."""
    registry = WorkflowRegistry()
    registry.register("daily_backup", _other)
    with pytest.raises(WorkflowNotFoundError, match="did you mean 'daily_backup'"):
        registry.get("dayly_backup")


def test_a_key_belongs_to_one_function() -> None:
    """The same function again is fine and brings its newer options; another one is refused."""
    registry = WorkflowRegistry()
    registry.register("one", _sync_one)
    registry.register("one", _sync_one, max_attempts=9)
    assert registry.get("one").max_attempts == 9
    with pytest.raises(WorkflowExistsError, match="sync_one"):
        registry.add(Workflow.of("one", _other))
    assert registry.get("one").function is _sync_one


def _one_repo(repo: Repo) -> None: ...
def _one_path(repo: Path) -> None: ...
def _one_text(repo: str, repos: list[str] | None = None) -> None: ...
def _one_plain(repo) -> None: ...
def _many_repos(repos: list[Repo]) -> None: ...
def _many_texts(repos: list[str]) -> None: ...
def _many_either(repos: list[Repo | str], target: str = "t") -> None: ...
def _many_plain(repos) -> None: ...
def _no_repo(n: int = 1) -> None: ...
def _any_names(**rest: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_one_repo, {"repo": REPO}),
        (_one_path, {"repo": Path("/srv/a")}),
        (_one_text, {"repo": "/srv/a"}),
        (_one_plain, {"repo": "/srv/a"}),
        (_many_repos, {"repos": [REPO]}),
        (_many_texts, {"repos": ["/srv/a"]}),
        (_many_either, {"repos": [REPO]}),
        (_many_plain, {"repos": ["/srv/a"]}),
        (_no_repo, {}),
        (_any_names, {"repo": "/srv/a"}),
    ],
)
def test_the_repository_goes_where_the_workflow_wants_it(function, expected) -> None:
    """`repo` before `repos`, as `Repo` or text; and what arrives is the same through a queue."""
    workflow = Workflow.of("w", function)
    arguments = repository_arguments(workflow, REPO)
    assert workflow.bind(arguments) == expected
    assert workflow.bind(decode_context(workflow.encode(arguments))) == expected


def test_the_fallback_answers_where_nothing_else_does() -> None:
    """All built-in workflows are there, save one whose key the application uses itself."""
    registry = WorkflowRegistry(fallback=builtin_registry())
    registry.register("daily_backup", _other)
    assert [workflow.key for workflow in registry] == ["daily_backup", "shell", "code_sweep"]
    assert len(registry) == 3
    assert registry.get("daily_backup").function is _other
    assert registry.get("shell").function is shell
    assert "shell" in registry
    assert "shall" not in registry
    with pytest.raises(WorkflowNotFoundError, match="did you mean 'shell'"):
        registry.get("shall")
    assert all(workflow.is_async for workflow in registry)
    assert registry.get("shell").description.startswith("Run one shell command")


def test_configured_checks_become_the_default_of_the_sweep() -> None:
    """A sweep with configured checks still takes `repo` and other `checks` from its context."""
    settings = CheckSettings(name="tests", command=("make", "test"), timeout=timedelta(minutes=1), tags=("python",))
    sweep = builtin_registry([settings]).get("code_sweep")
    assert sweep.is_async
    assert sweep.description.startswith("Run `checks` on one repository")
    assert sweep.function.keywords["checks"] == [
        Check(name="tests", command=("make", "test"), timeout=timedelta(minutes=1), tags=("python",))
    ]
    assert repository_arguments(sweep, REPO) == {"repo": REPO}
    given = {"repo": "/a", "checks": [{"name": "x", "command": ["true"], "timeout": "PT5S"}]}
    assert sweep.bind(given)["checks"] == [Check(name="x", command=("true",), timeout=timedelta(seconds=5))]
