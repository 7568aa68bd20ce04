"""Backups can be restored, are whole or absent, and one bad repository spoils no other."""

# ruff: noqa: ASYNC240  # looking at a small local file needs no thread

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from mahavishnu.errors import BackupFailedError, ConfigurationError, WorkflowError
from mahavishnu.workflows.builtin.bundle import digest_bundle
from mahavishnu.workflows.builtin.daily_backup import daily_backup
from mahavishnu.workflows.registry import Workflow
from mahavishnu.workflows.repos import Repo


async def back_up(repo, target, keep=7):
    """Back up one repository and return its outcome."""
    return (await daily_backup([repo], str(target), keep))["repositories"][0]


def bundles(folder: Path) -> list[str]:
    """Return the names of the bundles in `folder`, oldest first."""
    return sorted(path.name for path in folder.glob("*.bundle"))


async def test_a_restored_clone_equals_the_original(make_repo, commit, git, tmp_path) -> None:
    """Branches, tags, notes, the stash and HEAD come back from the bundle, and every object is sound."""
    folder = make_repo("api")
    git(folder, "branch", "side")
    git(folder, "tag", "--annotate", "v1", "--message", "first")
    sha = commit(folder, "b", "2")
    git(folder, "notes", "add", "--message", "a note")
    (folder / "b").write_text("unfinished")
    git(folder, "stash", "--quiet")
    outcome = await back_up(str(folder), tmp_path / "target")
    git(tmp_path, "clone", "--quiet", "--mirror", outcome["bundle"], "restored.git")
    restored = tmp_path / "restored.git"
    assert git(restored, "show-ref", "--head") == git(folder, "show-ref", "--head")
    assert git(restored, "rev-list", "--all", "--objects") == git(folder, "rev-list", "--all", "--objects")
    git(restored, "fsck", "--full", "--strict")
    git(tmp_path, "clone", "--quiet", outcome["bundle"], "worked")
    assert git(tmp_path / "worked", "rev-parse", "HEAD").strip() == sha
    assert (tmp_path / "worked" / "b").read_text() == "2"


async def test_the_outcome_describes_the_bundle(make_repo, commit, tmp_path) -> None:
    """Path, size, commit and checksum are those of the file; nothing else is left in the folder."""
    folder = make_repo("api")
    sha = commit(folder, "b", "2")
    report = await daily_backup([str(folder)], str(tmp_path / "deep" / "target"))
    (outcome,) = report["repositories"]
    bundle = Path(outcome["bundle"])
    assert bundle.parent == tmp_path / "deep" / "target" / "api"
    assert bundle.name.startswith("api-2")
    assert bundle.name.endswith(f"Z-{sha[:12]}.bundle")
    assert (outcome["state"], outcome["sha"], outcome["error"]) == ("saved", sha, None)
    assert outcome["sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert outcome["bytes"] == bundle.stat().st_size
    assert {path.name for path in bundle.parent.iterdir()} == {bundle.name, ".lock"}
    assert msgspec.json.decode(msgspec.json.encode(report)) == report


async def test_the_newest_stay(make_repo, tmp_path) -> None:
    """Rotation keeps `keep` bundles and touches nothing else in the folder."""
    folder = make_repo("api")
    stranger = tmp_path / "target" / "api" / "api-important.bundle"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("by hand")
    made = [Path((await back_up(str(folder), tmp_path / "target", 2))["bundle"]).name for _ in range(3)]
    assert bundles(stranger.parent) == sorted([*made[1:], stranger.name])
    last = await back_up(str(folder), tmp_path / "target", 1)
    assert last["rotated"] == made[1:]
    assert bundles(stranger.parent) == sorted([Path(last["bundle"]).name, stranger.name])


async def test_a_clock_set_back_does_not_cost_the_new_bundle(make_repo, tmp_path) -> None:
    """Bundles dated in the future are rotated before the one just made."""
    folder = make_repo("api")
    first = Path((await back_up(str(folder), tmp_path / "t"))["bundle"])
    future = first.with_name("api-29990101T000000.000Z-0123456789ab.bundle")
    first.rename(future)
    outcome = await back_up(str(folder), tmp_path / "t", 1)
    assert outcome["rotated"] == [future.name]
    assert Path(outcome["bundle"]).exists()


async def test_a_failed_backup_deletes_nothing(make_repo, tmp_path) -> None:
    """When the new bundle cannot be made the old ones stay, and no half one appears."""
    folder = make_repo("api")
    first = await back_up(str(folder), tmp_path / "t", 1)
    for pack in (folder / ".git" / "objects").glob("??/*"):
        pack.chmod(0o600)
        pack.write_bytes(b"broken")
    with pytest.raises(BackupFailedError, match="api: git failed in"):
        await back_up(str(folder), tmp_path / "t", 1)
    kept = Path(first["bundle"])
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, ".lock"}


async def test_a_bundle_damaged_while_it_was_written_never_gets_its_name(make_repo, tmp_path, monkeypatch) -> None:
    """A disk that changes a byte behind git's back costs neither the old bundle nor leaves the bad one."""
    folder = make_repo("api")
    first = Path((await back_up(str(folder), tmp_path / "t", 1))["bundle"])
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\n{shutil.which("git")} "$@" || exit\n'
        'for file; do case $file in *.partial) case $* in *create*) printf x >>"$file";; esac;; esac; done\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    with pytest.raises(BackupFailedError, match=r"damaged: its checksum is wrong"):
        await back_up(str(folder), tmp_path / "t", 1)
    assert {path.name for path in first.parent.iterdir()} == {first.name, ".lock"}


async def test_one_bad_repository_spoils_no_other(make_repo, tmp_path) -> None:
    """The others are saved, and the failure lists each that is not, with its reason."""
    (tmp_path / "plain").mkdir()
    repos = [str(tmp_path / "plain"), Repo(name="gone", path=tmp_path / "none"), str(make_repo("api"))]
    with pytest.raises(BackupFailedError) as caught:
        await daily_backup(repos, str(tmp_path / "target"))
    assert set(caught.value.problems) == {"plain", "gone"}
    assert "plain: repository 'plain' at" in str(caught.value)
    assert "is not a git repository" in str(caught.value)
    assert "gone: repository 'gone' at" in str(caught.value)
    assert caught.value.retryable
    states = [outcome["state"] for outcome in caught.value.report["repositories"]]
    assert states == ["failed", "failed", "saved"]
    assert len(bundles(tmp_path / "target" / "api")) == 1


async def test_an_empty_repository_is_an_outcome_of_its_own(make_repo, tmp_path) -> None:
    """Nothing is committed, so nothing is saved, and nothing has failed."""
    outcome = await back_up(str(make_repo("new", empty=True)), tmp_path / "target")
    assert (outcome["state"], outcome["bundle"], outcome["error"]) == ("empty", None, None)
    assert not (tmp_path / "target").exists()


async def test_branches_count_although_head_points_nowhere(make_repo, git, tmp_path) -> None:
    """A repository whose HEAD names a branch not born yet is saved by its other branches."""
    folder = make_repo("api")
    sha = git(folder, "rev-parse", "HEAD").strip()
    git(folder, "symbolic-ref", "HEAD", "refs/heads/unborn")
    outcome = await back_up(str(folder), tmp_path / "target")
    assert (outcome["state"], outcome["sha"]) == ("saved", sha)


async def test_bare_repositories_and_worktrees_are_saved(make_repo, git, tmp_path) -> None:
    """Both are repositories like any other."""
    folder = make_repo("api")
    git(tmp_path, "clone", "--quiet", "--bare", str(folder), "bare.git")
    git(folder, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    report = await daily_backup([str(tmp_path / "bare.git"), str(tmp_path / "linked")], str(tmp_path / "t"))
    assert [outcome["state"] for outcome in report["repositories"]] == ["saved", "saved"]
    assert (tmp_path / "t" / "bare").is_dir()


async def test_a_shallow_clone_is_refused(make_repo, commit, git, tmp_path) -> None:
    """A bundle of it could not be restored, so none is made."""
    commit(make_repo("api"), "b", "2")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path / 'api'}", "shallow")
    with pytest.raises(BackupFailedError, match=r"is a shallow clone .* `git fetch --unshallow`"):
        await back_up(str(tmp_path / "shallow"), tmp_path / "target")


async def test_repositories_of_sha256_are_saved(git, commit, tmp_path) -> None:
    """The checksum of the pack is read in the repository's own hash."""
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "modern")
    commit(tmp_path / "modern", "a", "1")
    outcome = await back_up(str(tmp_path / "modern"), tmp_path / "target")
    assert len(outcome["sha"]) == 64
    assert outcome["state"] == "saved"


async def test_damage_on_the_disk_is_noticed(make_repo, tmp_path) -> None:
    """One flipped bit in the pack makes the check fail, wherever it is."""
    bundle = Path((await back_up(str(make_repo("api")), tmp_path / "target"))["bundle"])
    content = bytearray(bundle.read_bytes())
    start = content.index(b"PACK")
    for place in (start + 12, (start + len(content)) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        bundle.write_bytes(damaged)
        with pytest.raises(WorkflowError, match="is damaged: its checksum is wrong"):
            digest_bundle(bundle)
    bundle.write_bytes(content[:-30])
    with pytest.raises(WorkflowError, match="damaged"):
        digest_bundle(bundle)


async def test_runs_on_one_repository_wait_for_each_other(make_repo, tmp_path) -> None:
    """While another process holds the lock nothing is written; when it lets go the backup proceeds."""
    folder = make_repo("api")
    place = tmp_path / "t" / "api"
    place.mkdir(parents=True)
    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = asyncio.create_task(back_up(str(folder), tmp_path / "t"))
    done, _ = await asyncio.wait([waiting], timeout=0.4)
    assert not done
    assert [path.name for path in place.iterdir()] == [".lock"]
    os.close(descriptor)
    assert (await asyncio.wait_for(waiting, 20))["state"] == "saved"


async def test_concurrent_runs_all_succeed(make_repo, tmp_path) -> None:
    """Four at once leave exactly the bundles to be kept, each whole."""
    folder = str(make_repo("api"))
    await asyncio.gather(*(back_up(folder, tmp_path / "t", 3) for _ in range(4)))
    left = bundles(tmp_path / "t" / "api")
    assert len(left) == 3
    for name in left:
        digest_bundle(tmp_path / "t" / "api" / name)


async def test_a_cancelled_run_leaves_nothing_behind(make_repo, tmp_path) -> None:
    """Cancelled while it waits for the lock, it frees what it holds and the next run gets through."""
    folder = make_repo("api")
    place = tmp_path / "t" / "api"
    place.mkdir(parents=True)
    (place / ".api-20200101T000000.000Z-0123.bundle.partial").write_text("of a killed run")
    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = asyncio.create_task(back_up(str(folder), tmp_path / "t"))
    await asyncio.wait([waiting], timeout=0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.close(descriptor)
    outcome = await asyncio.wait_for(back_up(str(folder), tmp_path / "t"), 20)
    assert {path.name for path in place.iterdir()} == {Path(outcome["bundle"]).name, ".lock"}


async def test_names_cannot_lead_out_of_the_target(make_repo, tmp_path) -> None:
    """A name with slashes or dots becomes one step of a path."""
    for name, step in (("../../evil", "_.._evil"), ("org/api", "org_api"), ("..", "_")):
        folder = make_repo(f"in/{step}")
        outcome = await back_up(Repo(name=name, path=folder), tmp_path / "target")
        assert Path(outcome["bundle"]).parent == tmp_path / "target" / step


async def test_two_repositories_may_not_share_a_folder(make_repo, tmp_path) -> None:
    """Equal names are refused before anything is written; one repository given twice is saved once."""
    one, two = make_repo("x/api"), make_repo("y/api")
    with pytest.raises(ConfigurationError, match="2 repositories would use the folder 'api'"):
        await daily_backup([str(one), str(two)], str(tmp_path / "t"))
    assert not (tmp_path / "t").exists()
    assert len((await daily_backup([str(one), Repo.at(one)], str(tmp_path / "t")))["repositories"]) == 1


async def test_at_least_one_must_stay(tmp_path) -> None:
    """`keep=0` would delete every backup, and is refused."""
    with pytest.raises(ConfigurationError, match="keep is 0"):
        await daily_backup([], str(tmp_path), 0)


async def test_an_unusable_target_is_a_clear_failure(make_repo, tmp_path) -> None:
    """A target that is a file is reported for the repository, naming the path."""
    (tmp_path / "target").write_text("a file")
    with pytest.raises(BackupFailedError, match=r"api: .*target"):
        await back_up(str(make_repo("api")), tmp_path / "target")


def test_contexts_of_paths_and_repositories_fit() -> None:
    """Registered, it takes paths and catalogue entries side by side."""
    workflow = Workflow.of("daily_backup", daily_backup)
    bound = workflow.bind({"repos": ["/a", {"name": "b", "path": "/b"}], "target": Path("/backups")})
    assert bound == {"repos": ["/a", Repo(name="b", path=Path("/b"))], "target": "/backups"}
