"""What listings print for programs: ISO 8601 instants with their offset, durations in seconds."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mahavishnu.model.instants import from_ms
from mahavishnu.triggers import build

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from mahavishnu.engines.prefect.listing import DeploymentInfo
    from mahavishnu.model.job import EnqueuedJob, JobOptions
    from mahavishnu.model.run import AttemptNote, Run
    from mahavishnu.model.schedule import Occurrence, Schedule
    from mahavishnu.queues.base import QueueStats
    from mahavishnu.queues.queue import DeadJob

__all__ = ["dead_job", "deployment", "enqueued_job", "occurrence", "queue_stats", "run", "schedule"]


def schedule(value: Schedule) -> dict[str, Any]:
    """Return a schedule for JSON."""
    return {
        "id": value.id,
        "task": value.task,
        "engine": value.engine.value,
        "state": value.state.value,
        "trigger": {
            "kind": value.trigger.kind.value,
            **value.trigger.fields,
            "description": build(value.trigger).describe(),
        },
        "next_fire_time": _instant(value.next_fire_at),
        "last_fire_time": _instant(value.last_fire_at),
        "context": _plain(value.context),
        "options": _options(value.options),
        "misfire": str(value.misfire),
        "misfire_grace_seconds": value.misfire.grace.total_seconds(),
        "overlap": value.overlap.value,
        "max_running": value.max_running,
        "jitter_seconds": value.jitter.total_seconds(),
        "queue_provider": value.provider,
        "reasons": list(value.reasons),
        "created_at": _instant(value.created_at),
        "updated_at": _instant(value.updated_at),
        "revision": value.revision,
        "external_id": value.external_id,
    }


def occurrence(value: Occurrence) -> dict[str, Any]:
    """Return an occurrence for JSON."""
    return {
        "schedule_id": value.schedule_id,
        "fire_time": _instant(value.fire_at),
        "until": _instant(value.until),
        "count": value.count,
        "state": value.state.value,
        "reason": value.reason,
        "job_id": value.job_id,
        "decided_at": _instant(value.decided_at),
        "owner": value.owner,
    }


def run(value: Run) -> dict[str, Any]:
    """Return a run for JSON."""
    return {
        "id": value.id,
        "job_id": value.job_id,
        "task": value.task,
        "engine": value.engine.value,
        "state": value.state.value,
        "attempt": value.attempt,
        "delivery": value.delivery,
        "schedule_id": value.schedule_id,
        "scheduled_for": _instant(value.scheduled_for),
        "queue_provider": value.provider,
        "queue": value.queue,
        "started_at": _instant(value.started_at),
        "finished_at": _instant(value.finished_at),
        "duration_seconds": _seconds(value.duration),
        "worker": value.worker,
        "reason": value.reason,
        "error": value.error,
        "traceback": value.traceback,
        "result": _decoded(value.result),
        "next_attempt_at": _instant(value.next_attempt_at),
        "repo": value.repo,
        "commit_sha": value.commit_sha,
        "parent_id": value.parent_id,
        "labels": value.labels or {},
    }


def enqueued_job(value: EnqueuedJob) -> dict[str, Any]:
    """Return what became of an enqueued job for JSON."""
    return {**value, "scheduled_for": _instant(value.scheduled_for)}


def deployment(value: DeploymentInfo) -> dict[str, Any]:
    """Return a Prefect deployment."""
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    return plain | {"next_run": _instant(value.next_run), "tags": list(value.tags)}


def queue_stats(provider: str, value: QueueStats) -> dict[str, Any]:
    """Return the counts of one queue for JSON."""
    oldest_ms = value.oldest_ready_ms
    return {
        "queue_provider": provider,
        "queue": value.queue,
        "ready": value.ready,
        "delayed": value.delayed,
        "in_flight": value.in_flight,
        "dead": value.dead,
        "oldest_ready_at": None if oldest_ms is None else _instant(from_ms(oldest_ms)),
        "exact": value.exact,
    }


def dead_job(value: DeadJob) -> dict[str, Any]:
    """Return a dead letter for JSON."""
    letter, envelope = value.letter, value.envelope
    return {
        "id": letter.id,
        "queue": letter.queue,
        "workflow": letter.workflow,
        "reason": letter.reason,
        "error": letter.error,
        "traceback": letter.traceback,
        "died_at": _instant(from_ms(letter.died_ms)),
        "priority": letter.priority,
        "schedule_id": None if envelope is None else envelope.schedule_id,
        "labels": {} if envelope is None else envelope.labels or {},
        "attempts": [_attempt(note) for note in letter.attempts],
    }


def _attempt(note: AttemptNote) -> dict[str, Any]:
    return {
        "attempt": note.attempt,
        "state": note.state.value,
        "at": _instant(from_ms(note.at_ms)),
        "error": note.error,
        "worker": note.worker,
    }


def _options(value: JobOptions) -> dict[str, Any]:
    return {
        "priority": value.priority,
        "max_attempts": value.max_attempts,
        "timeout_seconds": _seconds(value.timeout),
        "queue": value.queue,
        "labels": dict(value.labels),
    }


def _decoded(result: str | None) -> Any:
    """Return a stored result; as text where the ledger had to cut it short."""
    if result is None:
        return None
    try:
        return json.loads(result)
    except ValueError:
        return result


def _plain(value: Any) -> Any:
    """Return a context without types that JSON lacks."""
    return json.loads(json.dumps(value, default=str))


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()
