"""The sweep runs what suits a repository and reports what each check said."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from mahavishnu.errors import ConfigurationError
from mahavishnu.workflows.builtin.checks import Check, suggested_checks
from mahavishnu.workflows.builtin.code_sweep import code_sweep
from mahavishnu.workflows.repos import Repo


def named(report, name):
    """Return what the check called `name` said."""
    return next(check for check in report["checks"] if check["name"] == name)


async def test_the_report_describes_repository_and_checks(make_repo, git) -> None:
    """Commit, cleanliness, and per check status, output and duration; all of it plain data."""
    folder = make_repo("api")
    report = await code_sweep(
        Repo(name="the-api", path=folder),
        [Check(name="look", command="cat README; echo note >&2"), Check(name="words", command=("test", "a", "=", "b"))],
    )
    assert (report["repository"], report["path"]) == ("the-api", str(folder))
    assert report["commit"] == git(folder, "rev-parse", "HEAD").strip()
    assert (report["dirty"], report["passed"], report["failed"]) == (False, False, ["words"])
    look, words = report["checks"]
    assert (look["state"], look["exit_code"], look["stdout"], look["stderr"]) == (
        "passed",
        0,
        "this is api\n",
        "note\n",
    )
    assert 0 < look["duration_seconds"] < 30
    assert (words["state"], words["exit_code"], words["command"]) == ("failed", 1, "test a = b")
    assert msgspec.json.decode(msgspec.json.encode(report)) == report


async def test_changes_make_it_dirty(make_repo) -> None:
    """Uncommitted and new files count."""
    folder = make_repo("api")
    (folder / "new").write_text("x")
    report = await code_sweep(str(folder), [])
    assert report["dirty"] is True
    assert report["passed"] is True


async def test_only_checks_meant_for_the_repository_run(make_repo) -> None:
    """Names and tags restrict a check, each to repositories that have one of them."""
    checks = [
        Check(name="any", command="true"),
        Check(name="mine", command="true", repos=("web", "api")),
        Check(name="other", command="false", repos=("web",)),
        Check(name="tagged", command="true", tags=("live", "x")),
        Check(name="untagged", command="false", tags=("y",)),
        Check(name="both", command="false", repos=("api",), tags=("y",)),
    ]
    report = await code_sweep(Repo(name="api", path=make_repo("api"), tags=("x",)), checks)
    assert [check["name"] for check in report["checks"]] == ["any", "mine", "tagged"]


async def test_allowed_failures_do_not_count(make_repo) -> None:
    """The check is reported as failed, the sweep passes."""
    report = await code_sweep(str(make_repo("api")), [Check(name="audit", command="exit 3", allow_failure=True)])
    assert (report["checks"][0]["state"], report["checks"][0]["allowed"]) == ("failed", True)
    assert (report["passed"], report["failed"]) == (True, [])


async def test_a_check_that_takes_too_long_is_stopped(make_repo) -> None:
    """The timeout is its own state, counts as failure, and keeps the output so far."""
    check = Check(name="slow", command="echo begun; sleep 300", timeout=timedelta(seconds=0.3))
    report = await code_sweep(str(make_repo("api")), [check])
    assert report["failed"] == ["slow"]
    assert report["checks"][0]["state"] == "timed_out"
    assert report["checks"][0]["stdout"] == "begun\n"
    assert report["checks"][0]["reason"] == "stopped after its 0.3 s"


@pytest.mark.parametrize(
    "command", [("nosuchtool", "check"), "nosuchtool check", "A=b nosuchtool", "cd . && nosuchtool"]
)
async def test_a_missing_tool_is_skipped(make_repo, command) -> None:
    """A program that is not installed says nothing about the code."""
    report = await code_sweep(str(make_repo("api")), [Check(name="tool", command=command)])
    assert report["passed"]
    assert (report["checks"][0]["state"], report["checks"][0]["reason"]) == ("skipped", "nosuchtool not installed")


@pytest.mark.parametrize("command", ["exit 127", "echo 'sh: not found' >&2; exit 127", ("sh", "-c", "exit 127")])
async def test_status_127_alone_is_a_failure(make_repo, command) -> None:
    """Only a program that is really missing makes a check skipped."""
    report = await code_sweep(str(make_repo("api")), [Check(name="tool", command=command)])
    assert report["checks"][0]["state"] == "failed"


async def test_the_repositorys_own_tools_come_first(make_repo) -> None:
    """A program in the repository's virtual environment is found before the system's."""
    folder = make_repo("api")
    tool = folder / ".venv" / "bin" / "nosuchtool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    report = await code_sweep(str(folder), [Check(name="tool", command=("nosuchtool",))])
    assert report["checks"][0]["stdout"] == "mine\n"


async def test_a_tool_that_cannot_run_is_a_failure(make_repo) -> None:
    """A file that may not be executed is reported with the reason, and the other checks still run."""
    folder = make_repo("api")
    (folder / "tool").write_text("x")
    report = await code_sweep(str(folder), [Check(name="tool", command=("./tool",)), Check(name="b", command="true")])
    assert named(report, "tool")["state"] == "failed"
    assert "may not be executed" in named(report, "tool")["reason"]
    assert named(report, "b")["state"] == "passed"


async def test_suggested_checks_run_and_leave_no_trace(make_repo, commit, git) -> None:
    """A Python repository gets git fsck, a syntax check and ruff; afterwards it is as clean as before."""
    folder = make_repo("api")
    commit(folder, "good.py", "x = 1\n")
    report = await code_sweep(str(folder))
    assert [check["name"] for check in report["checks"]] == ["git-fsck", "python-syntax", "ruff"]
    assert named(report, "git-fsck")["state"] == "passed"
    assert named(report, "python-syntax")["state"] == "passed"
    assert git(folder, "status", "--porcelain", "--ignored") == ""


async def test_the_syntax_check_finds_and_names_the_file(make_repo, commit) -> None:
    """A file that does not compile is named; one deleted from the tree, or in another encoding, is no problem."""
    folder = make_repo("api")
    (folder / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    (folder / "gone.py").write_text("x = 1\n")
    commit(folder, "bad file.py", "def (:\n")
    (folder / "gone.py").unlink()
    check = named(await code_sweep(str(folder)), "python-syntax")
    assert check["state"] == "failed"
    assert check["stderr"].startswith("bad file.py: ")
    assert check["stderr"].count("\n") == 1


async def test_a_damaged_repository_fails_its_fsck(make_repo) -> None:
    """`git fsck` is always run, and its verdict counts."""
    folder = make_repo("api")
    for item in (folder / ".git" / "objects").glob("??/*"):
        item.chmod(0o600)
        item.write_bytes(b"broken")
    report = await code_sweep(str(folder))
    assert "git-fsck" in report["failed"]


async def test_bare_and_empty_repositories_are_swept(make_repo, git, tmp_path) -> None:
    """Without a working tree there is no dirt, without a commit no id."""
    git(tmp_path, "clone", "--quiet", "--bare", str(make_repo("api")), "bare.git")
    bare = await code_sweep(str(tmp_path / "bare.git"))
    assert (bare["dirty"], [check["name"] for check in bare["checks"]], bare["passed"]) == (None, ["git-fsck"], True)
    empty = await code_sweep(str(make_repo("new", empty=True)))
    assert (empty["commit"], empty["dirty"]) == (None, False)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([], ["git-fsck"]),
        (["pyproject.toml"], ["git-fsck", "python-syntax", "ruff"]),
        (["ruff.toml"], ["git-fsck", "ruff"]),
        (["package.json"], ["git-fsck"]),
        (["package.json", "node_modules"], ["git-fsck", "npm-lint"]),
        (["Cargo.toml", "go.mod", "run.sh"], ["git-fsck", "cargo-fmt", "gofmt", "shellcheck"]),
    ],
)
def test_what_is_suggested_depends_on_the_files(tmp_path, files, names) -> None:
    """Each language's marker brings its checks, and only them."""
    for file in files:
        (tmp_path / file).touch()
    assert [check.name for check in suggested_checks(tmp_path)] == names


async def test_what_is_no_repository_is_refused(tmp_path) -> None:
    """The sweep of a plain folder fails with the path and the remedy."""
    with pytest.raises(ConfigurationError, match="is not a git repository"):
        await code_sweep(str(tmp_path))


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        ([Check(name="a", command="true"), Check(name="a", command="false")], "two checks are called 'a'"),
        ([Check(name="a", command="")], "'a' has no command"),
        ([Check(name="a", command=())], "'a' has no command"),
    ],
)
async def test_unusable_checks_are_refused(make_repo, checks, reason) -> None:
    """Checks that could not be told apart, or run, are found before the first one runs."""
    with pytest.raises(ConfigurationError, match=reason):
        await code_sweep(str(make_repo("api")), checks)
