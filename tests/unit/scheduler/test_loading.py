"""Tests of finding the app that `module:attribute` names."""

from __future__ import annotations

import sys

import pytest

from mahavishnu.errors import ConfigurationError, SettingError
from mahavishnu.scheduler.app import MahavishnuApp
from mahavishnu.scheduler.loading import load_app

APP = "from mahavishnu.scheduler.app import MahavishnuApp\napp = MahavishnuApp()\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder for modules, which leaves no trace in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def _refused(import_path, project):
    with pytest.raises(ConfigurationError) as raised:
        load_app(import_path, project)
    return str(raised.value)


def test_app_is_found_in_the_projects_folder(project):
    """The folder comes first in `sys.path`, and is put there once."""
    (project / "good_app.py").write_text(APP)
    app = load_app("good_app:app", project)
    assert isinstance(app, MahavishnuApp)
    assert load_app("good_app:app", project) is app
    assert sys.path[0] == str(project)
    assert sys.path.count(str(project)) == 1


def test_app_may_be_an_attribute_of_something(project):
    """Dots after the colon go into objects."""
    (project / "nested_app.py").write_text(f"{APP}class Place:\n    inner = app\n")
    assert isinstance(load_app("nested_app:Place.inner", project), MahavishnuApp)


@pytest.mark.parametrize("import_path", ["app", "app:", ":app", ""])
def test_path_needs_module_and_attribute(import_path, project):
    """The message shows the right form."""
    assert "write module:attribute" in _refused(import_path, project)


def test_missing_module_is_told_with_the_folder(project):
    """Where it was looked for tells whether the name or the folder is wrong."""
    said = _refused("missing_app:app", project)
    assert f"there is no module 'missing_app' in {project}" in said


def test_module_that_fails_is_told_with_cause_and_line(project):
    """The app's own error, and where it was raised, in one line."""
    (project / "failing_app.py").write_text("import os\nimport no_such_library\n")
    said = _refused("failing_app:app", project)
    assert f"at {project}/failing_app.py:2: ModuleNotFoundError: No module named 'no_such_library'" in said
    assert "\n" not in said


@pytest.mark.parametrize("code", ["def broken(:\n", "raise SystemExit(3)\n", "1 / 0\n"])
def test_whatever_a_module_does_is_one_clear_error(code, project, request):
    """Syntax errors and programs that exit on import are told in the same way."""
    name = f"odd_app_{abs(hash(request.node.name))}"
    (project / f"{name}.py").write_text(code)
    assert f"{project}/{name}.py:1: " in _refused(f"{name}:app", project)


def test_missing_attribute_is_told_with_the_nearest_app(project):
    """Only apps are proposed."""
    (project / "other_app.py").write_text(APP.replace("app = ", "application = "))
    assert "has no 'aplication'; did you mean 'application'?" in _refused("other_app:aplication", project)


def test_something_else_is_told_by_its_type(project):
    """A module without any app says how to make one."""
    (project / "no_app.py").write_text("app = 3\n")
    said = _refused("no_app:app", project)
    assert "has a int called 'app', not an app; write `app = MahavishnuApp()` there" in said


def test_wrong_settings_keep_their_own_message(project):
    """The file and line of a wrong setting are not hidden behind the import."""
    (project / "mahavishnu.toml").write_text("nonsense = 1\n")
    (project / "unset_app.py").write_text(APP)
    with pytest.raises(SettingError, match=r"mahavishnu\.toml:1: nonsense"):
        load_app("unset_app:app", project)
