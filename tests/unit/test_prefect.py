"""The public module: light until used, and clear when Prefect is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mahavishnu.prefect as public

BLOCKED = """
import sys
sys.modules["prefect"] = None
from mahavishnu.errors import MissingExtraError
try:
    from mahavishnu.prefect import Deployment
except MissingExtraError as exc:
    print(exc)
"""


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_does_not_import_prefect() -> None:
    """The import of Prefect takes seconds, and only users of the names pay for it."""
    assert _run("import mahavishnu.prefect, sys; print('prefect' in sys.modules)") == "False"


def test_a_missing_extra_names_what_to_install() -> None:
    """Without Prefect the first use of a name says which extra brings it."""
    assert _run(BLOCKED) == "Prefect is not installed: run `pip install 'mahavishnu-scheduler[prefect]'`"


def test_unknown_names_are_attribute_errors_and_the_known_are_listed() -> None:
    """As in any module."""
    assert dir(public) == ["CronSchedule", "Deployment"]
    with pytest.raises(AttributeError, match="no attribute 'Agent'"):
        public.Agent  # noqa: B018
