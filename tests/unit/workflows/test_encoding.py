"""What may travel to another process does so unharmed; the rest is refused by name."""

from __future__ import annotations

import contextlib
import enum
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.errors import ContextError, EnvelopeError
from mahavishnu.workflows.encoding import decode_context, encode_context
from mahavishnu.workflows.repos import Repo


class _Level(int):
    """An int with another name."""


class _Colour(enum.Enum):
    RED = "red"


class _Text(str):
    """A str with another name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Holder:
    inside: object


class _Record(msgspec.Struct):
    inside: object


ITSELF: list[object] = []
ITSELF += [ITSELF, ITSELF]


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Path("/a/b"), "/a/b"),
        (Repo(name="a", path=Path("/a"), tags=("x",)), {"name": "a", "path": "/a", "tags": ["x"], "role": None}),
        (datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))), datetime(2026, 1, 1, tzinfo=UTC)),
        (timedelta(days=1), "P1D"),
        ({3}, [3]),
        (frozenset({3}), [3]),
        ((1, 2), [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (_Colour.RED, "red"),
        (_Level(3), 3),
        (_Text("t"), "t"),
        (_Holder(_Record(Path("/x"))), {"inside": {"inside": "/x"}}),
        (b"\xff", b"\xff"),
    ],
)
def test_values_arrive_in_plain_form(value: object, arrives: object) -> None:
    """Each kind of value that may travel arrives as the plain value that stands for it."""
    assert decode_context(encode_context("w", {"v": [value]})) == {"v": [arrives]}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_plain_data_arrives_unchanged(context: dict[str, object]) -> None:
    """Decoding gives back exactly what was encoded."""
    assert decode_context(encode_context("w", context)) == context


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            {"repos": [1, 2, {"lock": threading.Lock()}]},
            "repos[2].lock: a _thread.lock cannot be sent to another process; pass plain data",
        ),
        ({"f": print}, "f: a builtin_function_or_method cannot be sent"),
        ({"a": {"b": datetime(2026, 1, 1)}}, "a.b: a naive datetime; give it a time zone"),
        ({"a": _Holder(datetime(2026, 1, 1))}, "a.inside: a naive datetime"),
        ({"a": _Record([datetime(2026, 1, 1)])}, "a.inside[0]: a naive datetime"),
        ({"a": {1: object()}}, "a[1]: a object cannot be sent"),
        ({"n": [2**70]}, "n[0]: an int of more than 64 bits"),
        ({"t": "\ud800"}, "t: text that is no valid Unicode"),
        ({"x": ITSELF}, "nested deeper than 100 levels, or contains itself"),
        ({"x": {object(): 1}}, "it cannot be encoded"),
        ({1: 2}, "its keys are the names of arguments and must be text"),
    ],
)
def test_what_cannot_travel_is_named_with_its_place(context: dict[str, object], message: str) -> None:
    """The error says where the value is and what it is, on one line, naming the workflow."""
    with pytest.raises(ContextError) as caught:
        encode_context("w", context)
    assert message in str(caught.value)
    assert str(caught.value).startswith("context of workflow 'w': ")
    assert "\n" not in str(caught.value)


def test_a_large_context_is_refused_with_the_sizes() -> None:
    """Two megabytes: the size, the limit and the remedy are in the message."""
    with pytest.raises(ContextError, match=r"2,000,\d+ bytes and 1,000,000 are allowed; store the data and send a ref"):
        encode_context("w", {"blob": "x" * 2_000_000})
    assert encode_context("w", {"blob": "x" * 2_000_000}, max_bytes=3_000_000)


def test_the_limit_is_exact() -> None:
    """A context of exactly the limit passes, one byte more does not."""
    size = len(encode_context("w", {"a": "xyz"}))
    assert encode_context("w", {"a": "xyz"}, max_bytes=size)
    with pytest.raises(ContextError):
        encode_context("w", {"a": "xyz"}, max_bytes=size - 1)


def test_nothing_is_one_byte() -> None:
    """The empty context takes the short way in both directions."""
    assert encode_context("w", {}) == b"\x80"
    assert decode_context(b"\x80") == {}


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\x01", b"\x81\x01\x02", b"\x81\xa1a", b"\x80\x80", b"\x81\xa1\xff\x01"]
)
def test_other_bytes_are_an_envelope_error(data: bytes) -> None:
    """Bytes that are no map with text keys are refused as such, never with msgspec's own exception."""
    with pytest.raises(EnvelopeError, match="context"):
        decode_context(data)


@given(st.binary(max_size=60))
def test_no_bytes_get_past_the_error(data: bytes) -> None:
    """Whatever the bytes are, the answer is a mapping or our error."""
    with contextlib.suppress(EnvelopeError):
        assert isinstance(decode_context(data), dict)
