"""The shell samples of the documents, copied out of them, run beside a real Hermes: they print what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.samples import Block, blocks
from tests.docs.test_documents import name_of
from tests.docs.test_samples import documents_to_run, runs
from tests.integration.program import Program, Start
from tests.integration.terminal import Terminal, path_of_this_environment


class Reader:
    """Reads a page from the top, and has Hermes run as its comments say."""

    def __init__(self, folder: Path, start: Start, request: pytest.FixtureRequest) -> None:
        self._folder = folder
        self._terminal = Terminal(folder, {"PATH": path_of_this_environment()})
        self._start = start
        self._request = request
        self._program: Program | None = None
        self._settings: dict[str, str] = {}

    def follow(self, block: Block) -> None:
        if block.hermes or self._program is None:
            self._begin(block)
        for command in block.commands:
            self._terminal.type(command)

    def _begin(self, block: Block) -> None:
        if self._program is not None:
            assert self._program.stop() == 0
        if not block.again:
            self._settings = {"SINKS": "sqlite"}
            data = self._folder / "hermes-data"
            if data.exists():
                data.rename(self._folder / f"data-of-before-line-{block.line}")
        self._settings |= block.settings
        if "DB_DSN" in self._settings:
            self._settings["DB_DSN"] = self._request.getfixturevalue("postgres_dsn")
        self._program = self._start(**self._settings)
        self._terminal.environ |= self._settings
        self._terminal.meet(self._program.url, self._program.admin_url)


@pytest.mark.parametrize("document", documents_to_run(), ids=name_of)
def test_the_samples_print_what_the_page_says(
    document: Path, tmp_path: Path, start: Start, request: pytest.FixtureRequest
) -> None:
    reader = Reader(tmp_path, start, request)
    for block in filter(runs, blocks(document)):
        reader.follow(block)
