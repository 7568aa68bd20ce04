"""From `module:attribute` to the app it names, for every process that has to run its workflows."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING

from mahavishnu.errors import ConfigurationError, MahavishnuError, nearest
from mahavishnu.scheduler.app import MahavishnuApp

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

__all__ = ["load_app"]


def load_app(import_path: str, project_dir: Path) -> MahavishnuApp:
    """Import the app that `import_path` names.

    Args:
        import_path: `module:attribute`, such as `app:app` or `package.module:app`.
        project_dir: The folder whose modules are found first; it stays in front of `sys.path`, since workflows may
            import from it when they run.

    Raises:
        ConfigurationError: The path is malformed, the module is missing or fails, or the attribute is no app.
        MahavishnuError: The module raised it, for example because a setting is wrong.
    """
    module_name, colon, attribute = import_path.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigurationError(f"app {import_path!r} is no import path; write module:attribute, such as app:app")
    folder = str(project_dir.absolute())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    return _attribute(_module(module_name, import_path, folder), attribute, import_path)


def _module(name: str, import_path: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MahavishnuError:
        raise
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise ConfigurationError(
                f"app {import_path!r}: there is no module {exc.name!r} in {folder} or among the installed packages;"
                " correct the name, or give --config with the project's mahavishnu.toml"
            ) from exc
        raise _failed(import_path, exc) from exc
    except (Exception, SystemExit) as exc:  # what a module does when it is imported is unknown
        raise _failed(import_path, exc) from exc


def _failed(import_path: str, error: BaseException) -> ConfigurationError:
    said = f"{type(error).__name__}: {error}".removesuffix(": ").partition("\n")[0]
    return ConfigurationError(
        f"app {import_path!r}: importing it failed{_place(error)}: {said}; correct that, or see more with --traceback"
    )


def _place(error: BaseException) -> str:
    """Return the user's line that raised: the last one outside the import system."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" at {error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames and frames[-1].filename != __file__ else ""


def _attribute(module: ModuleType, attribute: str, import_path: str) -> MahavishnuApp:
    value: object = module
    for name in attribute.split("."):
        value = getattr(value, name, None)
    if isinstance(value, MahavishnuApp):
        return value
    apps = [name for name, item in vars(module).items() if isinstance(item, MahavishnuApp)]
    what = (
        f"has no {attribute!r}" if value is None else f"has a {type(value).__name__} called {attribute!r}, not an app"
    )
    hint = nearest(attribute, apps) or "; write `app = MahavishnuApp()` there"
    raise ConfigurationError(f"app {import_path!r}: module {module.__name__!r} ({module.__file__}) {what}{hint}")
