"""Ids are unique, sort by creation, and the derived ones depend on nothing but their parts."""

from __future__ import annotations

import re

from mahavishnu.model.ids import IdSource, derived_id, new_id, new_ids

NOW_MS = 1_767_225_600_000


def test_ids_have_one_form_and_sort_by_time():
    """Thirty-two hexadecimal digits, whichever way they are made."""
    source = IdSource()
    earlier = [new_id(NOW_MS), *new_ids(NOW_MS, 3), source.next(NOW_MS), source.next(NOW_MS)]
    later = [new_id(NOW_MS + 1), *new_ids(NOW_MS + 1, 3), source.next(NOW_MS + 1)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in earlier + later)
    assert max(earlier) < min(later)


def test_a_source_never_gives_an_id_twice():
    """Not within what it draws at once, and not across draws."""
    source = IdSource()
    made = [source.next(NOW_MS) for _ in range(2_000)]
    assert len(set(made)) == len(made)


def test_derived_ids_tell_parts_apart():
    """The same parts give the same id; moving a letter from one part to the next gives another."""
    assert derived_id("ab", "c") == derived_id("ab", "c")
    assert derived_id("ab", "c") != derived_id("a", "bc")
