"""Workflows worth having from the first day; each is a plain function that may also be called directly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mahavishnu.workflows.builtin.checks import Check
from mahavishnu.workflows.builtin.code_sweep import code_sweep
from mahavishnu.workflows.builtin.daily_backup import daily_backup
from mahavishnu.workflows.builtin.shell import shell
from mahavishnu.workflows.registry import WorkflowRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mahavishnu.settings import CheckSettings

__all__ = ["builtin_registry"]


def builtin_registry(checks: Iterable[CheckSettings] = ()) -> WorkflowRegistry:
    """Return a registry of `shell`, `daily_backup` and `code_sweep`.

    Args:
        checks: What `code_sweep` runs by default; none (default): what each repository's files suggest.
    """
    configured = [
        Check(
            name=one.name,
            command=one.command,
            timeout=one.timeout,
            allow_failure=one.allow_failure,
            repos=one.repos,
            tags=one.tags,
        )
        for one in checks
    ]
    registry = WorkflowRegistry()
    registry.register("shell", shell)
    registry.register("daily_backup", daily_backup)
    registry.register("code_sweep", partial(code_sweep, checks=configured) if configured else code_sweep)
    return registry
