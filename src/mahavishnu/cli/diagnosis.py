"""What `doctor` looks at: each part is looked at on its own, so that one that is broken hides no other."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mahavishnu.cli.root import DISTRIBUTION
from mahavishnu.clock import SYSTEM_CLOCK
from mahavishnu.engines.base import EngineHealth
from mahavishnu.errors import MahavishnuError
from mahavishnu.history.registry import LEDGER_FILE
from mahavishnu.model.engine import EngineName
from mahavishnu.scheduler.app import MahavishnuApp
from mahavishnu.scheduler.presence import PRESENT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from mahavishnu.cli.session import Session
    from mahavishnu.history.store import ProcessInfo
    from mahavishnu.settings import Settings

__all__ = ["Diagnosis", "diagnose"]

_LEAST_FREE_BYTES = 200_000_000
_GIT_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        problems: What does not work and what to do about it, in words.
        engines: How each engine is.
        processes: Schedulers and workers that reported themselves lately.
        facts: By group and name, what else there is to know.
        settings: Every setting with where it was given.
    """

    problems: list[str] = field(default_factory=list[str])
    engines: list[EngineHealth] = field(default_factory=list[EngineHealth])
    processes: list[ProcessInfo] = field(default_factory=list["ProcessInfo"])
    facts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    settings: list[dict[str, str]] = field(default_factory=list[dict[str, str]])


async def diagnose(session: Session, settings: Settings) -> Diagnosis:
    """Look at everything; changes nothing, and makes no state folder where there is none.

    Args:
        session: Finds the app.
        settings: The settings as they were read.
    """
    from mahavishnu.settings import describe

    found = Diagnosis(settings=[dict(it._asdict()) for it in describe(settings)])
    app = _app(session, settings, found)
    _look_at_system(found)
    _look_at_state_folder(app.settings, found)
    await _look_at_repositories(app, found)
    try:
        await _look_at_processes(app, found)
        await _look_at_engines(app, found)
    finally:
        await app.runtime.close()
    return found


def _app(session: Session, settings: Settings, found: Diagnosis) -> MahavishnuApp:
    facts: dict[str, Any] = {"settings file": str(settings.source or "none found"), "app": settings.app or "none named"}
    found.facts["project"] = facts
    try:
        app = session.app()
    except MahavishnuError as exc:
        found.problems.append(str(exc))
        return MahavishnuApp(settings)
    facts["workflows"] = ", ".join(sorted(workflow.key for workflow in app.registry))
    return app


def _look_at_system(found: Diagnosis) -> None:
    git = _git_version()
    if git is None:
        found.problems.append("git is not installed or does not answer; backups and sweeps of repositories need it")
    found.facts["system"] = {
        "mahavishnu": _version(DISTRIBUTION) or "not installed as a package",
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "git": git or "missing",
    }


def _git_version() -> str | None:
    try:
        answer = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().removeprefix("git version ")


def _look_at_state_folder(settings: Settings, found: Diagnosis) -> None:
    folder = settings.state_dir
    existing = next(path for path in (folder, *folder.parents) if os.path.isdir(path))
    writable = os.access(existing, os.W_OK | os.X_OK)
    if not writable:
        found.problems.append(f"state folder {folder}: {existing} is not writable; change its owner, or set state_dir")
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE_BYTES:
        found.problems.append(f"state folder {folder}: only {free:,} bytes are free on its disk; make room")
    found.facts["state folder"] = {
        "path": str(folder),
        "exists": folder.is_dir(),
        "writable": writable,
        "free_bytes": free,
        "files": {name: size for name, size in _files(folder) if size},
    }


def _files(folder: Path) -> list[tuple[str, int]]:
    """Return the sizes of databases and the like, with what SQLite keeps beside them."""
    if not folder.is_dir():
        return []
    try:
        return sorted((item.name, item.stat().st_size) for item in folder.iterdir() if item.is_file())
    except OSError:
        return []


async def _look_at_repositories(app: MahavishnuApp, found: Diagnosis) -> None:
    from mahavishnu.workflows.repos import verify

    for repo in app.get_repos():
        try:
            verify(repo)
        except MahavishnuError as exc:
            found.problems.append(str(exc))
    found.facts["project"]["repositories"] = len(app.get_repos())


async def _look_at_processes(app: MahavishnuApp, found: Diagnosis) -> None:
    if not _has_state(app.settings):
        return
    try:
        history = await app.runtime.open_history()
        since_ms = SYSTEM_CLOCK.now_ms() - PRESENT_MS
        found.processes = await history.list_processes(seen_since_ms=since_ms)
    except MahavishnuError as exc:
        found.problems.append(f"ledger: {exc}")


def _has_state(settings: Settings) -> bool:
    return (settings.state_dir / LEDGER_FILE).exists() or bool(settings.ledger)


# --- engines ---


async def _look_at_engines(app: MahavishnuApp, found: Diagnosis) -> None:
    runs = any(process.kind in {"scheduler", "up"} for process in found.processes)
    found.engines = [_local(runs), await _durable(app, found), await _prefect(app, runs)]
    for health in found.engines:
        if health.enabled and not health.ready and not _is_only_off(health, runs):
            found.problems.append(f"engine {health.engine!r}: {health.detail}")


def _local(runs: bool) -> EngineHealth:
    detail = "a scheduler process fires its schedules" if runs else "no scheduler process runs; start `mahavishnu up`"
    return EngineHealth(
        engine=EngineName.APSCHEDULER, enabled=True, ready=runs, detail=detail, version=_version("apscheduler")
    )


async def _durable(app: MahavishnuApp, found: Diagnosis) -> EngineHealth:
    workers = sum(process.kind == "worker" for process in found.processes)
    provider = app.settings.provider_name()
    if provider == "sqlite" and not _has_state(app.settings):
        return EngineHealth(
            engine=EngineName.ONEIRIC, enabled=True, ready=False, detail="nothing is stored yet; start `mahavishnu up`"
        )
    health = await app.runtime.queue.health()
    beside = f"{health.detail}; {workers or 'no'} worker process{'' if workers == 1 else 'es'}"
    return EngineHealth(
        engine=health.engine,
        enabled=True,
        ready=health.ready,
        detail=beside if health.ready else health.detail,
        version=health.version,
        facts=health.facts,
    )


async def _prefect(app: MahavishnuApp, runs: bool) -> EngineHealth:
    installed = _version("prefect")
    settings = app.settings.prefect
    if not settings.enabled:
        how = "not enabled; set `enabled = true` under [prefect]"
        detail = how if installed else f"{how}, and `pip install 'mahavishnu-scheduler[prefect]'`"
        return EngineHealth(engine=EngineName.PREFECT, enabled=False, ready=False, detail=detail, version=installed)
    if not installed or importlib.util.find_spec("prefect") is None:
        detail = "Prefect is not installed: run `pip install 'mahavishnu-scheduler[prefect]'`"
        return EngineHealth(engine=EngineName.PREFECT, enabled=True, ready=False, detail=detail)
    if not runs and not settings.api_url:
        detail = "its managed server is not running; `mahavishnu up` starts it"
        return EngineHealth(engine=EngineName.PREFECT, enabled=True, ready=False, detail=detail, version=installed)
    return await app.runtime.prefect.health()


def _is_only_off(health: EngineHealth, runs: bool) -> bool:
    """Return whether an engine is merely not started: no fault, as long as nothing is meant to run."""
    return not runs and ("mahavishnu up" in health.detail)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
