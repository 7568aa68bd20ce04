"""The names of the three engines."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EngineName"]


class EngineName(StrEnum):
    """Where a task runs; the values are what `classify_task` answers."""

    APSCHEDULER = "apscheduler"
    """In this process, on APScheduler: frequent and simple work."""
    ONEIRIC = "oneiric"
    """On a durable queue: work that must survive restarts and may spread over machines."""
    PREFECT = "prefect"
    """On Prefect 3: work that people watch, DAGs, and work across repositories."""
