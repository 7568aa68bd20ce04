"""From an engine's name to its class; each is imported when it is first wanted.

APScheduler takes a tenth of a second to import and Prefect nearly two, so a command that only enqueues a job
pays for neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mahavishnu.errors import MissingExtraError

if TYPE_CHECKING:
    from mahavishnu.engines.local import LocalEngine
    from mahavishnu.engines.prefect.engine import PrefectEngine
    from mahavishnu.engines.queue import QueueEngine

__all__ = ["local_engine", "prefect_engine", "queue_engine"]


def local_engine() -> type[LocalEngine]:
    """Return the in-process engine's class."""
    from mahavishnu.engines.local import LocalEngine

    return LocalEngine


def queue_engine() -> type[QueueEngine]:
    """Return the durable engine's class."""
    from mahavishnu.engines.queue import QueueEngine

    return QueueEngine


def prefect_engine() -> type[PrefectEngine]:
    """Return the Prefect engine's class.

    Raises:
        MissingExtraError: Prefect is not installed.
    """
    try:
        from mahavishnu.engines.prefect.engine import PrefectEngine
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "prefect":
            raise
        raise MissingExtraError("Prefect", "prefect") from exc
    return PrefectEngine
