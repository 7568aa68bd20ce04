"""Rules on the code itself that neither the linter nor the layer contracts can express."""

from __future__ import annotations

import ast
import functools
import statistics
from pathlib import Path

import pytest

import mahavishnu

PACKAGE = Path(mahavishnu.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Library -> beginnings of the paths of the modules that may import it: one home for each.
HOMES = {
    "aio_pika": ("queues/providers/rabbitmq",),
    "apscheduler": ("engines/local",),
    "asyncpg": ("storage/postgres",),
    "click": ("cli/",),
    "confluent_kafka": ("queues/providers/kafka",),
    "google": ("queues/providers/cloud_tasks",),
    "httpx": ("engines/prefect",),
    "nats": ("queues/providers/nats_jetstream",),
    "opentelemetry": ("observability/",),
    "prefect": ("engines/prefect",),
    "redis": ("queues/providers/redis_streams",),
    "rich": ("cli/",),
    "sqlite3": ("storage/sqlite",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
}
VAGUE_NAMES = {"utils", "util", "common", "misc", "manager", "core", "helpers"}
CLOCK_READS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def _name(module):
    return module.relative_to(PACKAGE).as_posix()


each_module = pytest.mark.parametrize("module", MODULES, ids=_name)


@functools.cache
def _tree(module):
    return ast.parse(module.read_text(encoding="utf-8"))


def _imported_roots(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def _functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _length(function):
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function, clean=False) is not None else 0
    return function.end_lineno - function.lineno + 1 - docstring


def _clock_reads(tree):
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name)):
                if name in CLOCK_READS.get(owner, ()):
                    yield f"{owner}.{name} in line {node.lineno}"
            case ast.ImportFrom(module="time", names=names):
                yield from (f"time.{it.name} in line {node.lineno}" for it in names if it.name in CLOCK_READS["time"])


@each_module
def test_client_libraries_are_imported_in_their_homes_only(module):
    """Knowledge of a library stays where a person who knows that library would look for it."""
    name = _name(module)
    strays = {
        library
        for library in _imported_roots(_tree(module))
        if library in HOMES and not name.startswith(HOMES[library])
    }
    assert not strays, f"{name} imports {strays}; their homes are {[HOMES[it] for it in strays]}"


@each_module
def test_system_clock_is_read_in_one_module_only(module):
    """Everything but `clock.py` is handed a clock, so that tests can move the time."""
    reads = [] if _name(module) == "clock.py" else list(_clock_reads(_tree(module)))
    assert not reads, f"{_name(module)} reads the system clock: {reads}"


@each_module
def test_files_and_functions_are_short(module):
    """No file has over 600 lines, no function over 60 without its docstring."""
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 600
    too_long = {it.name: _length(it) for it in _functions(_tree(module)) if _length(it) > 60}
    assert not too_long, f"{_name(module)}: {too_long}"


@each_module
def test_modules_import_each_other_by_their_own_names(module):
    """No module imports from the package's public list, which imports them all."""
    imports = [node for node in ast.walk(_tree(module)) if isinstance(node, ast.ImportFrom)]
    submodules = {path.stem for path in PACKAGE.iterdir()}
    facade = [
        alias.name
        for node in imports
        if node.level == 0 and node.module == "mahavishnu"
        for alias in node.names
        if alias.name not in submodules
    ]
    assert not facade, f"{_name(module)} imports {facade} from the package itself"


def test_most_functions_are_very_short():
    """Half of all functions have at most 8 lines, and nine in ten under 25."""
    lengths = sorted(_length(function) for module in MODULES for function in _functions(_tree(module)))
    assert statistics.median(lengths) <= 8
    assert sum(length < 25 for length in lengths) >= 0.9 * len(lengths)


def test_public_list_is_short():
    """The package's own module only re-exports."""
    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_no_module_has_a_name_that_says_nothing():
    """A vague name collects whatever has no home."""
    names = {part.removesuffix(".py") for module in MODULES for part in module.relative_to(PACKAGE).parts}
    assert not names & VAGUE_NAMES


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import time\ntime.time()", 1),
        ("from time import time_ns", 1),
        ("import datetime\ndatetime.datetime.now()", 1),
        ("from datetime import datetime\ndatetime.now(UTC)", 1),
        ("from datetime import date\ndate.today()", 1),
        ("import time\ntime.monotonic()", 0),
        ("self._clock.now()", 0),
        ("clock.now()", 0),
    ],
)
def test_reads_of_the_system_clock_are_recognised(code, found):
    """The check above sees each way of asking the system for the time, and no other call."""
    assert len(list(_clock_reads(ast.parse(code)))) == found


def test_length_of_a_function_leaves_out_its_docstring():
    """The lines counted are those of the signature and of the body."""
    code = 'def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    return a\n'
    assert _length(_functions(ast.parse(code))[0]) == 4
