"""`mahavishnu doctor`: what is installed, configured, reachable, and in which version; problems first."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, cast

import click

from mahavishnu.cli.options import as_json
from mahavishnu.cli.output import Cell, print_json, print_lines, print_pairs, print_table
from mahavishnu.cli.wording import relative, size
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.model.instants import from_ms
from mahavishnu.settings import load_settings

if TYPE_CHECKING:
    from mahavishnu.cli.diagnosis import Diagnosis
    from mahavishnu.cli.session import Session
    from mahavishnu.engines.base import EngineHealth
    from mahavishnu.history.store import ProcessInfo

__all__ = ["command"]


@click.command("doctor")
@as_json
@click.pass_obj
def command(session: Session, *, as_json: bool) -> None:
    """Look at engines, storage, processes and settings; exit 1 when something enabled does not work."""
    from mahavishnu.cli.diagnosis import diagnose

    found = asyncio.run(diagnose(session, load_settings()))
    if as_json:
        print_json(_as_json(found))
    else:
        _print(found)
    if found.problems:
        raise click.exceptions.Exit(1)


def _as_json(found: Diagnosis) -> dict[str, Any]:
    return {
        "ok": not found.problems,
        "problems": found.problems,
        "engines": [{**dataclasses.asdict(health), "engine": str(health.engine)} for health in found.engines],
        "processes": [_process_as_json(process) for process in found.processes],
        **{name.replace(" ", "_"): facts for name, facts in found.facts.items()},
        "settings": found.settings,
    }


def _process_as_json(process: ProcessInfo) -> dict[str, Any]:
    return {
        "id": process.id,
        "kind": process.kind,
        "started_at": from_ms(process.started_ms).isoformat(),
        "seen_at": from_ms(process.seen_ms).isoformat(),
        "details": process.details,
    }


def _print(found: Diagnosis) -> None:
    for problem in found.problems:
        print_lines([("problem:", "bold red"), problem])
    if not found.problems:
        print_lines([("no problems found", "green")])
    click.echo()
    titles = ["engine", "enabled", "state", "version", "details"]
    print_table(titles, [_engine_row(health) for health in found.engines], empty="")
    click.echo()
    _print_processes(found.processes)
    for name, facts in found.facts.items():
        click.echo()
        print_pairs([(key.replace("_", " "), _shown(key, value)) for key, value in facts.items()], title=name)
    click.echo()
    changed = [[it["key"], it["value"], it["source"]] for it in found.settings if it["source"] != "default"]
    print_table(["setting", "value", "given in"], changed, empty="every setting has its default (see --json)")


def _engine_row(health: EngineHealth) -> list[Cell]:
    state = ("works", "green") if health.ready else ("off", "dim") if not health.enabled else ("not ready", "yellow")
    facts = "".join(f"; {name} {value}" for name, value in health.facts.items())
    return [
        (str(health.engine), "bold"),
        "yes" if health.enabled else "no",
        state,
        health.version or "-",
        health.detail + facts,
    ]


def _print_processes(processes: list[ProcessInfo]) -> None:
    now = SYSTEM_CLOCK.now()
    rows: list[list[Cell]] = [
        [
            (process.kind, "bold"),
            process.id,
            relative(from_ms(process.started_ms), now),
            relative(from_ms(process.seen_ms), now),
            " ".join(f"{name}={value}" for name, value in process.details.items()),
        ]
        for process in processes
    ]
    print_table(["process", "id", "started", "seen", "details"], rows, empty="no scheduler or worker process runs")


def _shown(key: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            sizes = cast("dict[str, int]", value)
            return ", ".join(f"{name} {size(count)}" for name, count in sizes.items())
        case int() if key.endswith("_bytes"):
            return size(value)
        case _:
            return str(value)
