"""The catalogue knows its repositories, and what is none."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mahavishnu.errors import ConfigurationError
from mahavishnu.workflows.repos import Repo, RepoCatalogue, commit_sha, verify

API = Repo(name="api", path=Path("/srv/api"), tags=("python", "live"), role="service")
WEB = Repo(name="web", path=Path("/srv/web"), tags=("live",), role="site")
OLD = Repo(name="old", path=Path("/srv/old"))


def test_a_repo_is_a_path() -> None:
    """A repository goes wherever a path does, and into JSON."""
    assert os.fspath(API) == "/srv/api"
    assert Path(API) / "x" == Path("/srv/api/x")
    plain = msgspec.to_builtins(API, enc_hook=str)
    assert plain == {"name": "api", "path": "/srv/api", "tags": ("python", "live"), "role": "service"}


def test_a_path_becomes_a_repo_named_after_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and paths are made absolute; `.git` of a bare repository is no part of the name."""
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.chdir("/")
    assert Repo.at("~/code/api") == Repo(name="api", path=Path("/home/u/code/api"))
    assert Repo.at(Path("srv/web.git")) == Repo(name="web", path=Path("/srv/web.git"))
    assert Repo.at("/srv/api/.git").name == "api"
    assert Repo.at(API) is API


@pytest.mark.parametrize(
    ("tag", "role", "names"),
    [
        (None, None, ["api", "web", "old"]),
        ("live", None, ["api", "web"]),
        (None, "site", ["web"]),
        ("python", "service", ["api"]),
        ("python", "site", []),
    ],
)
def test_selection_by_tag_and_role(tag: str | None, role: str | None, names: list[str]) -> None:
    """Both restrict, `None` does not, and the order stays."""
    assert [repo.name for repo in RepoCatalogue([API, WEB, OLD]).select(tag=tag, role=role)] == names


def test_names_are_unique() -> None:
    """Two repositories of one name are refused with both paths."""
    twin = Repo(name="api", path=Path("/other"))
    with pytest.raises(ConfigurationError, match=r"2 repositories are called 'api' \(/srv/api, /other\)"):
        RepoCatalogue([API, twin, WEB])


def test_lookup_by_name() -> None:
    """A known name gives its repository, an unknown one the nearest."""
    catalogue = RepoCatalogue([API, WEB])
    assert catalogue.get("web") is WEB
    assert len(catalogue) == 2
    assert list(RepoCatalogue()) == []
    with pytest.raises(ConfigurationError, match="'wep' is not configured; did you mean 'web'"):
        catalogue.get("wep")


def test_ordinary_bare_and_linked_repositories_verify(make_repo, git, tmp_path, monkeypatch) -> None:
    """A working tree, an empty repository, a bare one and a worktree all count, whatever GIT_DIR says."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    folder = make_repo("one")
    git(tmp_path, "clone", "--quiet", "--bare", str(folder), "bare.git")
    git(folder, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    for path in (folder, make_repo("empty", empty=True), tmp_path / "bare.git", tmp_path / "linked"):
        verify(Repo.at(path))


def test_what_is_no_repository_is_refused_with_the_remedy(make_repo, tmp_path) -> None:
    """A missing path, a file, a plain folder and a folder inside a repository are told apart."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("x")
    inside = make_repo("one") / "sub" / "deeper"
    inside.mkdir(parents=True)
    for path, problem in (
        (tmp_path / "gone", r"gone does not exist; correct its path in \[\[repos\]\]"),
        (tmp_path / "file", "file is not a folder"),
        (tmp_path / "plain", "plain is not a git repository .*; correct its path, or run `git init`"),
        (inside, f"is a folder inside the repository {tmp_path / 'one'}; give that path"),
    ):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            verify(Repo(name="the-name", path=path))
        assert "repository 'the-name' at " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_git_is_named(make_repo, monkeypatch) -> None:
    """Without git the error says so, and not that the repository is at fault."""
    repo = Repo.at(make_repo("one"))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigurationError, match="git is not installed"):
        verify(repo)


async def test_the_commit_is_that_of_head(make_repo, commit) -> None:
    """The id of the commit checked out, `None` before the first commit."""
    folder = make_repo("one", empty=True)
    assert await commit_sha(Repo.at(folder)) is None
    made = commit(folder, "a", "1")
    assert await commit_sha(Repo.at(folder)) == made
