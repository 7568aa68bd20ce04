"""Results and exceptions as bounded text."""

from __future__ import annotations

import json
from pathlib import Path

from mahavishnu.execution.report import error_line, result_json, traceback_text


class Unspeakable(Exception):
    """An exception that cannot even say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(depth: int, error: BaseException) -> BaseException:
    """Return `error` with a traceback of `depth` different frames."""

    def fall(n: int) -> None:
        if n == 0:
            raise error
        exec(compile(f"def f(fall, n):\n    fall(n - 1)  # {'x' * 200} {n}", f"<f{n}>", "exec"), names := {})
        names["f"](fall, n)

    try:
        fall(depth)
    except BaseException as exc:
        return exc
    raise AssertionError("unreachable")


def test_an_error_is_one_line() -> None:
    """Line breaks in a message become blanks."""
    assert error_line(ValueError("a\n  b")) == "ValueError: a b"


def test_an_error_without_a_message_is_its_type() -> None:
    """Nothing dangles after the type's name."""
    assert error_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_long_error_is_cut() -> None:
    """At most 1,000 characters, and it shows that something is missing."""
    line = error_line(ValueError("x" * 5_000))
    assert len(line) == 1_000
    assert line.endswith("…")


def test_an_error_that_cannot_be_shown_is_still_reported() -> None:
    """A failing `__str__` does not take the outcome with it."""
    assert error_line(Unspeakable()) == "Unspeakable: (its message cannot be shown)"
    assert "Unspeakable" in traceback_text(Unspeakable())


def test_lone_surrogates_can_be_stored() -> None:
    """File names that are no UTF-8 get into messages; what comes out can be encoded."""
    error = ValueError("bad \udcff name")
    assert error_line(error).encode()
    assert traceback_text(error).encode()


def test_a_traceback_names_the_line_that_raised() -> None:
    """The innermost frame and the exception are there, with the cause."""
    text = traceback_text(raised(0, ValueError("inner")))
    assert "raise error" in text
    assert text.rstrip().endswith("ValueError: inner")


def test_a_long_traceback_keeps_head_and_tail() -> None:
    """At most 16 kB, beginning with the first frame and ending with the exception."""
    text = traceback_text(raised(200, ValueError("inner " + "é" * 100)))
    assert len(text.encode()) <= 16_000
    assert text.startswith("Traceback (most recent call last)")
    assert "bytes left out" in text
    assert text.rstrip().endswith("é")


def test_nothing_returned_is_no_result() -> None:
    """`None` is not written as JSON null."""
    assert result_json(None) is None


def test_a_result_is_json() -> None:
    """Plain data as it is, anything else as its text."""
    assert json.loads(result_json({"path": Path("/x"), "n": [1, 2]}) or "") == {"path": "/x", "n": [1, 2]}


def test_a_result_that_cannot_be_written_is_a_note() -> None:
    """Data that contains itself does not take the outcome with it."""
    loop: list[object] = []
    loop.append(loop)
    assert "cannot be written" in json.loads(result_json(loop) or "")["note"]


def test_a_large_result_is_cut_to_valid_json() -> None:
    """About 64 kB at most, still JSON, and it says how long it was."""
    cut = result_json(["\n" * 100_000]) or ""
    assert len(cut.encode()) <= 70_000
    assert "200,004 bytes" in json.loads(cut)["note"]
