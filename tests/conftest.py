"""What holds for every test: no settings from outside, and examples without a time limit of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# A developer's own settings must not decide whether a test passes.
for _name in [name for name in os.environ if name.startswith(("MAHAVISHNU_", "PREFECT_"))]:
    del os.environ[_name]

# One slow example on a busy machine is no failure; pytest-timeout limits the whole test. CI repeats the same
# examples every time, so that a red build is about the change it ran on.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

USE_PREFECT_IN_PROCESS = (Path(__file__).parent / "docs", Path(__file__).parent / "integration" / "prefect")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last what uses Prefect in this process: its threads stay, and change the state of `random` under others."""
    items.sort(key=lambda item: any(folder in item.path.parents for folder in USE_PREFECT_IN_PROCESS))
