"""Prefect deployments, in the shape of Prefect's own `Deployment.build`.

Prefect is imported when one of the names is first used, not with this module: the import takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mahavishnu.errors import MissingExtraError

if TYPE_CHECKING:
    from mahavishnu.engines.prefect.deployments import Deployment
    from mahavishnu.engines.prefect.schedules import CronSchedule

__all__ = ["CronSchedule", "Deployment"]

_HOMES = {
    "CronSchedule": "mahavishnu.engines.prefect.schedules",
    "Deployment": "mahavishnu.engines.prefect.deployments",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_HOMES[name])
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "prefect":
            raise
        raise MissingExtraError("Prefect", "prefect") from exc
    value = getattr(module, name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
