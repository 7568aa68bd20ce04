"""Rows hold every part of the values they stand for, in a layout that does not change by accident."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mahavishnu.errors import ContextError
from mahavishnu.history import rows
from mahavishnu.model.run import Run
from mahavishnu.model.schedule import Schedule
from mahavishnu.model.states import FINAL_RUN_STATES, RunState
from mahavishnu.testing.history_samples import a_run, a_schedule, reachable

COLUMNS = ["id", "job_id", "task", "engine", "state", "schedule_id", "parent_id"]


def test_every_part_of_a_run_has_a_place():
    """A field added to `Run` must be added to the details, or it would be lost."""
    assert sorted([*COLUMNS, *rows._Details.__struct_fields__]) == sorted(Run.__struct_fields__)


def test_every_part_of_a_schedule_has_a_place():
    """A field added to `Schedule` must be added to the definition, or it would be lost."""
    columns = {"id", "task", "engine", "state", "revision", "external_id"}
    times = {"next_fire_at", "last_fire_at", "created_at", "updated_at"}
    defined = set(rows._Definition.__struct_fields__) - {"trigger_kind", "trigger_fields"} | {"trigger"}
    assert columns | times | defined == {it.name for it in fields(Schedule)}


def test_layout_of_details_is_fixed():
    """Files written before are read by position: fields are only ever added at the end."""
    stored = b"\x9a\x02\x03\x01\x02\x03\xa6host:1\xa6sqlite\xa1q\xa4null\xa3why"
    details = rows._unpack_details(stored)
    assert (details.attempt, details.delivery, details.scheduled_for_ms) == (2, 3, 1)
    assert (details.worker, details.provider, details.queue) == ("host:1", "sqlite", "q")
    assert (details.result, details.reason, details.labels) == ("null", "why", None)


def test_codes_are_fixed():
    """The numbers are in files already written."""
    assert [(state.value, code) for state, code in rows.RUN_CODES.items()] == [
        ("scheduled", 0),
        ("queued", 1),
        ("running", 2),
        ("succeeded", 10),
        ("failed", 11),
        ("timed_out", 12),
        ("retrying", 13),
        ("snoozed", 14),
        ("cancelled", 15),
        ("interrupted", 16),
        ("lost", 17),
        ("dead", 18),
    ]
    assert {engine.value: code for engine, code in rows.ENGINE_CODES.items()} == {
        "apscheduler": 1,
        "oneiric": 2,
        "prefect": 3,
    }


@pytest.mark.parametrize("old", RunState)
def test_what_may_replace_what_follows_the_table(old):
    """Exactly the states that can be reached, and a live state itself."""
    allowed = {new for new in RunState if rows.may_replace(old, new)}
    assert allowed == reachable(old) | (set() if old in FINAL_RUN_STATES else {old})


@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("again", [None, 5])
def test_row_says_whether_the_run_ends_its_job(state, again):
    """The column agrees with `Run.ends_job` for every state."""
    run = a_run("j", state, next_attempt_at_ms=again)
    assert bool(rows.run_row(run, 0)[5]) is run.ends_job


@pytest.mark.parametrize(
    ("run", "stored"),
    [
        (a_run("job"), None),
        (a_run("job", attempt=2, delivery=3), None),
        (a_run("job", id="other"), "job"),
        (a_run("a.1"), "a.1"),
        (a_run("job", id="job"), "job"),
    ],
)
def test_jobs_id_is_stored_only_where_the_runs_id_does_not_tell(run, stored):
    """The usual row is shorter by it, and every run comes back the same."""
    row = rows.run_row(run, 0)
    assert row[1] == stored
    assert rows.run_from_row((*row[:5], row[6], row[7], row[10])) == run


def test_context_that_is_no_plain_data_is_refused():
    """The error names the schedule."""
    with pytest.raises(ContextError, match="nightly"):
        rows.schedule_row(a_schedule(context={"f": object()}))
