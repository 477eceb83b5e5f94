"""The stores of dead letters that need no server, against the suite that every store has to pass."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hermes.dead_letters import MemoryDeadLetters
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from tests.dead_letters.conformance import DurableSuite, StoreSuite
from tests.dead_letters.kit import OpenStore


class TestMemory(StoreSuite):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        @asynccontextmanager
        async def open_store(max_letters: int):  # type: ignore[no-untyped-def]
            yield MemoryDeadLetters(max_letters)

        return open_store


class TestSqlite(StoreSuite, DurableSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda max_letters: open_sqlite_dead_letters(tmp_path / "data" / "dead-letters.db", max_letters)
