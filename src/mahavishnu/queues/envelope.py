"""The bytes of a job in a queue: MessagePack, versioned, never pickle.

Version 1 is a MessagePack map with the short keys below. A reader ignores keys it does not know and fills
absent ones with their defaults, so that fields can be added without a new version; the version grows only when
an old reader would misread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mahavishnu.errors import EnvelopeError
from mahavishnu.model.run import AttemptNote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENVELOPE_VERSION", "Envelope", "decode_envelope", "encode_envelope"]

ENVELOPE_VERSION = 1
REMEMBERED_ATTEMPTS = 50


class Envelope(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "version": "v",
        "workflow": "w",
        "context": "c",
        "attempt": "a",
        "max_attempts": "m",
        "timeout_ms": "t",
        "enqueued_ms": "e",
        "due_ms": "d",
        "schedule_id": "s",
        "fire_ms": "f",
        "idempotency_key": "k",
        "labels": "l",
        "repo": "r",
        "parent_id": "p",
        "commit_sha": "h",
        "runs_before": "b",
        "trace": "x",
        "notes": "n",
    },
):
    """One job as it travels.

    Attributes:
        version: Layout of the bytes.
        id: The job's id.
        workflow: The registered key.
        context: The keyword arguments, themselves MessagePack, decoded only when the job runs.
        attempt: From 1; raised by whoever writes the successor.
        max_attempts: `None`: the workflow's own setting.
        timeout_ms: `None`: the workflow's own setting.
        enqueued_ms: When the caller handed it over, Unix milliseconds.
        due_ms: The true due time, where one was asked for.
        schedule_id: The schedule this is an occurrence of.
        fire_ms: The fire time of that occurrence.
        idempotency_key: As the caller gave it.
        labels: As the caller gave them.
        repo: The repository's name, for a job of a cross-repository workflow.
        parent_id: That workflow's execution.
        commit_sha: That repository's commit when the job was made.
        runs_before: How many runs of this job ended before these bytes were written; keeps the ids of runs apart
            after a snooze, an interruption or a redrive.
        trace: W3C trace context (`traceparent`, `tracestate`) of the caller.
        notes: The latest earlier attempts, oldest first, at most 50.
    """

    version: int = ENVELOPE_VERSION
    id: str
    workflow: str
    context: bytes = b"\x80"
    attempt: int = 1
    max_attempts: int | None = None
    timeout_ms: int | None = None
    enqueued_ms: int = 0
    due_ms: int | None = None
    schedule_id: str | None = None
    fire_ms: int | None = None
    idempotency_key: str | None = None
    labels: dict[str, str] | None = None
    repo: str | None = None
    parent_id: str | None = None
    commit_sha: str | None = None
    runs_before: int = 0
    trace: dict[str, str] | None = None
    notes: tuple[AttemptNote, ...] = ()


class _VersionOnly(msgspec.Struct, rename={"version": "v"}):
    version: int = ENVELOPE_VERSION


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)
_version_decoder = msgspec.msgpack.Decoder(_VersionOnly)
encode_envelope: Callable[[Envelope], bytes] = _encoder.encode


def decode_envelope(body: bytes) -> Envelope:
    """Read a job from its bytes.

    Raises:
        EnvelopeError: The bytes are not a job (`code="unreadable"`) or were written by a newer version
            (`code="newer-version"`).
    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as exc:
        _raise_if_newer(body)
        raise EnvelopeError(f"{len(body)} bytes: {exc}") from exc
    if envelope.version > ENVELOPE_VERSION:
        _raise_if_newer(body)
    return envelope


def _raise_if_newer(body: bytes) -> None:
    try:
        version = _version_decoder.decode(body).version
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return
    if version > ENVELOPE_VERSION:
        raise EnvelopeError(
            f"written in layout {version}, newer than the {ENVELOPE_VERSION} this version reads; upgrade the worker,"
            " then redrive",
            code="newer-version",
        )
