"""The bytes of a job."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.errors import EnvelopeError
from mahavishnu.model.run import AttemptNote
from mahavishnu.model.states import RunState
from mahavishnu.queues.envelope import Envelope, decode_envelope, encode_envelope


def test_everything_comes_back():
    """A job with every field set is the same after decoding."""
    job = Envelope(
        id="1",
        workflow="backup",
        context=b"\x81\xa1a\x01",
        attempt=3,
        max_attempts=5,
        timeout_ms=1000,
        enqueued_ms=1,
        due_ms=2,
        schedule_id="nightly",
        fire_ms=3,
        idempotency_key="k",
        labels={"team": "a"},
        repo="r",
        parent_id="p",
        trace={"traceparent": "00"},
        notes=(AttemptNote(attempt=1, state=RunState.FAILED, at_ms=1, error="E"),),
    )
    assert decode_envelope(encode_envelope(job)) == job


def test_unknown_keys_are_ignored():
    """A field added later does not disturb this version."""
    assert decode_envelope(msgspec.msgpack.encode({"id": "1", "w": "x", "later": [1]})).workflow == "x"


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{}", b"\x80", msgspec.msgpack.encode({"id": 1, "w": "x"})])
def test_bytes_that_are_no_job(body):
    """Anything else is refused as unreadable."""
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(body)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("fields", [{"id": "1", "w": "x", "v": 99}, {"v": 99}])
def test_a_newer_layout(fields):
    """A job of a newer version is refused as such, whether or not it could be read."""
    with pytest.raises(EnvelopeError, match="layout 99") as caught:
        decode_envelope(msgspec.msgpack.encode(fields))
    assert caught.value.code == "newer-version"


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(body):
    """Whatever the bytes, the answer is a job or `EnvelopeError`."""
    with suppress(EnvelopeError):
        assert isinstance(decode_envelope(body), Envelope)
