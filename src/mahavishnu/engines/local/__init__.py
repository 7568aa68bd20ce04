"""The in-process engine, on APScheduler."""

from mahavishnu.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
