"""Every shell sample of a document is run by a test, or the document says why not; and how samples are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.samples import Block, Command, blocks, fits
from tests.docs.test_documents import DOCUMENTS, ROOT, name_of

OTHER_TESTS = {
    "README.md": "tests/integration/test_newcomer.py",
    "docs/tutorial.md": "tests/integration/test_newcomer.py",
    "docs/reference/protocols.md": "tests/integration/test_protocol_examples.py",
}
"""Documents whose samples another test reads."""

NOT_RUN = {
    "CONTRIBUTING.md": "it has names of make targets alone, which a test knows",
    "k8s/README.md": "a cluster and a registry are needed; tests/deploy tries the chart",
    "docs/how-to/trace.md": "collectors are needed; tests/integration/test_traces.py has one of its own",
}
"""Documents none of whose samples is run."""


def runs(block: Block) -> bool:
    return block.language == "console" and not block.not_run


def documents_to_run() -> list[Path]:
    return [
        document for document in DOCUMENTS if name_of(document) not in OTHER_TESTS and any(map(runs, blocks(document)))
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_sample_is_run_or_says_why_not(document: Path) -> None:
    name = name_of(document)
    if name in OTHER_TESTS:
        assert document.name in (ROOT / OTHER_TESTS[name]).read_text()
        return
    silent = [block.line for block in blocks(document) if not runs(block) and not block.not_run]
    assert not silent or name in NOT_RUN, f"{name}: lines {silent}: make them `console`, or say <!-- not run: why -->"


def test_a_document_that_is_not_run_is_there() -> None:
    assert {name for name in NOT_RUN | OTHER_TESTS if not (ROOT / name).exists()} == set()


def read(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return list(blocks(page))


def test_blocks_are_told_apart(tmp_path: Path) -> None:
    page = (
        "Words.\n\n<!-- hermes: SINKS=file QUEUE_SIZE=3 -->\n\n```console\n$ one\nout\n\n$ two \\\n  more\n```\n\n"
        "<!-- not run: it is long -->\n```sh\nthree\n```\n\n```json\n{}\n```\n\n    $ four\n    out\n\n- a list\n"
        "    goes on\n"
    )
    first, second, third = read(tmp_path, page)
    assert (first.line, first.settings, runs(first)) == (5, {"SINKS": "file", "QUEUE_SIZE": "3"}, True)
    assert first.commands == [Command("one", ["out", ""]), Command("two \\\n  more")]
    assert (second.not_run, second.lines) == ("it is long", ["three"])
    assert (third.language, third.commands) == ("", [Command("four", ["out"])])


@pytest.mark.parametrize(
    ("told", "printed", "is_it"),
    [
        ("", "anything", True),
        ("a b", "a b  \n", True),
        ("a b", "a c", False),
        ("a…c", "a b c", True),
        ("a…c", "a\nc", False),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("(1+1)", "(1+1)", True),
    ],
)
def test_output_is_compared_with_what_the_page_says(told: str, printed: str, is_it: bool) -> None:
    assert fits(Command("command", told.split("\n")), printed) is is_it


def test_headers_may_be_left_out_of_the_page() -> None:
    answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nRetry-After: 5\r\n\r\n{}"
    assert fits(Command("curl -si url", ["HTTP/1.1 503 Service Unavailable", "Retry-After: 5", "", "{}"]), answer)
    assert fits(Command("curl -i url", ["HTTP/1.1 503 Service Unavailable", "", "{}"]), answer)
    assert not fits(Command("curl -i url", ["HTTP/1.1 503 Service Unavailable", "Retry-After: 6", "", "{}"]), answer)
    assert not fits(Command("curl -i url", ["HTTP/1.1 202 Accepted", "", "{}"]), answer)
