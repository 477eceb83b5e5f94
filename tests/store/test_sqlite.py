"""Connections to SQLite: what an earlier process has left is made durable before anything is added to it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hermes.store.sqlite import Schema, connect, transaction

SCHEMA = Schema(0x4D494E45, 1, "CREATE TABLE t (id TEXT PRIMARY KEY);")


def ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM t ORDER BY id")]


@pytest.mark.parametrize("reading", [False, True])
def test_before_its_first_transaction_a_process_writes_again_what_another_has_left(
    tmp_path: Path, reading: bool
) -> None:
    """Dead letters were lost: a process died of a disk whose syncs failed, and later the power failed."""
    left, now, alone = (tmp_path / name for name in ("left.db", "now.db", "alone.db"))
    with closing(connect(left, SCHEMA)) as earlier:
        with transaction(earlier):
            earlier.execute("INSERT INTO t VALUES ('earlier')")
        for ending in ("", "-wal"):
            shutil.copyfile(f"{left}{ending}", f"{now}{ending}")
    with closing(connect(now, SCHEMA)) as connection, closing(connect(now, SCHEMA)) as reader:
        if reading:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM t").fetchall()
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES ('later')")
        assert connection.renewed
        shutil.copyfile(now, alone)  # without its write-ahead file
        assert ids(now) == ["earlier", "later"]
    assert ids(alone) == ["earlier"]
