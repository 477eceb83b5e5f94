"""One word for one thing, in messages, pages and documents: the journal, the lines of the log, the write-ahead file."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.test_documents import DOCUMENTS, ROOT

SAID = {
    r"write-ahead log": "write-ahead file",
    r"no log here|no log in that folder|the log's disk": "journal",
    r"\bto before\b(?! ``)": "the last one that is meant",
    r"has all below": "every record before",
    r"[Rr]efused at the door": "rejected",
    r"none this hour": "which hour is shown",
}
"""What a reader has to guess at, and the words in its place."""


def shown() -> Iterator[tuple[str, str]]:
    """What people read: the documents, the pages, and the texts in the code, without its comments and docstrings."""
    for document in DOCUMENTS:
        yield str(document.relative_to(ROOT)), document.read_text()
    for pattern in ("control/**/*.js", "control/**/*.html"):
        for page in ROOT.joinpath("hermes").glob(pattern):
            yield str(page.relative_to(ROOT)), page.read_text()
    for source in [*ROOT.glob("hermes/**/*.py"), *ROOT.glob("sinks/**/*.py")]:
        text = re.sub(r'^\s*(?:r?""").*?"""', "", source.read_text(), flags=re.S | re.M)
        yield str(source.relative_to(ROOT)), "\n".join(re.findall(r'"[^"\n]*"', text))


@pytest.mark.parametrize("words", SAID, ids=SAID.get)
def test_nothing_is_said_with_words_that_have_to_be_guessed_at(words: str) -> None:
    assert [place for place, text in shown() if re.search(words, text)] == []
