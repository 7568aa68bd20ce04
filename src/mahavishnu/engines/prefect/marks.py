"""How what is ours is told apart on a Prefect server: tags, labels, names, and a mark of what was put there."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from mahavishnu.engines.prefect.instants import due_at
from mahavishnu.model.ids import derived_id

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from mahavishnu.settings import Settings

__all__ = [
    "FLOW_LABEL",
    "FLOW_RUN_LABEL",
    "FLOW_TAG",
    "ON_DEMAND",
    "WORKFLOW_TAG",
    "deployment_name",
    "fire_time_of",
    "job_ids_of",
    "ledger_tag",
    "tags_of",
]

WORKFLOW_TAG = "mahavishnu-workflow"
"""On deployments of registered workflows: their runs write the ledger themselves."""
FLOW_TAG = "mahavishnu-flow"
"""On deployments of users' own flows: their runs are read back from Prefect."""
ON_DEMAND = "on-demand"
"""The deployment of a workflow through which single jobs of it run."""
FLOW_RUN_LABEL = "prefect.flow_run"
"""In the ledger, the label of a run that says which flow run it is part of."""
FLOW_LABEL = "prefect.flow"
"""In the ledger, the label of a schedule that fires a user's own flow: where that flow is."""

_BANNED = re.compile(r"[/%&<>]")


def ledger_tag(settings: Settings) -> str:
    """Return the tag of everything that belongs to one ledger: several projects may share a server."""
    where = settings.ledger.reveal() or str(settings.state_dir.resolve())
    return f"mahavishnu-{derived_id('ledger', where)[:8]}"


def deployment_name(schedule_id: str) -> str:
    """Return a schedule's id as Prefect takes it for a name; different ids have different names."""
    plain = _BANNED.sub("-", schedule_id)
    return plain if plain == schedule_id else f"{plain}-{derived_id('name', schedule_id)[:6]}"


def tags_of(labels: dict[str, str]) -> list[str]:
    """Return labels as tags: `name`, or `name:value` where there is a value; ours are left out."""
    return [f"{k}:{v}" if v else k for k, v in labels.items() if not k.startswith("prefect.")]


def fire_time_of(flow_run: FlowRun) -> datetime | None:
    """Return the fire time that a flow run is the occurrence of; `None` where somebody started it by hand."""
    made_up = flow_run.parameters.get("fire_at")
    if made_up:
        return datetime.fromisoformat(made_up)
    return due_at(flow_run) if flow_run.auto_scheduled else None


def job_ids_of(flow_run: FlowRun) -> list[str]:
    """Return the ids of the jobs that a flow run runs: those it was given, else one of its own."""
    jobs = flow_run.parameters.get("jobs")
    return [str(job["job_id"]) for job in jobs] if jobs else [flow_run.id.hex]
