"""Command groups that import a command only when it is called, and options that every command takes."""

from __future__ import annotations

import difflib
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mahavishnu.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["GLOBAL_OPTIONS", "Group", "Lazy", "LazyGroup", "ListingGroup"]

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Lazy(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        module: Which module has it, under the name `command`.
        summary: What the list of commands says of it.
    """

    module: str
    summary: str


class Group(click.Group):
    """A group that names the nearest command where one does not exist, and lists commands as they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order they are useful."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, which also takes the options that all take."""
        found = super().get_command(ctx, cmd_name)
        return None if found is None else _with_global_options(found)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called.

        Raises:
            click.UsageError: There is none of that name; the nearest one is named.
        """
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(names)}."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


class ListingGroup(Group):
    """A group that lists where no command of it is called: `runs --state failed` is `runs list --state failed`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with `list` put in where it was left out."""
        is_listing = not args or (args[0].startswith("-") and not {*args} & {*self.commands, *ctx.help_option_names})
        return super().parse_args(ctx, ["list", *args] if is_listing else args)


class LazyGroup(Group):
    """A group whose commands are imported one by one, when they are called.

    Args:
        lazy: By name, where each is.
        **options: Those of `click.Group`.
    """

    def __init__(self, *, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(**options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order they are useful."""
        del ctx
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            self.add_command(import_module(self._lazy[cmd_name].module).command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self._lazy.items()])


def _with_global_options(command: click.Command) -> click.Command:
    known = {parameter.name for parameter in command.params}
    command.params.extend(option for option in GLOBAL_OPTIONS if option.name not in known)
    return command


# --- the options of every command ---


def _kept(use: Callable[[Session, Any], None]) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        del parameter
        if value:
            use(ctx.ensure_object(Session), value)

    return keep


def _use_app(session: Session, value: str) -> None:
    if not _IMPORT_PATH.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no import path; write module:attribute, such as app:app")
    session.set("APP", value)


def _use_config(session: Session, value: str) -> None:
    session.set("CONFIG", os.path.abspath(value))


def _use_state_dir(session: Session, value: str) -> None:
    session.set("STATE_DIR", os.path.abspath(value))


def _show_tracebacks(session: Session, value: bool) -> None:
    session.shows_tracebacks = value


GLOBAL_OPTIONS = (
    click.Option(
        ["--app"],
        metavar="MODULE:ATTRIBUTE",
        expose_value=False,
        callback=_kept(_use_app),
        help="The app; by default what mahavishnu.toml says under `app`.",
    ),
    click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False),
        expose_value=False,
        callback=_kept(_use_config),
        help="The settings file; by default mahavishnu.toml here or in the nearest folder above.",
    ),
    click.Option(
        ["--state-dir"],
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=_kept(_use_state_dir),
        help="The folder with everything that is stored; by default .mahavishnu beside the settings file.",
    ),
    click.Option(
        ["--traceback"],
        is_flag=True,
        expose_value=False,
        callback=_kept(_show_tracebacks),
        help="Show where in the code an error came from.",
    ),
)
"""Taken before and after the command's name, so that `mahavishnu up --app app:app` works as one types it."""
