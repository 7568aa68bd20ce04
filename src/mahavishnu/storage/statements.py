"""SQL kept as one `.sql` file per statement, read once."""

from __future__ import annotations

from importlib import resources

__all__ = ["load_statements"]


def load_statements(package: str, folder: str = "sql") -> dict[str, str]:
    """Return the text of every `.sql` file of a package's folder by its name without the ending.

    Args:
        package: The importable package that has the folder.
        folder: The folder's name, `sql` by default.

    Raises:
        FileNotFoundError: The package has no such folder: the installation is incomplete.
    """
    files = resources.files(package).joinpath(folder).iterdir()
    return {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8").strip()
        for file in files
        if file.name.endswith(".sql")
    }
