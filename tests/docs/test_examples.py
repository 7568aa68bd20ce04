"""Every example of the documentation runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from doc_pages import DONE_KINDS, FAILS, LANGUAGES, MUST_SAY, ROOT, Page, PageRun, all_pages, anchors, links, read_page

if TYPE_CHECKING:
    from pathlib import Path

    from mahavishnu.engines.prefect.server import ManagedServer

PAGES = all_pages()
NEEDS = {"a worker", "a Prefect server"}


def _to_run(page: Page) -> int:
    return sum(block.kind in DONE_KINDS for block in page.blocks)


def _id(page: Page) -> str:
    return page.name


WITH_EXAMPLES = [page for page in PAGES if _to_run(page)]
LOCAL = [page for page in WITH_EXAMPLES if not page.wants("a Prefect server")]
ON_PREFECT = [page for page in WITH_EXAMPLES if page.wants("a Prefect server")]


@pytest.mark.parametrize("page", LOCAL, ids=_id)
def test_the_examples_of_a_page_run(page: Page, workplace: Path) -> None:
    """In order, in an empty folder; none is left out."""
    run = PageRun(page)
    run.run()
    assert run.done == _to_run(page)


@pytest.mark.parametrize("page", ON_PREFECT, ids=_id)
def test_the_examples_of_a_page_on_prefect_run(
    page: Page, workplace: Path, server: ManagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same against a real Prefect server, whose address the environment names."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", server.api_url)
    run = PageRun(page)
    with temporary_settings({PREFECT_API_URL: server.api_url}):  # it had read the environment before
        run.run()
    assert run.done == _to_run(page)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_no_block_is_left_out_in_silence(page: Page) -> None:
    """Every fence is seen, has a language, and is run, or says why not."""
    assert page.text.count("```") == 2 * len(page.blocks)
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        assert block.language in LANGUAGES, where
        assert block.kind or block.language not in MUST_SAY, f"{where} neither runs nor says why not"
        assert block.kind != "not run" or len(block.value.split()) > 1, f"{where} gives no reason"
        assert block.kind != "file" or block.value, f"{where} names no file"
        assert block.kind != "run" or block.value in {"", FAILS}, f"{where} has an unknown note"


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Page) -> None:
    """Files exist, and so do the headings that are linked to."""
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.is_relative_to(ROOT), link
        assert path.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """By links, over other pages."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        waiting += [
            (path.parent / link.partition("#")[0]).resolve() for link in links(read_page(path)) if link[0] != "#"
        ]
    assert {page.path for page in PAGES} <= reached


def test_what_a_page_needs_is_known() -> None:
    """A misspelt need would be ignored."""
    for page in PAGES:
        wanted = {need for need in NEEDS if page.wants(need)}
        assert page.text.count("<!-- needs: ") == len(wanted), page.name


def test_the_pages_are_few_words_and_many_examples() -> None:
    """A sanity check of the reader itself: examples are found, in the number that grows with the pages."""
    assert sum(_to_run(page) for page in PAGES) >= 30
