"""The command `mahavishnu`: what it offers, and how it ends when something goes wrong."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mahavishnu.cli.groups import GLOBAL_OPTIONS, Lazy, LazyGroup
from mahavishnu.cli.session import Session
from mahavishnu.errors import MahavishnuError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DISTRIBUTION", "command", "run"]

DISTRIBUTION = "mahavishnu-scheduler"

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

_COMMANDS = {
    "init": Lazy("mahavishnu.cli.init", "Write a small project that runs at once."),
    "up": Lazy("mahavishnu.cli.up", "Run everything one machine needs."),
    "scheduler": Lazy("mahavishnu.cli.scheduler", "Run the scheduler alone."),
    "worker": Lazy("mahavishnu.cli.worker", "Run durable jobs."),
    "enqueue": Lazy("mahavishnu.cli.enqueue", "Put a durable job on a queue."),
    "schedules": Lazy("mahavishnu.cli.schedules", "List schedules and steer them."),
    "runs": Lazy("mahavishnu.cli.runs", "List runs, follow and cancel them."),
    "queues": Lazy("mahavishnu.cli.queues", "Count what waits in the queues."),
    "dead-letters": Lazy("mahavishnu.cli.dead_letters", "List parked jobs, and try them again."),
    "deployments": Lazy("mahavishnu.cli.deployments", "List what Prefect holds for this project."),
    "classify": Lazy("mahavishnu.cli.classify", "Say which engine suits a task, and why."),
    "repos": Lazy("mahavishnu.cli.repos", "List repositories, and run workflows across them."),
    "doctor": Lazy("mahavishnu.cli.doctor", "Find what is wrong, per engine."),
}


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"mahavishnu {version(DISTRIBUTION)}")
        except PackageNotFoundError:  # run from a folder of sources
            click.echo("mahavishnu, not installed as a package")
        ctx.exit()


command: click.Group = LazyGroup(
    name="mahavishnu",
    lazy=_COMMANDS,
    help="One front door to the right scheduler: in-process, on durable queues, or on Prefect.\n\n"
    "Begin with `mahavishnu init`, then `mahavishnu up`.",
    params=[
        *GLOBAL_OPTIONS,
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    Args:
        arguments: What was typed after `mahavishnu`.
    """
    session = Session()
    try:
        code = command.main(list(arguments), prog_name="mahavishnu", obj=session, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.Abort as exc:
        interrupted = exc.__cause__ is None or isinstance(exc.__cause__, KeyboardInterrupt)
        return INTERRUPTED if interrupted else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return FAILED
    except MahavishnuError as exc:
        return _fail(session, exc, str(exc))
    except Exception as exc:
        return _fail(session, exc, f"{type(exc).__name__}: {exc} ({_whose(exc)})")
    return code if isinstance(code, int) else DONE


def _fail(session: Session, error: Exception, line: str) -> int:
    if session.shows_tracebacks:
        import traceback

        traceback.print_exception(error)
    click.echo(f"error: {line}", err=True)
    return FAILED


def _whose(error: Exception) -> str:
    """Return who has to look at an unexpected exception: the app's author, where the app's code raised it, or us."""
    import traceback

    installed = (sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(__file__)), "<")
    theirs = [it for it in traceback.extract_tb(error.__traceback__) if not it.filename.startswith(installed)]
    if theirs:
        return f"raised by {theirs[-1].filename}:{theirs[-1].lineno}; --traceback shows more"
    return "a bug in mahavishnu; --traceback shows where, please report it"


def _forget_output() -> None:
    """Have the interpreter's own last flush go nowhere: whoever read the output has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
