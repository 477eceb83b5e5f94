"""The sqlite log on a real disk: what survives, what it costs, what is refused, what is cut away."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.errors import StaleWriter
from hermes.log.sqlite import open_sqlite_log


async def test_what_was_appended_is_read_again_after_a_reopening(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        assert (log.first, log.next, log.snapshot) == (0, 0, None)
        assert await log.append([b"a", b""]) == 0
        assert await log.append([b"c" * 2**20], expected_index=2) == 2
        await log.take_snapshot(1, b"state")
        await log.trim(1)
        with pytest.raises(StaleWriter):
            await log.append([b"d"], expected_index=2)
    async with open_sqlite_log(tmp_path) as log:
        assert (log.first, log.next) == (1, 3)
        assert [(record.index, record.data) for record in await log.read(0)] == [(1, b""), (2, b"c" * 2**20)]
        assert log.snapshot is not None
        assert (log.snapshot.index, log.snapshot.state) == (1, b"state")
        assert log.statistics().bytes == 2**20
