"""Refuse settings that are well-formed one by one and cannot work together, or on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mahavishnu.errors import nearest
from mahavishnu.settings.values import ProviderSettings

if TYPE_CHECKING:
    from mahavishnu.settings.values import Settings

__all__ = ["check"]

_NOTHING = ProviderSettings({})


def check(settings: Settings) -> None:
    """Refuse a state folder that is a file, checks of unknown repositories, and redirections that lead nowhere.

    Raises:
        SettingError: Any of these.
    """
    _check_state_dir(settings)
    _check_repos_of_checks(settings)
    _check_redirections(settings)


def _check_state_dir(settings: Settings) -> None:
    for folder in (settings.state_dir, *settings.state_dir.parents):
        # os.path answers "no" where Path raises: for a name that is too long, a folder that may not be read.
        if os.path.isdir(folder):
            return
        if os.path.exists(folder):
            raise settings.refuse("state_dir", f"{str(folder)!r} is a file; name a folder")


def _check_repos_of_checks(settings: Settings) -> None:
    known = {repo.name for repo in settings.repos}
    for number, item in enumerate(settings.checks):
        for name in item.repos:
            if name not in known:
                problem = f"check {item.name!r} names a repository {name!r} that is not in [[repos]]"
                raise settings.refuse(f"checks.{number}", problem + nearest(name, known))


def _check_redirections(settings: Settings) -> None:
    for name, table in settings.providers.items():
        if "use" not in table:
            continue
        key = f"providers.{name}.use"
        target = table["use"]
        if not isinstance(target, str) or not target.strip():
            raise settings.refuse(key, "expected the name of another provider")
        if len(table) > 1:
            other = next(option for option in table if option != "use")
            raise settings.refuse(key, f"it redirects to {target!r}, so {other!r} would be ignored; remove one")
        if "use" in settings.providers.get(settings.provider_name(name), _NOTHING):
            raise settings.refuse(key, "the redirections go round in a circle")
