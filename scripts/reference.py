"""Write the pages under docs/reference from the code: `python scripts/reference.py`, or `--check` to compare only."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mahavishnu.cli.groups import GLOBAL_OPTIONS
from mahavishnu.cli.root import command as root
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.queues.base import Capabilities
from mahavishnu.queues.registry import ALIASES, NOT_YET, create_provider
from mahavishnu.settings import Settings
from mahavishnu.settings.fields import FreeTables, Items, Section, fields_by_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
BUILT_IN = ("sqlite", "memory")
NOTICE = "<!-- Written by scripts/reference.py from the code; change the docstrings there, not this page. -->"


def main(arguments: list[str]) -> int:
    """Write or compare the pages; returns 1 where a page compared is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args(arguments).check
    stale = [name for name, text in pages().items() if _differs(name, text)]
    for name in stale:
        if not check:
            (FOLDER / name).write_text(pages()[name], encoding="utf-8")
        sys.stdout.write(f"{'stale' if check else 'written'}: docs/reference/{name}\n")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "settings.md": _settings,
        "command-line.md": _command_line,
        "providers.md": _providers,
    }
    return {name: "\n".join(make()).rstrip() + "\n" for name, make in makers.items()}


def _differs(name: str, text: str) -> bool:
    file = FOLDER / name
    return not file.exists() or file.read_text(encoding="utf-8") != text


def attribute_notes(cls: type) -> dict[str, str]:
    """Return what the `Attributes:` section of a docstring says of each, in one line."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\n\n|\Z)", section, re.M | re.S)
    return {name: " ".join(text.split()) for name, text in entries}


# --- settings ---


def _settings() -> Iterator[str]:
    yield from ("# Settings", "", NOTICE, "")
    yield "Settings come from `mahavishnu.toml` in the working directory or the nearest folder above it, then from"
    yield "environment variables, then from arguments; the later one wins, key by key. `MAHAVISHNU_` and the key in"
    yield "capitals is a variable, with two underscores for each dot: `MAHAVISHNU_WORKER__CONCURRENCY=20`. Lists are"
    yield "separated by commas there. `MAHAVISHNU_CONFIG` names the file itself. A key that does not exist is an error"
    yield "that names the file, the line and the nearest key that does."
    yield ""
    yield "Relative paths start at the folder of the file that names them."
    yield ""
    yield from _table("Top level", Settings)
    for key, item in fields_by_key(Settings).items():
        match item.shape:
            case Section(cls):
                yield from _table(f"[{key}]", cls)
            case Items(cls):
                yield from _table(f"[[{key}]]", cls)
            case FreeTables():
                yield from _providers_table(key)
            case _:
                pass


def _table(title: str, cls: type[Any]) -> Iterator[str]:
    notes = attribute_notes(cls)
    about = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
    yield from (f"## {title}", "")
    if cls is not Settings:
        yield from (_sentence(about.partition(": ")[2] or about), "")
    yield from ("| key | meaning |", "|---|---|")
    for key, item in fields_by_key(cls).items():
        if not isinstance(item.shape, Section | Items | FreeTables):
            required = " Required." if item.required else ""
            yield f"| `{key}` | {_cell(_without_key(notes[item.name], key))}{required} |"
    yield ""


def _providers_table(key: str) -> Iterator[str]:
    yield from (f"## [{key}.NAME]", "")
    yield 'Options of the queue provider NAME, as that provider defines them. `use = "other"` instead lets another'
    yield "provider answer to the name; nothing else may stand beside it. See [providers](providers.md)."
    yield ""


def _without_key(text: str, key: str) -> str:
    """Leave out the outer name, which the table has in its first column."""
    return text.replace(f" (`{key}`)", "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return _sentence(text.replace("|", "\\|"))


# --- the command line ---


def _command_line() -> Iterator[str]:
    yield from ("# Command line", "", NOTICE, "")
    yield "Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. Errors are one line on standard error; listings"
    yield "take `--json` for machines."
    yield ""
    context = click.Context(root, info_name="mahavishnu")
    yield from ("## Every command", "", "These may stand before or after the command's name.", "")
    yield from _options([*GLOBAL_OPTIONS], context)
    for name in root.list_commands(context):
        found = root.get_command(context, name)
        assert found is not None
        yield from _command(found, context, name, "##")


def _command(command: click.Command, parent: click.Context, name: str, level: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield from (f"{level} {context.command_path}", "")
    yield from ("<!-- not run: the shape of the command -->", "```sh", _usage(command, context), "```", "")
    yield from (_prose(command), "")
    own = [p for p in command.params if isinstance(p, click.Option) and p not in GLOBAL_OPTIONS and not p.hidden]
    yield from _options(own, context)
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            found = command.get_command(context, part)
            if found is not None and not found.hidden:
                yield from _command(found, context, part, level + "#")


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _prose(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or command.short_help or "").replace("\b", "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _options(options: list[click.Option], context: click.Context) -> Iterator[str]:
    records = [record for option in options if (record := option.get_help_record(context)) is not None]
    if records:
        yield from ("| option | meaning |", "|---|---|")
        for flags, meaning in records:
            yield f"| `{flags.replace('|', chr(92) + '|')}` | {_cell(' '.join(meaning.split()))} |"
        yield ""


# --- providers ---


def _providers() -> Iterator[str]:
    yield from ("# Queue providers", "", NOTICE, "")
    yield "What each provider declares it can do. The contract suite tests every claim, and `Queue`, the type that all"
    yield "others use, makes up for the rest or refuses the option, naming who honours it."
    yield ""
    declared = {name: create_provider(name, state_dir=Path(), clock=SYSTEM_CLOCK).capabilities for name in BUILT_IN}
    notes = attribute_notes(Capabilities)
    yield f"| capability | meaning | {' | '.join(f'`{name}`' for name in BUILT_IN)} |"
    yield f"|---|---|{'---|' * len(BUILT_IN)}"
    for one in fields(Capabilities):
        values = [_value(getattr(capabilities, one.name)) for capabilities in declared.values()]
        yield f"| `{one.name}` | {_cell(notes[one.name])} | {' | '.join(values)} |"
    yield ""
    yield from _names()


def _value(value: bool | int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "no limit" if value is None else f"{value:,}"


def _names() -> Iterator[str]:
    yield from ("## Names", "")
    yield "`sqlite` is the default: it needs no server, and any number of processes of one machine share its file"
    yield "`queue.db` in the state folder. `memory` lives and dies with its process, for tests."
    yield ""
    yield from ("| name | also written as | in this version |", "|---|---|---|")
    for name in [*BUILT_IN, *sorted(NOT_YET)]:
        others = ", ".join(f"`{alias}`" for alias, meant in ALIASES.items() if meant == name)
        yield f"| `{name}` | {others} | {'no' if name in NOT_YET else 'yes'} |"
    yield ""
    yield "Asking for one that is not in this version is an error that says so. A provider of your own joins by"
    yield "[registering it](../how-to/write-a-provider.md)."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
