"""How a worker, in a process and directory of its own, finds a flow."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.flows import Flow

from mahavishnu.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Entrypoint", "flow_entrypoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint:
    """Where a flow is.

    Attributes:
        path: `package.module.flow`, or `/absolute/file.py:flow` for a flow in no package.
        working_dir: Where a run must stand for `path` to be found: above the package, or beside the file. `None`
            when the package is installed.
    """

    path: str
    working_dir: Path | None


def flow_entrypoint(flow: Flow[..., Any]) -> Entrypoint:
    """Return where a worker finds a flow.

    Raises:
        ConfigurationError: It cannot: the flow is made inside a function, typed at a prompt, or bound to no name.
    """
    module = sys.modules.get(flow.fn.__module__)
    if "<locals>" in flow.fn.__qualname__:
        raise _unreachable(flow, f"is defined inside a function ({flow.fn.__qualname__})")
    if module is None or getattr(module, "__file__", None) is None:
        raise _unreachable(flow, "is not in a file")
    file = Path(str(module.__file__)).resolve()
    name = _bound_name(flow, module)
    if module.__name__ == "__main__" or not module.__package__:
        return Entrypoint(path=f"{file}:{name}", working_dir=file.parent)
    return Entrypoint(path=f"{module.__name__}.{name}", working_dir=_package_root(module, file))


def _bound_name(flow: Flow[..., Any], module: ModuleType) -> str:
    """Return the name under which importing the module gives this flow, or another of the same function."""
    names = vars(module)
    same = [name for name, value in names.items() if value is flow]
    alike = [name for name, value in names.items() if isinstance(value, Flow) and value.fn is flow.fn]
    found = same or alike
    if not found:
        raise _unreachable(flow, f"has no name in the module {module.__name__}")
    return found[0]


def _package_root(module: ModuleType, file: Path) -> Path | None:
    """Return the directory to stand in for the module to be importable; `None` when it is installed."""
    depth = module.__name__.count(".") + (1 if file.name == "__init__.py" else 0)
    root = file.parents[depth]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    return None if root in installed else root


def _unreachable(flow: Flow[..., Any], problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"flow {flow.name!r} {problem}, so no worker can import it; define it at the top level of a module"
    )
