"""`mahavishnu classify`: which engine suits a task, and why."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from mahavishnu.classification import (
    VALID_VALUES,
    TaskCharacteristics,
    explain_task,
    next_question,
)
from mahavishnu.cli.durations import duration
from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from mahavishnu.classification import Alternative, Classification
    from mahavishnu.classification.rules import FieldName, Rule

__all__ = ["command"]

_DEFAULTS = TaskCharacteristics()
_HELP = {
    "frequency": "How often it runs; high is more than once a minute.",
    "visibility": "Whether people follow its runs.",
    "complexity": "How its steps hang together.",
    "durability": "Whether it must run even if this process stops.",
    "infrastructure": "Whether this process may run it, or others must.",
}


def _characteristic(field: str) -> Callable[[Any], Any]:
    default = getattr(_DEFAULTS, field)
    return click.option(
        f"--{field}", type=click.Choice(VALID_VALUES[field]), help=f"{_HELP[field]}  [default: {default}]"
    )


@click.command("classify")
@click.argument("name")
@_characteristic("frequency")
@_characteristic("visibility")
@_characteristic("complexity")
@_characteristic("durability")
@_characteristic("infrastructure")
@click.option("--expected-duration", type=duration, help="How long one run takes, such as 90s, 5m or 1h30m.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; never ask anything.")
def command(name: str, *, as_json: bool, **flags: Any) -> None:
    """Say which engine suits the task NAME, and why.

    Describe the task with options; what is left out has its default. Without any option, on a terminal, the
    questions that matter are asked one by one.
    """
    given = {field: value for field, value in flags.items() if value is not None}
    if not given and not as_json and _on_terminal():
        given = _interview()
    try:
        classification = explain_task(name, TaskCharacteristics(**given))
    except ConfigurationError as exc:
        raise click.UsageError(str(exc)) from exc
    if as_json:
        click.echo(json.dumps(_as_json(classification), indent=2))
    else:
        _print(classification)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _interview() -> dict[str, Any]:
    answers: dict[FieldName, str] = {}
    while (rule := next_question(answers)) is not None:
        answers[rule.field] = _ask(rule)
    click.echo()
    return cast("dict[str, Any]", answers)


def _ask(rule: Rule) -> str:
    click.echo(f"\n{click.style(rule.question, bold=True)}\n  {rule.explanation}")
    return click.prompt(
        f"  {rule.field}", type=click.Choice(VALID_VALUES[rule.field]), default=getattr(_DEFAULTS, rule.field)
    )


def _as_json(classification: Classification) -> dict[str, Any]:
    return {
        "name": classification.name,
        "engine": classification.engine.value,
        "characteristics": _characteristics_as_json(classification.characteristics),
        "path": [
            {"question": step.question, "field": step.field, "answer": step.answer, "decided": step.decided}
            for step in classification.path
        ],
        "reasons": list(classification.reasons),
        "warnings": [{"code": it.code, "message": it.message} for it in classification.warnings],
        "alternatives": [_alternative_as_json(alternative) for alternative in classification.alternatives],
    }


def _characteristics_as_json(characteristics: TaskCharacteristics) -> dict[str, Any]:
    duration = characteristics.expected_duration
    return {
        **{field: getattr(characteristics, field) for field in VALID_VALUES},
        "expected_duration_seconds": None if duration is None else duration.total_seconds(),
    }


def _alternative_as_json(alternative: Alternative) -> dict[str, Any]:
    return {
        "engine": alternative.engine.value,
        "changes": [
            {"field": change.field, "current": change.current, "needed": change.needed}
            for change in alternative.changes
        ],
        "trade_off": alternative.trade_off,
        "warnings": [{"code": it.code, "message": it.message} for it in alternative.warnings],
    }


def _print(classification: Classification) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble(f"{classification.name}: ", (classification.engine.value, "bold green")), end="\n\n")
    console.print(_path_table(classification))
    console.print(_section("Why", [("-", reason) for reason in classification.reasons]))
    if classification.warnings:
        lines = [("!", caution.message) for caution in classification.warnings]
        console.print(_section("Warnings", lines, style="yellow"))
    console.print(_section("Instead", [(it.engine.value, _instead(it)) for it in classification.alternatives]))


def _path_table(classification: Classification) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table("Question", "Answer", "Leads to", box=box.SIMPLE_HEAD)
    for step in classification.path:
        leads_to = classification.engine.value if step.decided else "next question"
        table.add_row(step.question, f"{step.field}: {step.answer}", leads_to)
    return table


def _section(title: str, lines: list[tuple[str, str]], *, style: str = "") -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for label, text in lines:
        table.add_row(Text(label, style=style), Text(text, style=style))
    return Group(Text(title, style="bold"), Padding(table, (0, 0, 1, 1)))


def _instead(alternative: Alternative) -> str:
    needed = " and ".join(f"{change.field} {change.needed}" for change in alternative.changes)
    return f"with {needed}: it {alternative.trade_off}"
