"""What `up` and `scheduler` show while they run: lines that stay, and one at the bottom that changes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mahavishnu.cli.output import Cell, is_terminal, print_lines

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.status import Status

__all__ = ["Screen"]

_REFRESHES_PER_SECOND = 2  # it says that something lives; more would only take processor time


class Screen:
    """Prints lines; on a terminal it also keeps a status line below them."""

    def __init__(self) -> None:
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Generator[None]:
        """Keep the status line inside the block; log lines written meanwhile appear above it."""
        if not is_terminal():
            yield
            return
        from mahavishnu.cli.output import console

        with console().status("starting", spinner="dots", refresh_per_second=_REFRESHES_PER_SECOND) as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def say(self, *cells: Cell) -> None:
        """Print a line that stays."""
        print_lines(cells)

    def status(self, text: str) -> None:
        """Show what is going on, in the line that changes; nowhere without a terminal."""
        if self._status is not None:
            self._status.update(text)
