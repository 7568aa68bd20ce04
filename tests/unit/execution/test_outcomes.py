"""What becomes of a job after an attempt."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mahavishnu.execution.attempt import Attempt, Happened, Raised, Refused, Returned, Stopped, StopReason
from mahavishnu.execution.outcomes import Settlement, Timing, Verb, decide
from mahavishnu.model.engine import EngineName
from mahavishnu.model.instants import from_ms
from mahavishnu.model.job import BackoffPolicy
from mahavishnu.model.outcome import Cancel, Retry, Snooze
from mahavishnu.model.states import FINAL_RUN_STATES, RunState
from mahavishnu.workflows.registry import Workflow

NOW_MS = 1_700_000_000_000
TIMING = Timing(NOW_MS - 50, NOW_MS, "host:1:a")
STEADY = BackoffPolicy(initial=timedelta(seconds=7), factor=1.0, jitter=0.0)


def noop() -> None:
    """Do nothing."""


WORKFLOW = Workflow.of("w", noop, max_attempts=2, backoff=STEADY)


def decided(happened: Happened, workflow: Workflow | None = WORKFLOW, **options: Any) -> Settlement:
    """Return what becomes of a job `j` of workflow `w`."""
    attempt = Attempt(job_id="j", task="w", engine=EngineName.ONEIRIC, **options)
    return decide(attempt, happened, workflow, TIMING)


def test_a_return_is_success() -> None:
    """The job is finished; the run has its times, its worker and no result."""
    settlement = decided(Returned(None))
    run = settlement.run
    assert settlement.verb is Verb.ACK
    assert (run.id, run.state, run.started_at_ms, run.finished_at_ms) == ("j.1", "succeeded", NOW_MS - 50, NOW_MS)
    assert (run.worker, run.result) == ("host:1:a", None)
    assert run.ends_job


def test_a_returned_value_is_recorded() -> None:
    """As JSON."""
    assert json.loads(decided(Returned({"n": 1})).run.result or "") == {"n": 1}


def test_a_failure_is_tried_again_after_the_workflow_s_backoff() -> None:
    """The run carries error, traceback and the time of the next attempt."""
    settlement = decided(Raised(ValueError("no")))
    assert (settlement.verb, settlement.next_attempt, settlement.due_ms) == (Verb.REPEAT, 2, NOW_MS + 7_000)
    assert (settlement.run.state, settlement.run.error) == (RunState.FAILED, "ValueError: no")
    assert "ValueError: no" in (settlement.run.traceback or "")
    assert settlement.run.next_attempt_at_ms == NOW_MS + 7_000
    assert isinstance(settlement.exception, ValueError)


def test_the_last_failure_is_parked() -> None:
    """No next attempt; the run ends the job."""
    settlement = decided(Raised(ValueError("no")), attempt=2)
    assert (settlement.verb, settlement.bury_as) == (Verb.BURY, "attempts-exhausted")
    assert settlement.run.ends_job


@pytest.mark.parametrize(
    ("own", "workflow", "attempt", "verb"),
    [
        (5, WORKFLOW, 4, Verb.REPEAT),
        (5, WORKFLOW, 5, Verb.BURY),
        (1, WORKFLOW, 1, Verb.BURY),
        (None, WORKFLOW, 1, Verb.REPEAT),
        (None, WORKFLOW, 2, Verb.BURY),
        (None, None, 2, Verb.REPEAT),
        (None, None, 3, Verb.BURY),
    ],
)
def test_the_most_attempts_are_the_job_s_then_the_workflow_s_then_three(
    own: int | None, workflow: Workflow | None, attempt: int, verb: Verb
) -> None:
    """The nearest setting counts."""
    settlement = decided(Raised(ValueError()), workflow, attempt=attempt, max_attempts=own)
    assert settlement.verb is verb


def test_retry_overrides_the_backoff() -> None:
    """`after` is what counts; the run says it is being retried, and why."""
    settlement = decided(Returned(Retry(after=timedelta(minutes=1), reason="busy")))
    assert (settlement.verb, settlement.next_attempt, settlement.due_ms) == (Verb.REPEAT, 2, NOW_MS + 60_000)
    assert (settlement.run.state, settlement.run.reason) == (RunState.RETRYING, "busy")
    assert not settlement.run.ends_job


def test_retry_without_a_time_uses_the_backoff() -> None:
    """It is an ordinary further attempt."""
    assert decided(Returned(Retry())).due_ms == NOW_MS + 7_000


def test_retry_counts_as_an_attempt() -> None:
    """On the last one it is a failure, parked with its reason."""
    settlement = decided(Returned(Retry(reason="busy")), attempt=2)
    assert (settlement.verb, settlement.run.state) == (Verb.BURY, RunState.FAILED)
    assert settlement.run.error == "Retry: busy"


def test_snooze_is_not_an_attempt() -> None:
    """The same attempt comes again at the time asked for, even if it is the last."""
    settlement = decided(Returned(Snooze(until=from_ms(NOW_MS + 99_000))), attempt=2)
    assert (settlement.verb, settlement.next_attempt, settlement.due_ms) == (Verb.REPEAT, 2, NOW_MS + 99_000)
    assert settlement.run.state is RunState.SNOOZED
    assert not settlement.run.ends_job


def test_snooze_until_the_past_means_at_once() -> None:
    """It is due now."""
    assert decided(Returned(Snooze(until=datetime(2000, 1, 1, tzinfo=UTC)))).due_ms == NOW_MS


@pytest.mark.parametrize("value", [Snooze(until=datetime(2030, 1, 1)), Retry(after=3)])  # type: ignore[arg-type]
def test_an_unusable_outcome_is_a_failure(value: object) -> None:
    """A naive time or a bare number is the job's mistake, not the worker's end."""
    settlement = decided(Returned(value))
    assert (settlement.verb, settlement.run.state) == (Verb.REPEAT, RunState.FAILED)


def test_cancel_is_final() -> None:
    """Finished for good, with the reason, though attempts are left."""
    settlement = decided(Returned(Cancel("not needed")))
    assert (settlement.verb, settlement.run.state, settlement.run.reason) == (Verb.ACK, "cancelled", "not needed")
    assert settlement.run.ends_job


def test_a_timeout_is_a_failed_attempt() -> None:
    """It says how long the limit was, and is tried again."""
    settlement = decided(Stopped(StopReason.TIMEOUT, 1_500))
    assert (settlement.verb, settlement.run.state) == (Verb.REPEAT, RunState.TIMED_OUT)
    assert settlement.run.error == "TimeoutError: the time limit of 1.5 s was up"


def test_the_last_timeout_is_parked() -> None:
    """Like any last failure."""
    assert decided(Stopped(StopReason.TIMEOUT, 1_500), attempt=2).bury_as == "attempts-exhausted"


def test_being_cancelled_is_final() -> None:
    """Whoever asked for it does not want another attempt."""
    settlement = decided(Stopped(StopReason.CANCEL))
    assert (settlement.verb, settlement.run.state) == (Verb.ACK, RunState.CANCELLED)


def test_an_interruption_is_handed_back_as_the_same_attempt() -> None:
    """Even the last attempt is made again; it was none."""
    settlement = decided(Stopped(StopReason.SHUTDOWN), attempt=2)
    assert (settlement.verb, settlement.next_attempt, settlement.due_ms) == (Verb.HAND_BACK, 2, None)
    assert settlement.run.state is RunState.INTERRUPTED


def test_a_lost_lease_is_left_alone() -> None:
    """Nothing is done with the job: somebody else has it."""
    settlement = decided(Stopped(StopReason.LEASE_LOST))
    assert (settlement.verb, settlement.run.state) == (Verb.DROP, RunState.LOST)


def test_a_refused_job_is_parked_without_having_run() -> None:
    """With the code and the problem."""
    settlement = decided(Refused("unknown-workflow", "workflow 'w' is not registered"), None)
    assert (settlement.verb, settlement.bury_as, settlement.run.state) == (Verb.BURY, "unknown-workflow", "dead")
    assert settlement.run.error == "workflow 'w' is not registered"


@pytest.mark.parametrize("reason", list(StopReason))
def test_every_outcome_is_final(reason: StopReason) -> None:
    """A settled run never stays open."""
    assert decided(Stopped(reason)).run.state in FINAL_RUN_STATES


def test_a_run_may_bring_its_own_id() -> None:
    """Prefect's flow runs have ids of their own."""
    assert decided(Returned(None), run_id="flow-run").run.id == "flow-run"
