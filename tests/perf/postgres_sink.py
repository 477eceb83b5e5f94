"""How fast the postgres sink stores events, by itself: random ids (UUID v4) against ``psql``'s ``\\copy`` of the same
rows in the same order, and against ids that ascend (UUID v7).

All fill a table of the same kind (text primary key), in turns, after a checkpoint each, so that a noisy machine treats
them alike: read the ratios. Run by `make bench`, or alone: ``python -m tests.perf.postgres_sink``.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg
import trio
from hermes_sinks.postgres import PostgresSettings, open_postgres
from hermes_sinks.postgres.copy_rows import arrival_texts, encode_rows
from hermes_sinks.postgres.table import Table
from psycopg import sql

from hermes import Storage
from hermes.events.event import Batch, Chunk, Event

CHUNK = 500  # events of one request
_LINE = (
    '{"id":"%s","user_id":"user-%d","type":"song_played","timestamp":%d,'
    '"payload":{"song_id":"song-%07d","position_ms":%d,"device":"ios"}}'
)


def random_ids(count: int) -> list[str]:
    """UUIDs version 4."""
    return [uuid.uuid4().hex for _ in range(count)]


def ascending_ids(count: int) -> list[str]:
    """UUIDs version 7, a hundred to the millisecond: random within it."""
    first = time.time_ns() // 1_000_000
    random = [uuid.uuid4().hex[12:] for _ in range(count)]
    return [f"{first + n // 100:012x}7{end[1:]}" for n, end in enumerate(random)]


def make_chunks(ids: Sequence[str]) -> list[Chunk]:
    """Events with these ids, decoded from NDJSON as the service does, in chunks of `CHUNK`."""
    count = len(ids)
    decoder = msgspec.json.Decoder(Event)
    now = int(time.time())
    chunks = []
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        lines = [_LINE % (ids[n], n % 5000, now + n % 60, n, n * 37 % 600_000) for n in numbers]
        body = "\n".join(lines).encode()
        chunks.append(Chunk(decoder.decode_lines(body), time.time(), len(body)))
    return chunks


def measure(
    dsn: str, *, rows: int = 200_000, rounds: int = 3, concurrency: int | None = None, max_batch: int | None = None
) -> dict[str, float]:
    """Store ``rows`` all ways, ``rounds`` times in turn; the median rows a second of each, and their ratios.

    ``encoded_per_second`` is the making of the rows alone. None: the sink's own default. Tables ``bench_*`` of the
    database are dropped and made.
    """
    settings = PostgresSettings(table="bench_sink")
    concurrency, max_batch = concurrency or settings.concurrency, max_batch or settings.max_batch
    settings = msgspec.structs.replace(settings, concurrency=concurrency, max_batch=max_batch)
    by_sink, by_copy, ascending, encoded = [], [], [], []
    with tempfile.NamedTemporaryFile(suffix=".copy") as file:
        for _ in range(rounds):
            _prepare(dsn, "bench_sink")
            ascending.append(rows / trio.run(_store, dsn, make_chunks(ascending_ids(rows)), settings))
            _expect(dsn, rows)
            chunks = make_chunks(random_ids(rows))
            began = time.perf_counter()
            block = _encode(chunks)
            encoded.append(rows / (time.perf_counter() - began))
            Path(file.name).write_bytes(block)
            _prepare(dsn, "bench_copy")
            by_copy.append(rows / _copy(dsn, file.name))
            _prepare(dsn, "bench_sink")
            by_sink.append(rows / trio.run(_store, dsn, chunks, settings))
            _expect(dsn, rows)
    return {
        "sink_rows_per_second": statistics.median(by_sink),
        "ascending_rows_per_second": statistics.median(ascending),
        "copy_rows_per_second": statistics.median(by_copy),
        "ratio": statistics.median(sink / copy for sink, copy in zip(by_sink, by_copy, strict=True)),
        "random_to_ascending": statistics.median(a / b for a, b in zip(by_sink, ascending, strict=True)),
        "encoded_per_second": statistics.median(encoded),
    }


def _encode(chunks: Sequence[Chunk]) -> bytes:
    blocks = []
    for start in range(0, len(chunks), 4):
        batch = Batch(chunks[start : start + 4])
        blocks.append(encode_rows(batch.events, arrival_texts(batch)))
    return b"".join(blocks)


def _prepare(dsn: str, table: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_copy, bench_sink")
        connection.execute(Table((table,), dedup=True, by_day=False).make_statement())
        connection.execute("CHECKPOINT")


def _copy(dsn: str, path: str) -> float:
    statement = Table(("bench_copy",), dedup=True, by_day=False).copy_statement.as_string()
    began = time.perf_counter()
    subprocess.run(
        ["psql", "-qX", "-v", "ON_ERROR_STOP=1", dsn, "-c", "\\" + statement.replace("STDIN", f"'{path}'").lower()],
        check=True,
    )
    return time.perf_counter() - began


async def _store(dsn: str, chunks: Sequence[Chunk], settings: PostgresSettings) -> float:
    """Write all chunks in batches as large as the sink likes; seconds from the first connection to the last commit."""
    step = max(1, settings.max_batch // CHUNK)
    batches = (Batch(chunks[start : start + step]) for start in range(0, len(chunks), step))  # shared, in order
    async with open_postgres(settings, Storage(db_dsn=dsn)) as sink:
        began = time.perf_counter()

        async def work() -> None:
            for batch in batches:
                await sink.write(batch)

        async with trio.open_nursery() as nursery:
            for _ in range(sink.concurrency):
                nursery.start_soon(work)
        return time.perf_counter() - began


def _expect(dsn: str, rows: int) -> None:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(sql.SQL("SELECT count(*) FROM bench_sink")).fetchone()
    assert found == (rows,), f"{found} rows are stored instead of {rows}"


def main() -> None:
    from tests.servers.postgres import PostgresServer

    server = PostgresServer()
    server.start()
    try:
        for name, value in measure(server.dsn()).items():
            print(f"{name:>22} {value:12,.2f}")
    finally:
        server.remove()


if __name__ == "__main__":
    main()
