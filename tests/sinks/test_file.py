"""The file sink as the engine sees it: whole lines on the disk, clear words about what cannot be, one owner a file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hermes_sinks.common.lines import encode_lines
from hermes_sinks.file import FileSettings, FileSink, open_file
from hermes_sinks.file import sink as module

from hermes import BatchRejected, ConfigError, Event, SinkUnavailable, Storage
from hermes.testing import check_sink, make_batch, make_event, make_events
from tests.sinks.configured import configure_sinks

decoder = msgspec.json.Decoder(Event)


def opened(folder: Path, **settings: Any) -> AbstractAsyncContextManager[FileSink]:
    return open_file(FileSettings(**settings), Storage(hermes_data_dir=folder))


def files_in(folder: Path) -> list[Path]:
    """All that can be seen there, in the order in which it was written."""
    return [*sorted(folder.glob("events-*")), folder / "events.jsonl"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def all_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def decode_leniently(line: bytes) -> Event:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return make_event("not JSON")


async def test_it_conforms(tmp_path: Path) -> None:
    async def read_back() -> list[Event]:
        content = b"".join(map(Path.read_bytes, files_in(tmp_path / "events")))
        # A write that was cancelled may still be under way: its last line is no line yet.
        return [decode_leniently(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]

    # A line break between the tokens of a payload becomes a space: equal JSON, other bytes.
    await check_sink(lambda: opened(tmp_path, max_bytes=1_000_000), read_back, keeps_order=True, exact_payload=False)
    assert len(files_in(tmp_path / "events")) > 1, "the check has seen rotated files too"


async def test_the_folder_is_this_users_alone_and_the_files_are_nobody_elses_to_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", compress="gzip", max_bytes=1) as sink:
        await sink.write(make_batch(1))
        await sink.write(make_batch(1))
    folder = tmp_path / "data" / "events"
    assert mode_of(folder) == 0o700
    files = all_in(folder)
    assert {file.suffix for file in files} == {".jsonl", ".gz", ".part", ".lock"}
    assert all(mode_of(file) & ~0o640 == 0 for file in files)


async def test_a_folder_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o750)
    async with opened(tmp_path, path=tmp_path) as sink:
        await sink.write(make_batch(1))
    assert mode_of(tmp_path) == 0o750


async def test_text_that_is_no_unicode_is_rejected_by_its_index(tmp_path: Path) -> None:
    events = make_events(2500)
    events[2100] = make_event("half \ud800")
    async with opened(tmp_path) as sink:
        with pytest.raises(BatchRejected) as raised:
            await sink.write(make_batch(events))
    assert list(raised.value.reasons) == [2100]
    del events[2100]
    assert (tmp_path / "events" / "events.jsonl").read_bytes() == encode_lines(events)


async def test_a_type_is_content_and_never_part_of_a_file_name(tmp_path: Path) -> None:
    events = [make_event(str(n), type=name) for n, name in enumerate(("..", "../../up", "/etc/passwd", "a\\b", "."))]
    async with opened(tmp_path / "data", max_bytes=1) as sink:
        for event in events:
            await sink.write(make_batch([event]))
    folder = tmp_path / "data" / "events"
    rest = [path for path in all_in(tmp_path) if path.parent != folder]
    assert rest == [tmp_path / "data", folder]
    assert [decoder.decode(file.read_bytes()) for file in files_in(folder)] == events


@pytest.mark.parametrize("name", ["", ".", "..", "../events", "a/b", ".hidden", "x" * 65, "nul\0", "a b", "é", "a\n"])
async def test_a_name_that_no_file_should_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_FILE_NAME=.*expected 1 to 64 of"):
        async with opened(tmp_path, name=name):
            pass
    assert not all_in(tmp_path)


async def test_a_file_has_one_writer(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        with pytest.raises(ConfigError, match=r"another process writes events\.jsonl there") as raised:
            async with opened(tmp_path):
                pass
        assert "\n" not in str(raised.value)
        async with opened(tmp_path, name="events-pod-2") as other:
            await other.write(make_batch(1))
        await sink.write(make_batch(1))
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(1))
    assert (tmp_path / "events" / "events.jsonl").read_bytes() == encode_lines(make_events(1)) * 2


async def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"SINK_FILE_PATH=.*cannot be used"):
        async with opened(tmp_path, path=Path("file/events")):
            pass


def failing(call: Callable[..., Any], failure: int, *, after: int = 0) -> Callable[..., int]:
    """``call``, but of ``os.write`` only the first ``after`` bytes are written before it fails."""
    left = after

    def fail(fd: int, *arguments: Any) -> int:
        nonlocal left
        if left:
            done: int = call(fd, arguments[0][:left])
            left -= done
            return done
        raise OSError(failure, os.strerror(failure))

    return fail


async def test_a_full_disk_is_unavailable_and_leaves_nothing_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events" / "events.jsonl"
    first, second = make_events(3, prefix="first"), make_events(3, prefix="second")
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(first))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing(os.write, errno.ENOSPC, after=150))
            with pytest.raises(SinkUnavailable, match=r"events\.jsonl: No space left on device"):
                await sink.write(make_batch(second))
            assert path.read_bytes() == encode_lines(first)
        await sink.write(make_batch(second))
    assert path.read_bytes() == encode_lines(first + second)


async def test_a_failed_sync_is_unavailable_and_what_only_memory_holds_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events" / "events.jsonl"
    first, second = make_events(3, prefix="first"), make_events(3, prefix="second")
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(first))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing(os.fdatasync, errno.EIO))
            patch.setattr(os, "ftruncate", failing(os.fdatasync, errno.EIO))  # cutting it off fails at first as well
            with pytest.raises(SinkUnavailable, match="Input/output error"):
                await sink.write(make_batch(second))
        await sink.write(make_batch(second))
    assert path.read_bytes() == encode_lines(first + second)


async def test_a_batch_is_synced_before_the_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    sync = os.fdatasync

    def watch(fd: int) -> None:
        sync(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", watch)
    async with opened(tmp_path) as sink:
        for n in range(3):
            await sink.write(make_batch(make_events(2, prefix=str(n))))
            assert synced[-1] == (tmp_path / "events" / "events.jsonl").stat().st_size
    assert len(synced) == 3


async def test_a_disk_that_hangs_holds_up_neither_a_cancelled_write_nor_for_long_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.05)
    returned = trio.Event()
    reached = trio.Event()

    def hang(fd: int) -> None:
        trio.from_thread.run_sync(reached.set)
        trio.from_thread.run(returned.wait)

    async with opened(tmp_path) as sink:
        monkeypatch.setattr(os, "fdatasync", hang)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink.write, make_batch(3))
                await reached.wait()
                nursery.cancel_scope.cancel()
    returned.set()  # the disk is back: the thread finishes its block and lets go
    with trio.fail_after(5):
        await sink.aclose()
    assert (tmp_path / "events" / "events.jsonl").read_bytes() == encode_lines(make_events(3))


def test_its_settings_are_variables() -> None:
    environ = {
        "SINK_FILE_PATH": "/elsewhere",
        "SINK_FILE_NAME": "pod-1",
        "SINK_FILE_MAX_BYTES": "1GiB",
        "SINK_FILE_MAX_AGE": "15m",
        "SINK_FILE_KEEP": "24",
        "SINK_FILE_COMPRESS": "zstd",
    }
    (found,) = configure_sinks(["file"], environ)
    assert found.settings == FileSettings(Path("/elsewhere"), "pod-1", 2**30, 900.0, 24, "zstd")
