"""The generated pages are current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "scripts" / "reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("reference_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "command-line.md", "providers.md"])
def test_the_page_says_what_the_code_says(reference: ModuleType, name: str) -> None:
    """Otherwise run `python scripts/reference.py`."""
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == reference.pages()[name]


def test_every_setting_has_a_description(reference: ModuleType) -> None:
    """An attribute that the docstring leaves out would have no row to stand in."""
    from mahavishnu.settings import Settings
    from mahavishnu.settings.fields import Items, Section, fields_by_key

    shapes = [item.shape for item in fields_by_key(Settings).values()]
    for cls in [Settings, *(shape.cls for shape in shapes if isinstance(shape, Section | Items))]:
        assert {item.name for item in fields_by_key(cls).values()} <= set(reference.attribute_notes(cls)), cls


def test_a_stale_page_is_found(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` names it and fails, writing makes it current."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "stale: docs/reference/settings.md" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
