"""What one call of the command line knows: the options that every command takes, and the app they lead to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mahavishnu.scheduler.app import MahavishnuApp

__all__ = ["Session"]

T = TypeVar("T")


class Session:
    """One call of the command line. The app is loaded when a command first asks for it.

    Attributes:
        shows_tracebacks: Whether errors are printed with where they came from.
    """

    def __init__(self) -> None:
        self.shows_tracebacks = False

    def set(self, name: str, value: str) -> None:
        """Set a setting for this process and all it starts.

        It goes into the environment, where the app's own module, worker processes and Prefect's flow runs find
        it too: all of them must come to the same settings.

        Args:
            name: The setting as in `MAHAVISHNU_<name>`.
            value: Its text; paths are absolute.
        """
        os.environ[f"MAHAVISHNU_{name}"] = value

    def app(self, *, required: bool = False) -> MahavishnuApp:
        """Return the app that `--app`, the environment or the settings file names.

        Args:
            required: Refuse where none is named. By default that gives an app with the settings and the built-in
                workflows, which is all that looking takes.

        Raises:
            ConfigurationError: A setting is wrong, the app cannot be loaded, or none is named and one is required.
        """
        from mahavishnu.scheduler.app import MahavishnuApp
        from mahavishnu.scheduler.loading import load_app
        from mahavishnu.settings import load_settings

        settings = load_settings()
        if settings.app:
            return load_app(settings.app, settings.project_dir)
        if required:
            where = f"{settings.source} names none" if settings.source else "there is no mahavishnu.toml"
            raise ConfigurationError(
                f"no app to run: {where}; give --app module:attribute, or begin with `mahavishnu init`"
            )
        return MahavishnuApp(settings)

    def run(self, work: Callable[[MahavishnuApp], Coroutine[Any, Any, T]], *, required: bool = False) -> T:
        """Do some work with the app in an event loop, and let go of all it opened.

        Args:
            work: Called with the app.
            required: As for `app`.
        """
        import asyncio

        app = self.app(required=required)

        async def work_and_close() -> T:
            try:
                return await work(app)
            finally:
                await app.runtime.close()

        return asyncio.run(work_and_close())
