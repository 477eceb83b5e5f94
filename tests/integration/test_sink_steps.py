"""No step of a sink on the loop grows with its batch: measured with the largest that the default limits allow."""

from __future__ import annotations

import base64
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest
import trio
from hermes_sinks.clickhouse import ClickHouseSettings, open_clickhouse
from hermes_sinks.file import FileSettings, open_file
from hermes_sinks.http import HttpSettings, open_http
from hermes_sinks.kafka import KafkaSettings, open_kafka
from hermes_sinks.parquet import ParquetSettings, open_parquet
from hermes_sinks.postgres import PostgresSettings, open_postgres
from hermes_sinks.sqlite import SqliteSettings, open_sqlite
from hermes_sinks.stdout import StdoutSink

from hermes import Storage
from hermes.events.settings import EngineSettings
from hermes.events.sink import Sink
from hermes.testing import make_batch, make_event
from tests.integration.test_fairness import Steps
from tests.needs import lacks
from tests.servers.kafka import ClusterUnavailableError, KafkaCluster

LARGEST = EngineSettings().queue_bytes // 2
"""Bytes of the requests that one batch may hold."""
MOST = 0.04  # seconds of the processor: 0.005 to 0.01 are usual; a step over the whole batch takes 0.05 to 0.2

Open = Callable[[Storage], AbstractAsyncContextManager[Sink]]


class _Taking(BaseHTTPRequestHandler):
    """Takes every request, and says nothing about it."""

    def do_POST(self) -> None:
        rest = int(self.headers["content-length"])
        while rest:
            rest -= len(self.rfile.read(min(rest, 2**20)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def taking() -> Iterator[str]:
    """The address of a server, on threads of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@asynccontextmanager
async def _clickhouse(storage: Storage) -> AsyncIterator[Sink]:
    with taking() as url:
        async with open_clickhouse(ClickHouseSettings(url=url), storage) as sink:
            yield sink


@asynccontextmanager
async def _http(storage: Storage) -> AsyncIterator[Sink]:
    with taking() as url:
        keys = ("whsec_" + base64.b64encode(bytes(32)).decode(),)
        async with open_http(HttpSettings(url=f"{url}/in", secret=keys, compress="zstd"), storage) as sink:
            yield sink


@asynccontextmanager
async def _kafka(storage: Storage) -> AsyncIterator[Sink]:
    try:
        cluster = KafkaCluster()
    except ClusterUnavailableError as error:
        lacks(str(error))
    try:
        settings = KafkaSettings(brokers=(cluster.brokers,), options="enable.idempotence=false")
        async with open_kafka(settings, storage) as sink:
            yield sink
    finally:
        cluster.close()


@asynccontextmanager
async def _stdout(_storage: Storage) -> AsyncIterator[Sink]:
    fd = os.open(os.devnull, os.O_WRONLY)
    try:
        sink = StdoutSink(fd)
        yield sink
        await sink.aclose()
    finally:
        os.close(fd)


SINKS: dict[str, Open] = {
    "clickhouse": _clickhouse,
    "file": lambda storage: open_file(FileSettings(), storage),
    "http": _http,
    "kafka": _kafka,
    "parquet": lambda storage: open_parquet(ParquetSettings(), storage),
    "postgres": lambda storage: open_postgres(PostgresSettings(), storage),
    "postgres, partitioned": lambda storage: open_postgres(PostgresSettings(partition="day"), storage),
    "sqlite": lambda storage: open_sqlite(SqliteSettings(), storage),
    "stdout": _stdout,
}


@pytest.mark.parametrize("name", SINKS)
async def test_the_largest_batch_keeps_the_loop_no_longer_than_a_small_one(
    name: str, tmp_path: Path, postgres_dsn: str
) -> None:
    storage = Storage(hermes_data_dir=tmp_path, db_dsn=postgres_dsn)
    async with SINKS[name](storage) as sink:
        random = Random(1)
        payload = b'{"v": "%s"}' % (b"x" * (LARGEST // sink.max_batch - 200))
        events = [make_event(f"{random.getrandbits(128):032x}", payload=payload) for _ in range(sink.max_batch)]
        batch = make_batch(events)
        await sink.write(make_batch([make_event("first")]))
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        gc.disable()  # it would look at all that the tests hold
        try:
            await sink.write(batch)
        finally:
            gc.enable()
            trio.lowlevel.remove_instrument(steps)
    assert steps.longest < MOST
