"""Tables and pairs for people, JSON for programs. Rich is imported only for a terminal."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

__all__ = [
    "Cell",
    "confirm_destruction",
    "console",
    "is_terminal",
    "print_json",
    "print_lines",
    "print_pairs",
    "print_table",
    "state_style",
    "styled",
]

Cell: TypeAlias = str | tuple[str, str]
"""A text, or a text and the style it has on a terminal."""

_STATE_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "dead": "red",
    "lost": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "retrying": "yellow",
    "snoozed": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "ended": "dim",
    "skipped": "yellow",
}


def state_style(state: str) -> tuple[str, str]:
    """Return the name of a state in its colour."""
    return state, _STATE_STYLES.get(state, "")


def is_terminal() -> bool:
    """Return whether a person reads standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@functools.cache
def console() -> Console:
    """Return the terminal that everything is printed on."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def styled(cell: Cell) -> Text:
    """Return a cell as rich prints it."""
    from rich.text import Text

    return Text(cell) if isinstance(cell, str) else Text(cell[0], style=cell[1])


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def print_json(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON: indented, or as one line of a stream."""
    click.echo(json.dumps(value, indent=None if line else 2, ensure_ascii=False))


def print_lines(cells: Sequence[Cell]) -> None:
    """Print cells side by side in one line, coloured on a terminal."""
    if is_terminal():
        from rich.text import Text

        console().print(Text(" ").join(styled(cell) for cell in cells), soft_wrap=True)
    else:
        click.echo(" ".join(map(_plain, cells)))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, empty: str) -> None:
    """Print a table: framed and coloured on a terminal, aligned text elsewhere.

    Args:
        titles: The columns' titles.
        rows: One cell per column.
        empty: What to say where there is no row.
    """
    if not rows:
        click.echo(empty, err=not is_terminal())
    elif is_terminal():
        _print_rich_table(titles, rows)
    else:
        _print_plain_table([title.upper() for title in titles], [[_plain(cell) for cell in row] for row in rows])


def _print_rich_table(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(styled, row))
    console().print(table)


def _print_plain_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [titles, *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(titles))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_pairs(pairs: Sequence[tuple[str, Cell]], *, title: str = "") -> None:
    """Print names and values below each other; pairs with an empty value are left out."""
    shown = [(name, cell) for name, cell in pairs if _plain(cell)]
    width = max((len(name) for name, _ in shown), default=0)
    if title:
        print_lines([(title, "bold")])
    for name, cell in shown:
        print_lines([(f"{name}:".ljust(width + 1), "dim"), cell])


def confirm_destruction(question: str, *, yes: bool) -> None:
    """Ask a person before something is deleted; a script must say `--yes`.

    Raises:
        click.UsageError: Nobody can be asked, and `--yes` is missing.
        click.exceptions.Exit: The answer was no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(f"{question} Nobody can be asked here: add --yes to go on.")
    if not click.confirm(question):
        click.echo("nothing was changed")
        raise click.exceptions.Exit(1)
