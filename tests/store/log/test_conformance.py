"""The engines keep the contract of a log."""

from __future__ import annotations

from pathlib import Path

from hermes.store.log.memory import open_memory_log
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.testing import check_log


async def test_the_memory_log_conforms() -> None:
    await check_log(open_memory_log, keeps=False, shares_commits=False)


async def test_the_sqlite_log_conforms(tmp_path: Path) -> None:
    await check_log(lambda: open_sqlite_log(tmp_path / "journal"))
