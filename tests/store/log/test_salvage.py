"""The file's bytes read without SQLite: what its write-ahead file holds, and that no damage stops it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import trio

from hermes.store.log.rows import Row, decode_row, fault
from hermes.store.log.sqlite.folder import DATABASE
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.store.log.sqlite.salvage import Pages

WAL = f"{DATABASE}-wal"
RECORDS = [bytes([n]) * size for n, size in enumerate((10, 20_000, 300, 60_000, 1))]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a log whose process was killed: everything is in the write-ahead file."""
    folder = tmp_path_factory.mktemp("model")

    async def fill() -> dict[str, bytes]:
        async with open_sqlite_log(folder) as log:
            for data in RECORDS:
                await log.append([data])
            return {name: (folder / name).read_bytes() for name in (DATABASE, WAL)}

    return trio.run(fill)


def found_in(folder: Path, files: dict[str, bytes]) -> dict[int, bytes]:
    """The good records that are found in these files."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    records: dict[int, bytes] = {}
    with closing(Pages(folder / DATABASE)) as pages:
        for cell in pages.cells():
            match pages.read(cell):
                case index, (None, int(count), int(offset), int(checksum), bytes(data)):
                    row = Row(index, count, offset, checksum, data)
                    if not fault(row):
                        records |= dict(enumerate(decode_row(row), index))
    return records


def test_what_the_write_ahead_log_has_committed_is_found(killed: dict[str, bytes], tmp_path: Path) -> None:
    assert found_in(tmp_path, killed) == dict(enumerate(RECORDS))


@pytest.mark.parametrize("cut", [1, 20_000, 50_000])
def test_of_a_torn_write_ahead_log_whole_transactions_are_found(
    cut: int, killed: dict[str, bytes], tmp_path: Path
) -> None:
    found = found_in(tmp_path, killed | {WAL: killed[WAL][:-cut]})
    assert 0 < len(found) < len(RECORDS)
    assert found == dict(enumerate(RECORDS[: len(found)]))


@pytest.mark.parametrize("place", [0, 8, 16, 24, 40])
def test_of_a_write_ahead_log_with_a_damaged_beginning_nothing_is_believed(
    place: int, killed: dict[str, bytes], tmp_path: Path
) -> None:
    wal = bytearray(killed[WAL])
    wal[place] ^= 1
    assert found_in(tmp_path, killed | {WAL: bytes(wal)}) == {}


@pytest.mark.parametrize("length", [0, 10, 31, 32, 100])
def test_a_write_ahead_log_that_is_hardly_there_is_none(length: int, killed: dict[str, bytes], tmp_path: Path) -> None:
    assert found_in(tmp_path, killed | {WAL: killed[WAL][:length]}) == {}


@pytest.mark.parametrize("seed", range(40))
def test_no_content_of_a_file_makes_it_fail(seed: int, killed: dict[str, bytes], tmp_path: Path) -> None:
    # The pages of the write-ahead file as a database, so that there is a lot to follow into the wrong place.
    chance = Random(seed)
    frames = killed[WAL][32:]
    database = bytearray(b"".join(frames[at + 24 : at + 24 + 16384] for at in range(0, len(frames), 24 + 16384)))
    for _ in range(chance.choice([5, 100, 3000])):
        at = chance.randrange(len(database))
        database[at : at + 4] = chance.choice([bytes(4), b"\xff" * 4, b"\x0d\0\0\0", chance.randbytes(4)])
    found = found_in(tmp_path, {DATABASE: bytes(database)})
    assert all(data == RECORDS[index] for index, data in found.items())
