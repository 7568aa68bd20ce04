"""Operations on the SQLite ledger's runs, requests and processes.

Each runs in the file's reader thread, or in its writer thread inside a transaction.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from mahavishnu.errors import RunNotFoundError
from mahavishnu.history.rows import (
    ENGINE_CODES,
    RUN_CODES,
    printable_run,
    process_from_row,
    process_row,
    request_from_row,
    run_from_row,
    run_row,
)
from mahavishnu.history.statements import sql
from mahavishnu.model.instants import to_ms
from mahavishnu.model.states import RunState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mahavishnu.history.store import ProcessInfo, Request, RequestKind
    from mahavishnu.model.run import Run, RunFilter
    from mahavishnu.storage.sqlite import Connection

__all__ = [
    "add_request",
    "ended_jobs",
    "find_run",
    "list_processes",
    "list_runs",
    "lost_runs",
    "prune",
    "remove_requests",
    "requests_for",
    "write_processes",
    "write_runs",
]

_OLDEST_FIRST_PRUNED = ("prune_occurrences", "prune_runs", "prune_requests", "prune_processes")
_SPARE_SHARE = 8
_MOST_PAGES = 512
ROWS_PER_STATEMENT = 100


def write_runs(connection: Connection, runs: Iterable[Run], now_ms: int) -> None:
    """Insert or update runs; a final state stays."""
    try:
        _upsert(connection, [run_row(run, now_ms) for run in runs])
    except UnicodeEncodeError:  # an exception's text may hold what UTF-8 cannot; losing the run would be worse
        _upsert(connection, [run_row(printable_run(run), now_ms) for run in runs])


def _upsert(connection: Connection, rows: Sequence[Sequence[object]]) -> None:
    """Write rows, a hundred per statement where there are so many.

    Between two rows of `executemany` the interpreter's lock is let go and fought for again; with an event loop
    busy beside this thread, that costs more than the statement.
    """
    whole = len(rows) - len(rows) % ROWS_PER_STATEMENT
    for first in range(0, whole, ROWS_PER_STATEMENT):
        group = rows[first : first + ROWS_PER_STATEMENT]
        connection.execute(_upsert_many(), [value for row in group for value in row])
    connection.executemany(sql("upsert_run"), rows[whole:])


@cache
def _upsert_many() -> str:
    before, group, after = re.split(r"(?<=VALUES )(\([?, ]+\))", sql("upsert_run"), maxsplit=1)
    return before + ", ".join([group] * ROWS_PER_STATEMENT) + after


def list_runs(connection: Connection, where: RunFilter) -> list[Run]:
    """Return the runs a filter lets through, newest first."""
    if where.job_id is not None:
        return _runs_of_job(connection, where)
    parameters = {
        "schedule_id": where.schedule_id,
        "task": where.task,
        "engine": None if where.engine is None else ENGINE_CODES[where.engine],
        "state": None if where.state is None else RUN_CODES[where.state],
        "parent_id": where.parent_id,
        "since_ms": _since_ms(where),
        "limit": where.limit,
    }
    return [run_from_row(row) for row in connection.execute(sql(_listing(where)), parameters)]


def _listing(where: RunFilter) -> str:
    if where.parent_id is not None:
        return "list_runs_of_parent"
    if where.state is None or where.state is RunState.SUCCEEDED:
        return "list_runs"
    return "list_runs_not_succeeded"


def _runs_of_job(connection: Connection, where: RunFilter) -> list[Run]:
    since_ms = _since_ms(where)
    rows = connection.execute(sql("list_runs_of_job"), {"job_id": where.job_id})
    runs = [run_from_row(row) for row in rows if row[8] >= since_ms]
    facts = {name: getattr(where, name) for name in ("schedule_id", "task", "engine", "state", "parent_id")}
    wanted = [(name, value) for name, value in facts.items() if value is not None]
    return [run for run in runs if all(getattr(run, name) == value for name, value in wanted)][: where.limit]


def _since_ms(where: RunFilter) -> int:
    return -(2**63) if where.since is None else to_ms(where.since)


def find_run(connection: Connection, run_or_job_id: str) -> Run:
    """Return a run by its id, or a job's latest run."""
    row = connection.execute(sql("get_run"), {"id": run_or_job_id}).fetchone()
    if row is None:
        row = connection.execute(sql("list_runs_of_job"), {"job_id": run_or_job_id}).fetchone()
    if row is None:
        raise RunNotFoundError(run_or_job_id)
    return run_from_row(row)


def ended_jobs(connection: Connection, job_ids: Collection[str]) -> dict[str, Run]:
    """Return the run that ended each job, for those that have ended."""
    statement = sql("ended_job")
    found = ((job_id, connection.execute(statement, {"job_id": job_id}).fetchone()) for job_id in job_ids)
    return {job_id: run_from_row(row) for job_id, row in found if row is not None}


def lost_runs(connection: Connection, worker_prefix: str) -> list[Run]:
    """Return runs recorded as running by such a worker, oldest first."""
    runs = [run_from_row(row) for row in connection.execute(sql("running_runs"))]
    return [run for run in runs if run.worker is not None and run.worker.startswith(worker_prefix)]


def add_request(connection: Connection, request: Request) -> None:
    """Keep a request; the same one twice is one."""
    row = (request.id, request.kind.value, request.target, request.asked_ms, request.job_id)
    connection.execute(sql("insert_request"), row)


def requests_for(connection: Connection, kind: RequestKind, targets: Collection[str] | None) -> list[Request]:
    """Return requests of this kind for these targets, oldest first."""
    requests = [request_from_row(row) for row in connection.execute(sql("list_requests"), {"kind": kind.value})]
    return requests if targets is None else [request for request in requests if request.target in targets]


def remove_requests(connection: Connection, requests: Sequence[Request]) -> list[Request]:
    """Delete requests; returns those that were still there."""
    statement = sql("delete_request")
    return [it for it in requests if connection.execute(statement, {"id": it.id}).rowcount]


def write_processes(connection: Connection, processes: Iterable[ProcessInfo]) -> None:
    """Insert or update what processes report of themselves."""
    connection.executemany(sql("upsert_process"), [process_row(process) for process in processes])


def list_processes(connection: Connection, since_ms: int) -> list[ProcessInfo]:
    """Return processes that reported since then, by start."""
    return [process_from_row(row) for row in connection.execute(sql("list_processes"), {"since_ms": since_ms})]


def prune(connection: Connection, before_us: int, limit: int) -> int:
    """Delete at most `limit` old rows and give pages back to the file system.

    Occurrences go before runs: a run outlives its occurrence, or its job would look unfinished.
    """
    deleted = 0
    for name in _OLDEST_FIRST_PRUNED:
        if deleted < limit:
            parameters = {"before_us": before_us, "before_ms": before_us // 1000, "limit": limit - deleted}
            deleted += connection.execute(sql(name), parameters).rowcount
    _give_back(connection)
    return deleted


def _give_back(connection: Connection) -> None:
    """Cut free pages off the file's end once they are an eighth of it; fewer are soon used again."""
    free, pages = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_count"))
    if free * _SPARE_SHARE > pages:
        for _ in range(min(free, _MOST_PAGES)):  # a call of this driver frees one page, whatever number it is given
            connection.execute("PRAGMA incremental_vacuum(1)")
