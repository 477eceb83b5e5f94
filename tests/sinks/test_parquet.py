"""The parquet sink on a folder: what readers find, what a failure leaves, and what is refused at start."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import trio
from hermes_sinks.parquet import ParquetSettings, ParquetSink, open_parquet
from hermes_sinks.parquet import sink as module
from hermes_sinks.parquet.settings import Bucket, bucket_of
from msgspec import Raw

from hermes import BatchRejected, ConfigError, Event, SinkUnavailable, Storage
from hermes.events.sink import DeliverySettings
from hermes.testing import check_sink, make_batch, make_event, make_events
from hermes.testing.events import RECEIVED_AT
from tests.sinks.configured import configure_sinks

NOW = int(time.time())
PARTITIONING = ds.partitioning(pa.schema([("date", pa.string()), ("type", pa.string())]), flavor="hive")


def opened(folder: Path, **settings: Any) -> AbstractAsyncContextManager[ParquetSink]:
    return open_parquet(ParquetSettings(**settings), Storage(hermes_data_dir=folder))


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, as a reader of the whole folder finds them, with the columns that its partitions make."""
    found: list[dict[str, Any]] = ds.dataset(folder / "parquet", partitioning=PARTITIONING).to_table().to_pylist()
    return found


def files(folder: Path) -> list[str]:
    """What is there, relative to the sink's folder, but for what a reader overlooks."""
    root = folder / "parquet"
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".writing" not in path.parts
    )


def drafts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "parquet" / ".writing").iterdir() if path.name != "lock")


def as_event(row: dict[str, Any]) -> Event:
    timestamp = int(row["ts"].timestamp())
    return Event(row["id"], row["user_id"], row["event_type"], timestamp, Raw(row["payload"].encode()))


async def test_it_conforms(tmp_path: Path) -> None:
    async def read_back() -> list[Event]:
        return [as_event(row) for row in rows(tmp_path)]

    await check_sink(lambda: opened(tmp_path), read_back)


async def test_the_columns_and_partitions_hold_what_they_say(tmp_path: Path) -> None:
    event = make_event("one", type="app:started", timestamp=NOW, payload='{ "é": "\\n" }')
    async with opened(tmp_path) as sink:
        await sink.write(make_batch([event]))
    assert rows(tmp_path) == [
        {
            "id": "one",
            "user_id": "user-1",
            "event_type": "app:started",
            "ts": datetime.fromtimestamp(NOW, UTC),
            "payload": '{ "é": "\\n" }',
            "received_at": datetime.fromtimestamp(RECEIVED_AT, UTC),
            "date": datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%d"),
            "type": "app:started",
        }
    ]


async def test_a_reader_finds_the_partitions_by_itself(tmp_path: Path) -> None:
    events = [make_event(name, type=name, timestamp=NOW - day * 86_400) for name in ("a", "b") for day in (0, 1)]
    async with opened(tmp_path) as sink:
        await sink.write(make_batch([*events, make_event("old", timestamp=5)]))
    today = datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%d")
    table = pq.read_table(tmp_path / "parquet", filters=[("date", "=", today), ("type", "=", "b")])
    assert table["id"].to_pylist() == ["b"]
    assert len(files(tmp_path)) == 5
    (old,) = [row for row in rows(tmp_path) if row["date"] is None]
    assert (old["id"], old["type"], int(old["ts"].timestamp())) == ("old", "song_played", 5)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
async def test_a_file_is_compressed_as_it_is_set(tmp_path: Path, compression: str) -> None:
    async with opened(tmp_path, compression=compression) as sink:
        await sink.write(make_batch(100))
    (file,) = files(tmp_path)
    column = pq.ParquetFile(tmp_path / "parquet" / file).metadata.row_group(0).column(4)
    assert column.path_in_schema == "payload"
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())


async def test_the_same_batch_again_makes_the_same_files(tmp_path: Path) -> None:
    events = [make_event(str(n), type=f"t{n % 3}", timestamp=NOW - n * 40_000) for n in range(10)]
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(events, chunk=4))
        first = files(tmp_path)
        await sink.write(make_batch(events, chunk=4))
    assert files(tmp_path) == first
    assert len(rows(tmp_path)) == 10


async def test_batches_that_only_begin_and_end_alike_make_files_of_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        for middle in ("b", "c"):
            await sink.write(make_batch([make_event("a"), make_event(middle), make_event("d")]))
    assert sorted(row["id"] for row in rows(tmp_path)) == ["a", "a", "b", "c", "d", "d"]


async def test_one_batch_never_makes_more_files_than_allowed(tmp_path: Path) -> None:
    events = [make_event(str(n), type=f"type-{n}", timestamp=NOW) for n in range(50)]
    async with opened(tmp_path, max_files=5) as sink:
        await sink.write(make_batch(events))
    assert len(files(tmp_path)) == 5
    assert sorted(row["event_type"] for row in rows(tmp_path)) == sorted(event.type for event in events)


async def test_a_type_cannot_leave_the_folder(tmp_path: Path) -> None:
    names = ("..", ".", "../../up", "/etc/passwd", "a\\..\\b", "type=x/..", "song_played")
    async with opened(tmp_path / "data") as sink:
        await sink.write(make_batch([make_event(name, type=name, timestamp=NOW) for name in names]))
    date = datetime.fromtimestamp(NOW, UTC).strftime("date=%Y-%m-%d")
    found = files(tmp_path / "data")
    assert len(found) == len(names)
    assert all(len(Path(file).parts) == 3 and file.startswith(f"{date}/type=") and "../" not in file for file in found)
    assert files_beside(tmp_path / "data" / "parquet", tmp_path) == []
    assert sorted(row["type"] for row in rows(tmp_path / "data")) == sorted(names)


def files_beside(folder: Path, root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(folder)]


async def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(1))
    assert mode_of(tmp_path / "parquet") == 0o700
    (file,) = files(tmp_path)
    assert mode_of(tmp_path / "parquet" / file) & ~0o640 == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_text_that_is_no_unicode_is_rejected_by_its_index(tmp_path: Path) -> None:
    events = make_events(2500)
    events[3] = make_event("half \ud800")
    events[2100] = Event("utf8", "user", "song_played", 1, Raw(b'{"v": "\xff"}'))
    events[2200] = make_event("type", type="\udfff")
    async with opened(tmp_path) as sink:
        with pytest.raises(BatchRejected) as raised:
            await sink.write(make_batch(events, chunk=700))
    assert set(raised.value.reasons) == {3, 2100, 2200}
    assert all("Unicode" in reason for reason in raised.value.reasons.values())
    assert len(rows(tmp_path)) == 2497


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "open"])
async def test_a_disk_that_fails_is_unavailable_and_leaves_no_half_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with opened(tmp_path) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(SinkUnavailable, match="parquet: No space left on device"):
                await sink.write(make_batch(3))
        assert not [name for name in files(tmp_path) if not name.endswith(".parquet")]
        assert not drafts(tmp_path)
        await sink.write(make_batch(3))
    assert len(rows(tmp_path)) == 3


async def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return call(*arguments, **options)

        return watched

    async with opened(tmp_path) as sink:
        await sink.write(make_batch(1))
        for name in ("fsync", "rename"):
            monkeypatch.setattr(os, name, watch(name, getattr(os, name)))
        await sink.write(make_batch(2))
    assert done == ["fsync", "rename", "fsync"]  # the file, its name, the folder that has the name


async def test_what_a_crash_has_left_is_deleted_by_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(1))
    leave(tmp_path / "parquet" / ".writing" / "part-20231115T120000Z-00.parquet.0.part")
    async with opened(tmp_path):
        assert drafts(tmp_path) == []
    assert len(rows(tmp_path)) == 1


def leave(path: Path) -> None:
    path.write_bytes(b"half")


async def test_a_cancelled_write_lets_go_at_once_and_written_again_stores_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, returned = trio.Event(), trio.Event()
    sync = os.fsync

    def hang(fd: int) -> None:
        trio.from_thread.run_sync(reached.set)
        trio.from_thread.run(returned.wait)
        sync(fd)

    async with opened(tmp_path, concurrency=2) as sink:
        with trio.fail_after(5):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", hang)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(sink.write, make_batch(3))
                    await reached.wait()
                    nursery.cancel_scope.cancel()
            await sink.write(make_batch(3))
            returned.set()
    assert len(rows(tmp_path)) == 3
    assert drafts(tmp_path) == []


async def test_a_disk_that_hangs_does_not_hold_up_the_end_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.05)
    reached, returned = trio.Event(), trio.Event()

    def hang(fd: int) -> None:
        trio.from_thread.run_sync(reached.set)
        trio.from_thread.run(returned.wait)

    with trio.fail_after(5):
        async with opened(tmp_path, concurrency=1) as sink:
            monkeypatch.setattr(os, "fsync", hang)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink.write, make_batch(3))
                await reached.wait()
                nursery.cancel_scope.cancel()
        returned.set()
        await sink.aclose()


# What is refused at start


async def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        async with opened(folder, **settings):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    async with opened(tmp_path):
        assert "SINK_PARQUET_URL" in (words := await refusal(tmp_path))
        assert "another Hermes uses it" in words
    async with opened(tmp_path):
        pass


async def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    leave(tmp_path / "file")
    assert "SINK_PARQUET_URL" in await refusal(tmp_path, url="file/events")


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("parquet", None),
        ("/data/events", None),
        ("s3:/odd", None),
        ("s3://events", Bucket("events", "")),
        ("s3://events/", Bucket("events", "")),
        ("s3://events/raw/v1/", Bucket("events", "raw/v1/")),
    ],
)
def test_a_place_is_a_folder_or_a_bucket(url: str, bucket: Bucket | None) -> None:
    assert bucket_of(url) == bucket


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "gs://bucket"}, "SINK_PARQUET_URL='gs://bucket': expected s3://bucket"),
        ({"url": "s3://"}, "expected s3://bucket"),
        ({"url": "s3://key:secret@bucket/x"}, "expected s3://bucket"),
        ({"url": "s3://bucket/x?region=eu"}, "expected s3://bucket"),
        ({"url": "s3://b", "access_key": "hunter2"}, "ACCESS_KEY and SINK_PARQUET_SECRET_KEY: set both"),
        ({"url": "s3://b", "secret_key": "hunter2"}, "ACCESS_KEY and SINK_PARQUET_SECRET_KEY: set both"),
        ({"endpoint": "http://minio:9000"}, "SINK_PARQUET_ENDPOINT is set, but SINK_PARQUET_URL='parquet' is no s3"),
        ({"url": "s3://b", "endpoint": "minio:9000"}, "SINK_PARQUET_ENDPOINT: expected an address such as http://"),
        ({"url": "s3://b", "endpoint": "http://k:hunter2@m"}, "SINK_PARQUET_ENDPOINT: expected an address"),
        ({"url": "s3://b", "endpoint": "http://minio/x"}, "SINK_PARQUET_ENDPOINT: expected an address"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_at_start(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    found = await refusal(tmp_path, **settings)
    assert words in found
    assert "hunter2" not in found


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("hermes_sinks.parquet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"no module 'pyarrow'\. .* pip install 'hermes-events\[parquet\]'"):
        configure_sinks(["parquet"], {})


def test_its_settings_are_variables_and_it_waits_for_large_batches() -> None:
    environ = {
        "SINK_PARQUET_URL": "s3://bucket/prefix",
        "SINK_PARQUET_ENDPOINT": "http://minio:9000",
        "SINK_PARQUET_REGION": "eu-west-1",
        "SINK_PARQUET_ACCESS_KEY": "key",
        "SINK_PARQUET_SECRET_KEY": "secret",
        "SINK_PARQUET_COMPRESSION": "snappy",
        "SINK_PARQUET_PARTITION_DAYS": "7",
        "SINK_PARQUET_MAX_FILES": "10",
        "SINK_PARQUET_MAX_BATCH": "5000",
        "SINK_PARQUET_CONCURRENCY": "3",
        "SINK_PARQUET_BATCH_SIZE": "4000",
    }
    (found,) = configure_sinks(["parquet"], environ)
    assert found.settings == ParquetSettings(
        "s3://bucket/prefix", "http://minio:9000", "eu-west-1", "key", "secret", "snappy", 7, 10, 5000, 3
    )
    assert found.delivery == DeliverySettings(flush_interval=60.0, batch_size=4000, timeout=120.0)
