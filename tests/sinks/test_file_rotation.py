"""The files of the file sink on the disk: rotation, compression, and every moment that a crash can choose."""

from __future__ import annotations

import errno
import gzip
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hermes_sinks.file.appending import LineFile
from hermes_sinks.file.names import Names

NOON = 1_700_049_600.0  # 2023-11-15 12:00:00 UTC
CODECS = ("none", "gzip", "zstd")
SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}


@contextmanager
def opened(
    folder: Path, *, max_bytes: int = 10**6, max_age: float = 0.0, codec: str = "none", keep: int = 0
) -> Iterator[LineFile]:
    file = LineFile(folder, "events", max_bytes, max_age, codec, keep)
    try:
        yield file
    finally:
        file.close()


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % n for n in numbers)


def rotated(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("events-*"))


def hidden(folder: Path) -> list[str]:
    """What nobody should see, but for the lock and a growing copy."""
    return sorted(path.name for path in folder.glob(".events-*"))


def content(file: Path) -> bytes:
    if file.suffix == ".gz":
        return gzip.decompress(file.read_bytes())
    if file.suffix == ".zst":
        # One frame, so that readers take all of it that stop after the first; its checksum is looked at.
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file.read_bytes())).read()
    return file.read_bytes()


def everything(folder: Path) -> bytes:
    """All lines that a reader finds, in order."""
    current = folder / "events.jsonl"
    return b"".join(content(folder / name) for name in rotated(folder)) + (
        current.read_bytes() if current.exists() else b""
    )


# When


def test_it_is_rotated_before_it_grows_beyond_its_size(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=len(lines(1, 2))) as file:
        for n in range(1, 6):
            file.append([lines(n)], NOON + n)
        file.append([lines(6, 7, 8)], NOON + 6)  # larger than the limit: alone
        file.append([lines(9)], NOON + 7)
    assert rotated(tmp_path) == [
        "events-20231115T120003Z-0001.jsonl",
        "events-20231115T120005Z-0001.jsonl",
        "events-20231115T120006Z-0001.jsonl",
        "events-20231115T120007Z-0001.jsonl",
    ]
    assert [content(tmp_path / name) for name in rotated(tmp_path)] == [
        lines(1, 2),
        lines(3, 4),
        lines(5),
        lines(6, 7, 8),
    ]
    assert (tmp_path / "events.jsonl").read_bytes() == lines(9)


def test_it_is_rotated_by_the_first_write_at_its_age(tmp_path: Path) -> None:
    with opened(tmp_path, max_age=3600) as file:
        file.append([lines(1)], NOON)
        file.append([lines(2)], NOON + 3599.9)
        assert not rotated(tmp_path)
        file.append([lines(3)], NOON + 3600)
        assert rotated(tmp_path) == ["events-20231115T130000Z-0001.jsonl"]
        file.append([lines(4)], NOON + 7199)
        assert everything(tmp_path) == lines(1, 2, 3, 4)
        assert len(rotated(tmp_path)) == 1


def test_its_age_outlives_a_restart(tmp_path: Path) -> None:
    for n in range(5):
        with opened(tmp_path, max_age=3600) as file:
            file.append([lines(n)], NOON + n * 1000)
    assert rotated(tmp_path) == ["events-20231115T130640Z-0001.jsonl"]
    assert content(tmp_path / rotated(tmp_path)[0]) == lines(0, 1, 2, 3)


def test_a_clock_that_was_set_back_makes_no_file_older(tmp_path: Path) -> None:
    with opened(tmp_path, max_age=3600) as file:
        file.append([lines(1)], NOON)
        file.append([lines(2)], NOON - 86_400)
    with opened(tmp_path, max_age=3600) as file:
        file.append([lines(3)], NOON - 86_400)
        file.append([lines(4)], NOON - 86_400 + 3599)
        assert not rotated(tmp_path)
        file.append([lines(5)], NOON - 86_400 + 3600)
    assert len(rotated(tmp_path)) == 1
    assert everything(tmp_path) == lines(1, 2, 3, 4, 5)


# What of it


@pytest.mark.parametrize("codec", CODECS)
def test_a_rotated_file_has_all_lines_in_one_member(tmp_path: Path, codec: str) -> None:
    with opened(tmp_path, max_bytes=2000, codec=codec) as file:
        for n in range(0, 1000, 20):
            file.append([lines(*range(n, n + 20))], NOON)
    names = rotated(tmp_path)
    assert len(names) == 4
    assert all(name.endswith(".jsonl" + SUFFIXES[codec]) for name in names)
    assert everything(tmp_path) == lines(*range(1000))
    if codec != "none":
        assert (tmp_path / names[0]).stat().st_size < 1000


def test_files_of_one_second_are_numbered_also_when_the_last_one_was_shipped_away(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=1) as file:
        for n in range(3):
            file.append([lines(n)], NOON)
        (tmp_path / "events-20231115T120000Z-0002.jsonl").unlink()
        file.append([lines(3)], NOON)
    assert rotated(tmp_path) == ["events-20231115T120000Z-0001.jsonl", "events-20231115T120000Z-0003.jsonl"]
    with opened(tmp_path, max_bytes=1) as file:
        file.append([lines(4)], NOON)
    assert rotated(tmp_path)[-1] == "events-20231115T120000Z-0004.jsonl"


def test_only_so_many_rotated_files_are_kept_and_nobody_elses_is_touched(tmp_path: Path) -> None:
    others = ["events-pod-2-20231115T120000Z-0001.jsonl", "events-20231115.jsonl", "events.jsonl.bak", "notes"]
    for name in others:
        (tmp_path / name).write_text("theirs")
    with opened(tmp_path, max_bytes=1, keep=2) as file:
        for n in range(6):
            file.append([lines(n)], NOON + n)
    assert [name for name in rotated(tmp_path) if name not in others] == [
        "events-20231115T120004Z-0001.jsonl",
        "events-20231115T120005Z-0001.jsonl",
    ]
    assert all((tmp_path / name).read_text() == "theirs" for name in others)


def test_ten_thousand_files_of_one_second_still_have_names_of_their_own() -> None:
    names = Names("events")
    assert names.next_stem(NOON, ["events-20231115T120000Z-9999.jsonl.gz"]) == "events-20231115T120000Z-10000.jsonl"


# After a crash


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b'{"n":', b""),
        (lines(1) + b'{"n":2}', lines(1)),
        (lines(1, 2), lines(1, 2)),
        (lines(1) + b'{"n"' + b"\0" * 5000 + b"}\n" + lines(3), lines(1)),  # a page that did not reach the disk
        (lines(*range(200_000)) + b"torn", lines(*range(200_000))),
        (b"x" * 3_000_000, b""),
    ],
)
def test_what_a_crash_tore_is_cut_off_and_the_rest_is_kept(tmp_path: Path, left: bytes, kept: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(left)
    with opened(tmp_path, max_bytes=10**8) as file:
        file.append([lines(7)], NOON)
    assert everything(tmp_path) == kept + lines(7)


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_of_an_earlier_process_is_compressed_whole(tmp_path: Path, codec: str) -> None:
    with opened(tmp_path, codec=codec) as file:
        file.append([lines(*range(100))], NOON)
    (tmp_path / ".events.part").write_bytes(b"half of a copy")
    with opened(tmp_path, codec=codec, max_bytes=1000) as file:
        file.append([lines(*range(100, 200))], NOON)
        assert rotated(tmp_path) == ["events-20231115T120000Z-0001.jsonl" + SUFFIXES[codec]]
    assert everything(tmp_path) == lines(*range(200))


CALLS = ("write", "fsync", "fdatasync", "rename", "unlink", "open", "utime")


class Crashed(BaseException):
    """The process is no more."""


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, failure: Callable[[], BaseException]) -> Iterator[list[str]]:
    """Of the calls that change the disk, the one with the number ``at`` does not happen. Tells which were made."""
    made: list[str] = []

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) - 1 == at:
                raise failure()
            # No power fails in a test: a sync that is not the failing one would only take time.
            return None if name in ("fsync", "fdatasync") else call(*arguments, **options)

        return watched

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watch(name, getattr(os, name)))
        yield made


def append_six(folder: Path, codec: str, appended: list[int]) -> None:
    file = LineFile(folder, "events", len(lines(1, 2)), 0, codec, 0)
    try:
        for n in range(6):
            file.append([lines(n)], NOON + n)
            appended.append(n)
    finally:
        # A dead process's lock and descriptors are let go; nothing else is done for it.
        for fd in (file._lock, file._fd):
            with suppress(OSError):
                os.close(fd)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_crash_at_any_step_loses_no_line_and_leaves_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    at, steps = 0, set()
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        appended: list[int] = []
        with interrupted(monkeypatch, at, Crashed) as made, suppress(Crashed):
            append_six(folder, codec, appended)
        with opened(folder, max_bytes=1, codec=codec) as file:
            file.append([lines(99)], NOON + 99)
        assert not hidden(folder)
        found = everything(folder)
        # The line that was being appended may be there or not: it was not promised.
        assert found in (lines(*appended, 99), lines(*appended, len(appended), 99)), (at, made)
        if len(appended) == 6:
            break
        steps.add(made[at])
        at += 1
    assert steps >= {"write", "fsync", "fdatasync", "rename", "open"}


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_after_a_failure_at_any_step_the_same_block_can_be_appended_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    at = 0
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        with opened(folder, max_bytes=len(lines(1, 2)), codec=codec) as file:
            with interrupted(monkeypatch, at, lambda: OSError(errno.EIO, "Input/output error")) as made:
                for n in range(6):
                    try:
                        file.append([lines(n)], NOON + n)
                    except OSError:
                        file.append([lines(n)], NOON + n)
            assert everything(folder) == lines(*range(6)), (at, made)
            file.append([lines(6)], NOON + 6)
        assert everything(folder) == lines(*range(7))
        assert not hidden(folder)
        if len(made) <= at:
            break
        at += 1
    assert at > 20


# What others do to the file


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_that_was_moved_away_or_deleted_is_begun_anew(tmp_path: Path, codec: str) -> None:
    with opened(tmp_path, codec=codec, max_bytes=40) as file:
        file.append([lines(1)], NOON)
        (tmp_path / "events.jsonl").rename(tmp_path / "mine")
        file.append([lines(2)], NOON)
        (tmp_path / "events.jsonl").unlink()
        file.append([lines(3)], NOON)
        file.append([lines(*range(4, 9))], NOON)
    assert (tmp_path / "mine").read_bytes() == lines(1)
    assert everything(tmp_path) == lines(3, *range(4, 9))


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_that_was_cut_goes_on_where_it_ends_now(tmp_path: Path, codec: str) -> None:
    with opened(tmp_path, codec=codec, max_bytes=40) as file:
        file.append([lines(1, 2)], NOON)
        os.truncate(tmp_path / "events.jsonl", len(lines(1)) + 3)
        file.append([lines(3)], NOON)
        assert (tmp_path / "events.jsonl").read_bytes() == lines(1, 3)
        os.truncate(tmp_path / "events.jsonl", 0)
        file.append([lines(4)], NOON)
        file.append([lines(*range(5, 10))], NOON)
    assert rotated(tmp_path) == ["events-20231115T120000Z-0001.jsonl" + SUFFIXES[codec]]
    assert everything(tmp_path) == lines(*range(4, 10))


def test_a_folder_that_is_gone_is_an_error_of_its_own_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    with opened(folder) as file:
        file.append([lines(1)], NOON)
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError):
            file.append([lines(2)], NOON)
        (tmp_path / "elsewhere").rename(folder)
        file.append([lines(2)], NOON)
    assert everything(folder) == lines(1, 2)


def test_it_is_begun_when_it_is_first_written_to(tmp_path: Path) -> None:
    began = time.time()
    with opened(tmp_path) as file:
        assert not (tmp_path / "events.jsonl").exists()
        file.append([lines(1)], began)
    assert (tmp_path / "events.jsonl").exists()
