"""Deliveries in this worker's hands: what each is, and the bytes it goes back as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mahavishnu.errors import EnvelopeError
from mahavishnu.execution.attempt import Attempt, Refused
from mahavishnu.model.engine import EngineName
from mahavishnu.model.run import AttemptNote, Run, run_id
from mahavishnu.model.states import RunState
from mahavishnu.queues.base import Burial, DeadLetter, Delivery, Return
from mahavishnu.queues.envelope import REMEMBERED_ATTEMPTS, Envelope, decode_envelope, encode_envelope

if TYPE_CHECKING:
    from mahavishnu.execution.outcomes import Settlement

__all__ = ["Claim", "burial_of", "claim_of", "lost_runs", "return_of"]

UNREADABLE_TASK = "(unreadable)"


class Claim(msgspec.Struct, eq=False, gc=False):
    """One delivery and what has become of it so far.

    Attributes:
        delivery: As received.
        queue: The queue it came from.
        envelope: The job; `None`: the bytes cannot be read.
        attempt: What the executor is to run.
        renewed_at: Monotonic seconds when its lease was last known to be whole.
        refusal: Why it is not to be run at all.
        has_begun: Whether a lane has taken it.
        is_lost: Whether the lease keeper found that somebody else has it.
        is_settling: Whether it has ended and its outcome is being written.
    """

    delivery: Delivery
    queue: str
    envelope: Envelope | None
    attempt: Attempt
    renewed_at: float
    refusal: Refused | None = None
    has_begun: bool = False
    is_lost: bool = False
    is_settling: bool = False


def claim_of(delivery: Delivery, queue: str, provider: str, received_at: float) -> Claim:
    """Read a delivery. Never raises: bytes that are no job become a claim with a refusal.

    Args:
        delivery: As received.
        queue: The queue's name.
        provider: The provider's key.
        received_at: Monotonic seconds before the delivery was asked for, when its lease cannot have begun yet.
    """
    try:
        envelope = decode_envelope(delivery.body)
    except EnvelopeError as exc:
        attempt = Attempt(
            job_id=delivery.id,
            task=UNREADABLE_TASK,
            engine=EngineName.ONEIRIC,
            delivery=delivery.deliveries,
            provider=provider,
            queue=queue,
        )
        return Claim(delivery, queue, None, attempt, received_at, Refused(exc.code, str(exc)))
    fire_ms = envelope.fire_ms
    attempt = Attempt(
        job_id=envelope.id,
        task=envelope.workflow,
        engine=EngineName.ONEIRIC,
        context=envelope.context,
        attempt=envelope.attempt,
        delivery=max(0, envelope.runs_before + 1 - envelope.attempt) + delivery.deliveries,
        max_attempts=envelope.max_attempts,
        timeout_ms=envelope.timeout_ms,
        schedule_id=envelope.schedule_id,
        scheduled_for_ms=envelope.due_ms if fire_ms is None else fire_ms,
        provider=provider,
        queue=queue,
        repo=envelope.repo,
        commit_sha=envelope.commit_sha,
        parent_id=envelope.parent_id,
        labels=envelope.labels,
    )
    return Claim(delivery, queue, envelope, attempt, received_at)


def lost_runs(claim: Claim, now_ms: int) -> list[Run]:
    """Return the runs that earlier deliveries of these bytes must have been: begun by a worker that never came back."""
    attempt = claim.attempt
    earlier = range(attempt.delivery - claim.delivery.deliveries + 1, attempt.delivery)
    return [
        Run(
            id=run_id(attempt.job_id, attempt.attempt, number),
            job_id=attempt.job_id,
            task=attempt.task,
            engine=attempt.engine,
            state=RunState.LOST,
            attempt=attempt.attempt,
            delivery=number,
            schedule_id=attempt.schedule_id,
            scheduled_for_ms=attempt.scheduled_for_ms,
            provider=attempt.provider,
            queue=attempt.queue,
            finished_at_ms=now_ms,
            reason="its worker died or lost the lease",
            repo=attempt.repo,
            commit_sha=attempt.commit_sha,
            parent_id=attempt.parent_id,
            labels=attempt.labels,
        )
        for number in earlier
    ]


def return_of(claim: Claim, settlement: Settlement, *, handed_back: bool) -> Return:
    """Return how the job goes back to its queue after a run: as the bytes of its next one.

    Handed back, it remembers the run and keeps its attempt; otherwise it also carries a note of this attempt.
    """
    envelope = claim.envelope
    assert envelope is not None  # what cannot be read is never run
    successor = msgspec.structs.replace(
        envelope,
        attempt=settlement.next_attempt,
        due_ms=None,
        runs_before=_runs_so_far(claim),
        notes=envelope.notes if handed_back else _noted(claim, settlement.run),
    )
    return Return(
        receipt=claim.delivery.receipt,
        due_ms=settlement.due_ms,
        body=encode_envelope(successor),
        handed_back=handed_back,
    )


def burial_of(claim: Claim, settlement: Settlement) -> Burial:
    """Return how the job is parked: with its reason, its last error and what is remembered of every attempt."""
    run, envelope = settlement.run, claim.envelope
    body = claim.delivery.body
    if envelope is not None:  # a redrive starts from these bytes, and its runs need ids of their own
        body = encode_envelope(msgspec.structs.replace(envelope, runs_before=_runs_so_far(claim)))
    letter = DeadLetter(
        id=claim.delivery.id,
        queue=claim.queue,
        body=body,
        reason=settlement.bury_as,
        workflow=envelope.workflow if envelope is not None else None,
        error=run.error or run.reason or "",
        traceback=run.traceback or "",
        attempts=_noted(claim, run),
        died_ms=run.finished_at_ms or 0,
        priority=claim.delivery.priority,
    )
    return Burial(receipt=claim.delivery.receipt, letter=letter)


def _runs_so_far(claim: Claim) -> int:
    assert claim.envelope is not None
    # Never fewer than the attempts before this one, so that the ids of runs stay apart.
    return max(claim.envelope.runs_before, claim.envelope.attempt - 1) + claim.delivery.deliveries


def _noted(claim: Claim, run: Run) -> tuple[AttemptNote, ...]:
    at_ms = run.finished_at_ms or 0
    earlier = claim.envelope.notes if claim.envelope is not None else ()
    lost = AttemptNote(attempt=run.attempt, state=RunState.LOST, at_ms=at_ms, error="its worker died")
    this = AttemptNote(
        attempt=run.attempt,
        state=run.state,
        at_ms=at_ms,
        error=run.error or run.reason or "",
        worker=run.worker or "",
    )
    return (*earlier, *[lost] * (claim.delivery.deliveries - 1), this)[-REMEMBERED_ATTEMPTS:]
