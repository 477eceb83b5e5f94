"""The parquet sink on a real S3-compatible server, and the service with it: large files, a last one at the stop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import trio
from hermes_sinks.parquet import ParquetSettings, ParquetSink, open_parquet
from msgspec import Raw
from pyarrow import fs

from hermes import Event, SinkUnavailable, Storage
from hermes.testing import big_event, check_sink, make_batch, make_event, make_events
from tests.integration.program import Start, events
from tests.servers.postgres import free_port
from tests.servers.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

numbers = count(1)
PARTITIONING = ds.partitioning(pa.schema([("date", pa.string()), ("type", pa.string())]), flavor="hive")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """One server for the module; each test has a bucket of its own."""
    server = S3Server()
    yield server
    server.remove()


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"bucket-{next(numbers)}"
    server.files().create_dir(name)
    return name


def opened(server: S3Server, url: str, **settings: Any) -> AbstractAsyncContextManager[ParquetSink]:
    place = {"url": url, "endpoint": server.endpoint, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return open_parquet(ParquetSettings(**(place | settings)), Storage())


def keys(server: S3Server, place: str) -> list[str]:
    found = server.files().get_file_info(fs.FileSelector(place, recursive=True))
    return sorted(file.path for file in found if file.type == fs.FileType.File)


def stored(server: S3Server, place: str | list[str]) -> list[Event]:
    """The events in a place, or in the files of these keys."""
    table = ds.dataset(place, filesystem=server.files(), partitioning=PARTITIONING, format="parquet").to_table()
    return [
        Event(row["id"], row["user_id"], row["event_type"], int(row["ts"].timestamp()), Raw(row["payload"].encode()))
        for row in table.to_pylist()
    ]


async def test_it_conforms(server: S3Server, bucket: str) -> None:
    found: dict[str, list[Event]] = {}

    def read_new() -> list[Event]:
        # What a key stands for never changes, so it is read once.
        for key in keys(server, f"{bucket}/raw/v1"):
            if key not in found:
                found[key] = stored(server, [key])
        return [event for part in found.values() for event in part]

    async def read_back() -> list[Event]:
        return await trio.to_thread.run_sync(read_new)

    await check_sink(lambda: opened(server, f"s3://{bucket}/raw/v1"), read_back)


async def test_a_type_is_an_escaped_part_of_the_key(server: S3Server, bucket: str) -> None:
    names = ("..", "app:started", "../up", "a b")
    async with opened(server, f"s3://{bucket}/raw") as sink:
        await sink.write(make_batch([make_event(name, type=name) for name in names]))
    found = keys(server, bucket)
    folders = {"type=%2E%2E", "type=app%3Astarted", "type=..%2Fup", "type=a%20b"}
    assert {key.split("/")[-2] for key in found} == folders
    assert all(key.startswith(f"{bucket}/raw/date=") for key in found)
    assert {event.type for event in stored(server, f"{bucket}/raw")} == set(names)


async def test_the_same_batch_again_takes_the_place_of_the_first(server: S3Server, bucket: str) -> None:
    async with opened(server, f"s3://{bucket}") as sink:
        for _ in range(2):
            await sink.write(make_batch(make_events(50), chunk=7))
    assert len(keys(server, bucket)) == 1
    assert len(stored(server, bucket)) == 50


async def test_a_file_of_many_megabytes_arrives_whole(server: S3Server, bucket: str) -> None:
    # Beyond 5 MiB it is uploaded in parts.
    batch = make_batch([big_event(2 * 2**20, id=str(n)) for n in range(6)])
    async with opened(server, f"s3://{bucket}", compression="none") as sink:
        await sink.write(batch)
    (key,) = keys(server, bucket)
    assert server.files().get_file_info(key).size > 12 * 2**20
    assert [bytes(event.payload) for event in stored(server, bucket)] == [bytes(event.payload) for event in batch]


async def test_a_bucket_that_is_missing_is_unavailable_until_somebody_makes_it(server: S3Server) -> None:
    async with opened(server, "s3://not-yet") as sink:
        with pytest.raises(SinkUnavailable, match=r"s3://not-yet: .*(?i:bucket)") as raised:
            await sink.write(make_batch(3))
        assert "\n" not in str(raised.value)
        assert SECRET_KEY not in str(raised.value)
        server.files().create_dir("not-yet")
        await sink.write(make_batch(3))
    assert len(stored(server, "not-yet")) == 3


async def test_a_server_that_is_away_is_unavailable_and_does_not_hinder_the_start() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = ParquetSettings("s3://bucket", endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    with trio.fail_after(20):
        async with open_parquet(settings, Storage()) as sink:
            with pytest.raises(SinkUnavailable, match="s3://bucket: "):
                await sink.write(make_batch(3))


async def test_a_server_that_says_nothing_holds_up_neither_a_cancelled_write_nor_its_repetition(
    server: S3Server, bucket: str
) -> None:
    async with opened(server, f"s3://{bucket}", concurrency=2) as sink:
        await sink.write(make_batch(make_events(3, prefix="before")))
        server.pause()
        try:
            with trio.move_on_after(0.1) as patience:
                await sink.write(make_batch(3))
        finally:
            server.resume()
        assert patience.cancelled_caught
        with trio.fail_after(20):
            await sink.write(make_batch(3))
    assert sorted(event.id for event in stored(server, bucket)) == sorted(
        [f"before-{n}" for n in range(3)] + [f"event-{n}" for n in range(3)]
    )


async def test_the_service_makes_few_files_and_the_last_one_when_it_stops(
    server: S3Server, bucket: str, start: Start
) -> None:
    inherited = {name: "" for name in os.environ if name.startswith("AWS_")}
    program = await trio.to_thread.run_sync(
        lambda: start(
            SINKS="parquet",
            SINK_PARQUET_URL=f"s3://{bucket}/raw",
            SINK_PARQUET_ENDPOINT=server.endpoint,
            SINK_PARQUET_REGION=REGION,
            SINK_PARQUET_ACCESS_KEY=ACCESS_KEY,
            SINK_PARQUET_SECRET_KEY=SECRET_KEY,
            LOG_FORMAT="json",
            **inherited,
        )
    )
    url = await trio.to_thread.run_sync(lambda: program.url)
    async with httpx.AsyncClient() as client:
        for number in range(5):
            answer = await client.post(f"{url}/events", json=events(20, f"post-{number}"))
            assert answer.status_code == 202
            await trio.sleep(0.11)  # longer than FLUSH_INTERVAL: other sinks would have been given each by itself
    assert keys(server, bucket) == []
    assert await trio.to_thread.run_sync(program.stop) == 0
    assert program.account()["delivered"] == 100
    assert len(keys(server, f"{bucket}/raw")) == 1
    assert sorted(event.id for event in stored(server, f"{bucket}/raw")) == sorted(
        event["id"] for number in range(5) for event in events(20, f"post-{number}")
    )
