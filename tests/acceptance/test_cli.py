"""The command line as a newcomer uses it: real processes, real git repositories, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

LIMIT_SECONDS = 40

SLOW_APP = """
import time
from pathlib import Path
from mahavishnu import MahavishnuApp

app = MahavishnuApp()


@app.workflow("slow", max_attempts=5)
def slow(number: int, seconds: float = 0.3) -> int:
    time.sleep(seconds)
    with Path("done.txt").open("a") as file:
        file.write(f"{number}\\n")
    return number
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """The two engines that need no server; output as a pipe sees it."""
    monkeypatch.setenv("MAHAVISHNU_PREFECT__ENABLED", "false")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")


def _command(*arguments):
    return [sys.executable, "-m", "mahavishnu", *map(str, arguments)]


def _run(folder, *arguments, code=0):
    answer = subprocess.run(
        _command(*arguments), cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert answer.returncode == code, f"{arguments} exited with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
    return answer


def _json(folder, *arguments, code=0):
    return json.loads(_run(folder, *arguments, "--json", code=code).stdout)


def _until(condition, what):
    """Return the first true value of `condition`, asked again and again for a limited time."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {LIMIT_SECONDS} s"
        time.sleep(0.1)
    return value


@contextlib.contextmanager
def _up(folder, *arguments):
    """Run `up` in the background; yields the process and its log, ends it whatever happens."""
    log = folder / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            _command("up", *arguments), cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _until(lambda: "ready;" in log.read_text() or process.poll() is not None, "the start of `up`")
        assert process.poll() is None, log.read_text()
        yield process, log
    finally:
        children = _descendants(process.pid)
        if process.poll() is None:
            process.kill()
        process.wait(LIMIT_SECONDS)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _descendants(pid):
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found, pending = [], [pid]
    while pending:
        parent = pending.pop()
        fresh = [child for child, its_parent in parents if its_parent == parent]
        found += fresh
        pending += fresh
    return found


def _is_alive(pid):
    listing = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listing.strip()) and not listing.strip().startswith("Z")


@pytest.fixture
def demo(tmp_path):
    """A project as `init --sample-repos` writes it."""
    _run(tmp_path, "init", "demo", "--sample-repos")
    return tmp_path / "demo"


@pytest.fixture
def slow_project(tmp_path):
    """A project with one workflow that takes a while and leaves a line in a file when it is done."""
    (tmp_path / "mahavishnu.toml").write_text('app = "slow_app:app"\n[worker]\nlease_seconds = 2\n')
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    return tmp_path


# --- init ---


def test_init_writes_a_project_with_real_repositories(tmp_path):
    """Settings, an app and three git repositories with two commits each; it says what to do next."""
    said = _run(tmp_path, "init", "demo", "--sample-repos").stdout
    demo = tmp_path / "demo"
    assert "cd demo\n  mahavishnu up" in said
    assert {path.name for path in demo.iterdir()} == {"mahavishnu.toml", "app.py", ".gitignore", "repos"}
    for name in ("alpha", "beta", "gamma"):
        commits = subprocess.run(
            ["git", "-C", demo / "repos" / name, "rev-list", "--count", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert commits.stdout == "2\n"
    assert [repo["name"] for repo in _json(demo, "repos")] == ["alpha", "beta", "gamma"]
    assert all(repo["ok"] for repo in _json(demo, "repos", "check"))


def test_init_says_whether_prefect_is_enabled(tmp_path):
    """Prefect is on in the written settings exactly where it is installed."""
    import importlib.util

    said = _run(tmp_path, "init", "demo").stdout
    text = (tmp_path / "demo" / "mahavishnu.toml").read_text()
    if importlib.util.find_spec("prefect") is None:
        assert "Prefect is not installed" in said
        assert "enabled = false" in text
    else:
        assert "Prefect is installed" in said
        assert "enabled = true" in text


def test_init_never_overwrites_without_force(demo):
    """What is there is named and kept; with --force the project is written anew, its repositories kept."""
    (demo / "app.py").write_text("mine\n")
    said = _run(demo, "init", code=1).stderr
    assert "has mahavishnu.toml, app.py, .gitignore already; nothing was written" in said
    assert (demo / "app.py").read_text() == "mine\n"
    said = _run(demo, "init", "--force", "--sample-repos").stdout
    assert "MahavishnuApp()" in (demo / "app.py").read_text()
    assert said.count("which is there already") == 3


# --- up ---


def test_up_runs_the_sample_project(demo):
    """All that runs is shown with its reason; afterwards the listings tell the same, also as JSON."""
    said = _run(demo, "up", "--for", "8").stdout
    for expected in ("oneiric      started", "apscheduler  started", "state folder:", "it must outlive the process"):
        assert expected in said
    assert "succeeded apscheduler health_check" in said
    assert said.rstrip().endswith("stopped")

    schedules = {it["id"]: it for it in _json(demo, "schedules")}
    upkeep = {"mahavishnu.health", "mahavishnu.metrics", "mahavishnu.retention"}
    assert schedules.keys() == {"health_check", "daily_backup", *upkeep}
    assert schedules["health_check"]["engine"] == "apscheduler"
    assert schedules["daily_backup"]["engine"] == "oneiric"
    assert schedules["daily_backup"]["next_fire_time"].endswith("+00:00")
    assert schedules["daily_backup"]["reasons"]

    runs = _json(demo, "runs", "--task", "app.health_check")
    assert runs
    assert {run["state"] for run in runs} == {"succeeded"}
    assert _json(demo, "runs", "show", runs[0]["id"]) == runs[0]
    assert [queue["queue"] for queue in _json(demo, "queues")] in ([], ["default"])
    assert _json(demo, "dead-letters") == []
    assert _json(demo, "doctor")["problems"] == []


def test_everything_can_be_steered_while_up_runs(demo):
    """Enqueue and wait, run now, pause and resume, work across repositories, dead letters and their redrive."""
    with _up(demo) as (process, log):
        done = _json(demo, "enqueue", "shell", "--set", "command=echo hi", "--label", "by=test", "--wait")
        assert done["run"]["state"] == "succeeded"
        assert done["run"]["result"]["stdout"] == "hi\n"
        assert done["run"]["labels"] == {"by": "test"}

        failed = _json(demo, "enqueue", "shell", "--set", "command=exit 3", "--max-attempts", "1", "--wait", code=1)
        assert "exited with status 3" in failed["run"]["error"]
        parked = _until(lambda: _json(demo, "dead-letters"), "the dead letter")
        assert [letter["id"] for letter in parked] == [failed["job_id"]]
        assert _json(demo, "dead-letters", "show", failed["job_id"])["reason"] == "attempts-exhausted"
        assert _json(demo, "dead-letters", "redrive", "--all")["redriven"] == [failed["job_id"]]
        _until(lambda: _json(demo, "dead-letters"), "the second end of the redriven job")
        assert "deleted 1 dead letter" in _run(demo, "dead-letters", "discard", "--all", "--yes").stdout

        job = _json(demo, "schedules", "run-now", "daily_backup")["job_id"]
        _until(lambda: _json(demo, "runs", "show", job)["state"] == "succeeded", "the backup")
        assert len(list((demo / "backups").glob("*/*.bundle"))) >= 3

        swept = _json(demo, "repos", "run", "code_sweep", "--engine", "oneiric")
        assert swept["state"] == "succeeded"
        assert [len(run["commit_sha"]) for run in swept["runs"]] == [40, 40, 40]
        assert "error: engine 'prefect': it is not enabled" in _run(demo, "repos", "run", "code_sweep", code=1).stderr

        assert "is paused" in _run(demo, "schedules", "pause", "health_check").stdout
        assert _json(demo, "schedules", "show", "health_check")["next_fire_times"] == []
        assert "is active, next" in _run(demo, "schedules", "resume", "health_check").stdout
        assert len(_json(demo, "schedules", "next", "health_check", "--count", "3")) == 3

        health = {it["engine"]: it for it in _json(demo, "doctor")["engines"]}
        assert {name: it["ready"] for name, it in health.items()} == {
            "apscheduler": True,
            "oneiric": True,
            "prefect": False,
        }
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_SECONDS) == 0
        assert "stopping: " in log.read_text()


def test_in_process_work_across_repositories_needs_no_other_process(demo):
    """`repos run --engine apscheduler` runs in the command itself, and can be resumed for what failed."""
    (demo / "repos" / "beta" / ".git").rename(demo / "repos" / "beta" / "moved")
    first = _json(demo, "repos", "run", "code_sweep", "--engine", "apscheduler", code=1)
    assert {run["repo"]: run["state"] for run in first["runs"]} == {
        "alpha": "succeeded",
        "beta": "failed",
        "gamma": "succeeded",
    }
    (demo / "repos" / "beta" / "moved").rename(demo / "repos" / "beta" / ".git")
    again = _json(demo, "repos", "run", "code_sweep", "--engine", "apscheduler", "--resume", first["id"])
    assert again["state"] == "succeeded"
    jobs = {run["repo"]: run["job_id"] for run in first["runs"]}
    assert [run["repo"] for run in again["runs"] if run["job_id"] != jobs[run["repo"]]] == ["beta"]


def test_second_up_on_one_state_folder_is_refused(demo):
    """It says which process holds the folder, and changes nothing."""
    with _up(demo) as (process, _):
        said = _run(demo, "up", code=1).stderr
        assert f"another `mahavishnu up` runs on this state folder (process {process.pid})" in said
        assert process.poll() is None


def test_second_signal_hurries(slow_project):
    """The first waits for what runs and says so; the second hands it back, and nothing is lost."""
    with _up(slow_project) as (process, log):
        job = _json(slow_project, "enqueue", "slow", "--set", "number=1", "--set", "seconds=25")["job_id"]
        _until(lambda: _json(slow_project, "runs", "show", job)["state"] == "running", "the start of the job")
        process.send_signal(signal.SIGINT)
        _until(lambda: "waiting for 1 running job" in log.read_text(), "the first answer")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_SECONDS) == 0
        assert time.monotonic() - began < 20
        assert "again: running work is handed back" in log.read_text()
    assert _json(slow_project, "queues")[0]["ready"] == 1


@pytest.mark.timeout(150)
def test_kill_of_up_leaves_no_children_and_loses_nothing(slow_project):
    """After `kill -9` its workers end by themselves; a second `up` starts at once, and every job gets done."""
    with _up(slow_project) as (process, _):
        jobs = [_json(slow_project, "enqueue", "slow", "--set", f"number={number}")["job_id"] for number in range(12)]
        _until((slow_project / "done.txt").exists, "the first job's end")
        children = _descendants(process.pid)
        assert children
        process.kill()
        process.wait(LIMIT_SECONDS)
        _until(lambda: not any(map(_is_alive, children)), "the end of the children")
    with _up(slow_project):
        _until(lambda: len(_done(slow_project)) == len(jobs), "the end of all jobs")
        states = Counter(_json(slow_project, "runs", "show", job)["state"] for job in jobs)
        assert states == {"succeeded": len(jobs)}


def _done(folder):
    return set((folder / "done.txt").read_text().split()) if (folder / "done.txt").exists() else set()


def test_interrupted_start_leaves_nothing(slow_project):
    """SIGTERM while `on_start` callbacks run rolls the start back."""
    app = (slow_project / "slow_app.py").read_text()
    callback = "import asyncio\n\n@app.on_start\nasync def wait(scheduler):\n    print('waiting', flush=True)\n"
    (slow_project / "slow_app.py").write_text(f"{app}{callback}    await asyncio.sleep(60)\n")
    process = subprocess.Popen(_command("up"), cwd=slow_project, stdout=subprocess.PIPE, text=True)
    with process:
        _until(lambda: process.stdout.readline().strip() == "waiting", "the callback")
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
        assert process.wait(LIMIT_SECONDS) == 130
    assert "SIGTERM: stopping what has started" in said
    assert "apscheduler  stopped" in said


def test_failing_on_start_is_told_with_the_line_of_the_app(slow_project):
    """An exception of the app's own code is not called a bug of ours."""
    with (slow_project / "slow_app.py").open("a") as file:
        file.write("\n\n@app.on_start\nasync def fail(scheduler):\n    raise ValueError('odd')\n")
    answer = _run(slow_project, "up", code=1)
    line = len((slow_project / "slow_app.py").read_text().splitlines())
    assert f"error: ValueError: odd (raised by {slow_project}/slow_app.py:{line}; --traceback" in answer.stderr
    assert "apscheduler  stopped" in answer.stdout


# --- single processes ---


def test_worker_and_scheduler_alone(slow_project):
    """Without `up`, a scheduler and two worker processes do the same; SIGTERM ends them in an orderly way."""
    worker = subprocess.Popen(_command("worker", "--processes", "2", "--concurrency", "4"), cwd=slow_project)
    try:
        waited = _json(slow_project, "enqueue", "slow", "--set", "number=7", "--set", "seconds=0", "--wait")
        assert waited["run"]["result"] == 7
        said = _run(slow_project, "scheduler", "--for", "1").stdout
        assert "apscheduler  started" in said
        assert "worker " not in said
        children = _until(lambda: [pid for pid in _descendants(worker.pid) if _is_alive(pid)], "the children")
        worker.terminate()
        assert worker.wait(LIMIT_SECONDS) == 0
        assert not any(map(_is_alive, children))
    finally:
        worker.kill()
        worker.wait()


def test_follow_prints_runs_as_they_end(demo):
    """`runs --follow --json` is a stream of one object per line, ended by Ctrl-C with 130."""
    follower = subprocess.Popen(
        _command("runs", "--follow", "--json", "--engine", "oneiric"),
        cwd=demo,
        stdout=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background lets them inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        with _up(demo):
            _run(demo, "enqueue", "shell", "--set", "command=echo followed", "--wait")
            line = json.loads(follower.stdout.readline())
        assert line["task"] == "shell"
        assert line["result"]["stdout"] == "followed\n"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(LIMIT_SECONDS) == 130
    finally:
        follower.kill()
        follower.wait(LIMIT_SECONDS)
        follower.stdout.close()


# --- wrong use and broken surroundings ---


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["enqueue", "shel"], 1, "workflow 'shel' is not registered; did you mean 'shell'?"),
        (["enqueue", "shell"], 1, "context of workflow 'shell'"),
        (["enqueue", "shell", "--set", "comand=x"], 1, "did you mean 'command'?"),
        (["enqueue", "shell", "--set", "command=x", "--provider", "sqlit"], 1, "did you mean 'sqlite'?"),
        (["enqueue", "shell", "--set", "command=x", "--at", "2026-03-08T02:30:00"], 2, "offset"),
        (["enqueue", "shell", "--set", "command=x", "--priority", "12"], 2, "0<=x<=9"),
        (["schedules", "pause", "nightly"], 1, "schedule 'nightly' does not exist"),
        (["schedules", "remove", "nightly"], 2, "--yes"),
        (["runs", "show", "x"], 1, "run 'x' does not exist"),
        (["runs", "cancel", "x"], 1, "run 'x' does not exist"),
        (["dead-letters", "show", "x"], 1, "dead letter 'x' does not exist"),
        (["repos", "run", "code_sweep", "--repos", "alfa", "--engine", "oneiric"], 1, "did you mean 'alpha'?"),
        (["repos", "run", "code_sweep", "--engine", "oneiric"], 1, "no worker is running"),
        (["deployments"], 1, "engine 'prefect': it is not enabled"),
        (["up", "--app", "app:aap"], 1, "did you mean 'app'?"),
        (["up", "--app", "aap:app"], 1, "there is no module 'aap'"),
        (["worker", "--provider", "memory"], 1, "its jobs never leave the process that made them"),
    ],
)
def test_wrong_input_is_one_clear_line(demo, arguments, code, hint):
    """What, where, what to do; exit code 1 where it failed, 2 where it was called wrongly."""
    said = _run(demo, *arguments, code=code).stderr
    assert hint in said
    assert "Traceback" not in said
    assert code == 2 or said.startswith("error: ")


def test_doctor_finds_what_is_broken(demo):
    """A missing repository, an app that cannot be imported: problems come first, and the exit code is 1."""
    (demo / "repos" / "gamma").rename(demo / "repos" / "delta")
    (demo / "app.py").write_text("import nothing_like_this\n")
    said = _run(demo, "doctor", code=1).stdout
    assert said.startswith("problem: app 'app:app': importing it failed")
    assert "repository 'gamma'" in said
    found = _json(demo, "doctor", code=1)
    assert found["ok"] is False
    assert len(found["problems"]) == 2


def test_looking_needs_no_app_and_writes_nothing_first(tmp_path):
    """In an empty folder the listings are empty, and `doctor` leaves no state folder behind."""
    assert _json(tmp_path, "doctor")["ok"] is True
    assert list(tmp_path.iterdir()) == []
    for listing in ("schedules", "runs", "queues", "dead-letters", "repos"):
        assert _json(tmp_path, listing) == []


def test_state_folder_that_cannot_be_used_is_one_clear_error(demo):
    """A file in its place is told with its path."""
    Path(demo / ".mahavishnu").write_text("in the way")
    said = _run(demo, "runs", code=1).stderr
    assert said.startswith("error: ")
    assert ".mahavishnu" in said
    assert said.count("\n") == 1
