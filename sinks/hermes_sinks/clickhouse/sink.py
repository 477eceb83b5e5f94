"""Stores batches in ClickHouse over HTTP: one INSERT for each batch, and a search for refused rows.

    INSERT ── done
      │ unknown table: make the table, send the INSERT again
      │ a row refused: without it, see `hermes_sinks.common.parts`
      ▼ anything else: unavailable

Invariants: a write returns when the server has written the rows into parts (never into a queue of asynchronous
inserts). Each event id is stored once, in ClickHouse's way: the server recognizes a repeated batch by its token, and
later merges rows with the same id into the row that arrived last; until then a reader uses FINAL to see an id once.
The first write finds a server that is down, not the start.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from hermes import Batch, BatchRejected, ConfigError, SinkUnavailable, Storage
from hermes.kit.http import (
    Answer,
    HttpClient,
    NoAnswer,
    Target,
    compress,
    open_client,
    pack,
    parse_target,
    retry_after,
    tls_context,
)
from hermes_sinks.clickhouse.faults import UNKNOWN_TABLE, blames_data, error_code, least_pause, reason, suspect
from hermes_sinks.clickhouse.rows import COLUMNS, encode_rows
from hermes_sinks.clickhouse.settings import ClickHouseSettings, check_credentials, table_name
from hermes_sinks.clickhouse.table import Unfit, create_statement, question, read_answer
from hermes_sinks.common.parts import Refusal, cut, send_the_good

# Bytes of an answer that are read. An error quotes the row, which may be large.
MOST_ANSWER = 64 * 2**10
# Seconds: an operator has to change the server or the table.
_UNFIT_PAUSE = 10.0

_INSERT_SETTINGS = {
    # A write returns when the rows are in parts, and not in a queue of asynchronous inserts.
    "async_insert": "0",
    "wait_for_async_insert": "1",
    # The status is that of the whole insert, and not that of its beginning.
    "wait_end_of_query": "1",
    # Errors name the right row.
    "input_format_parallel_parsing": "0",
    # Timestamps are the client's: they must not stop the sink.
    "throw_on_max_partitions_per_insert_block": "0",
    # Reads the rows' times as UTC, whatever the column's time zone is.
    "date_time_input_format": "best_effort",
}


class ClickHouseSink:
    """A sink over an open client; ``settings`` name the table.

    ::

        async with open_clickhouse(ClickHouseSettings(url="http://clickhouse:8123"), Storage()) as sink:
            await sink.write(batch)
    """

    def __init__(self, client: HttpClient, settings: ClickHouseSettings) -> None:
        self.max_batch = settings.max_batch
        self.concurrency = settings.concurrency
        self._client = client
        self._settings = settings
        self._as_json = settings.payload == "json"
        self._table = table_name(settings)
        # The times that the column ts can hold; None after a failure.
        self._times: range | None = None
        self._insert = f"INSERT INTO {self._table} ({', '.join(COLUMNS)}) FORMAT JSONEachRow"

    async def write(self, batch: Batch) -> None:
        """Insert the batch. Raises `hermes.SinkUnavailable` and `hermes.BatchRejected`."""
        # Asked before the first insert, so that a server or a table that does not fit costs no event.
        times = self._times if self._times is not None else await self._look()
        rows, refused = await encode_rows(batch, as_json=self._as_json, times=times)
        good = [index for index in range(len(rows)) if index not in refused]

        async def send(part: Sequence[int]) -> Refusal | None:
            return await self._send([rows[index] for index in part])

        parts = list(cut(good, [len(row) + 1 for row in rows], self._settings.max_bytes))
        refused.update(await send_the_good(parts, send))
        # An empty batch sends nothing, and a write is a checkpoint in any case.
        if not rows:
            await trio.lowlevel.checkpoint()
        if refused:
            raise BatchRejected(refused)

    async def _look(self) -> range:
        """Return the times that ``ts`` can hold. Raises `hermes.SinkUnavailable` if server or table do not fit."""
        answer = await self._post(question(self._settings), b"", {})
        if error_code(answer) is not None:
            self._judge(answer)
        try:
            self._times = read_answer(answer.body.decode(errors="replace"), as_json=self._as_json)
        except Unfit as error:
            raise SinkUnavailable(f"{self._client.words}: {error}", retry_after=_UNFIT_PAUSE) from None
        return self._times

    async def _send(self, rows: Sequence[bytes]) -> Refusal | None:
        """Send one INSERT; make the table if it is missing. Raises `hermes.SinkUnavailable`."""

        def make() -> tuple[bytes, str]:
            content = b"\n".join(rows)
            return compress(self._settings.compress, content), hashlib.sha256(content).hexdigest()

        # The token is of the uncompressed rows: a repeated batch has the same token, whatever the compression.
        # On a thread if the INSERT is large: joining, hashing and compressing megabytes would hold the loop.
        body, token = await pack(sum(map(len, rows)), make)
        query = {"insert_deduplication_token": token, **_INSERT_SETTINGS}
        answer = await self._post(self._insert, body, query)
        # Not only at the start: the operator may drop the table while the service runs.
        if error_code(answer) == UNKNOWN_TABLE:
            self._judge(await self._post(create_statement(self._settings), b"", {}))
            answer = await self._post(self._insert, body, query)
        return self._judge(answer)

    async def _post(self, statement: str, body: bytes, query: dict[str, str]) -> Answer:
        # Not in the URL: logs of requests, and errors, repeat a URL.
        headers = {
            "x-clickhouse-user": self._settings.user,
            "x-clickhouse-key": self._settings.password,
        }
        # A statement without rows has no body that could be compressed.
        if self._settings.compress != "none" and body:
            headers["content-encoding"] = self._settings.compress
        try:
            # The statement is in the query, because the body has the rows.
            return await self._client.post(body, headers, most=MOST_ANSWER, query={"query": statement, **query})
        except NoAnswer as error:
            raise SinkUnavailable(str(error)) from error

    def _judge(self, answer: Answer) -> Refusal | None:
        code = error_code(answer)
        if code is None:
            return None
        words = reason(answer, code)
        if blames_data(code):
            return Refusal(words, suspect=suspect(answer))
        # From a proxy: smaller parts may pass.
        if answer.status == 413:
            return Refusal(words)
        # An operator who mends the server may change the table too: look again.
        self._times = None
        pause = retry_after(answer, time.time()) or least_pause(code)
        raise SinkUnavailable(f"{self._client.words}: {words}", retry_after=pause)


def _target(settings: ClickHouseSettings) -> Target:
    target = parse_target(settings.url, "SINK_CLICKHOUSE_URL")
    if target.auth is not None:
        raise ConfigError(
            "SINK_CLICKHOUSE_URL=(hidden): leave out its user and password; "
            "set SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD"
        )
    return target


def _tls(settings: ClickHouseSettings) -> ssl.SSLContext:
    return tls_context(settings.ca_file, verify=settings.tls_verify, variable="SINK_CLICKHOUSE_CA_FILE")


def check_clickhouse(settings: ClickHouseSettings, _storage: Storage) -> None:
    """Raise `ConfigError` for invalid settings, without asking the server."""
    _target(settings)
    table_name(settings)
    check_credentials(settings)
    _tls(settings)


@asynccontextmanager
async def open_clickhouse(settings: ClickHouseSettings, _storage: Storage) -> AsyncIterator[ClickHouseSink]:
    """Open the sink; the first write dials. Raises `ConfigError` as `check_clickhouse` does."""
    check_credentials(settings)
    async with open_client(
        _target(settings),
        connections=settings.concurrency,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        tls=_tls(settings),
    ) as client:
        yield ClickHouseSink(client, settings)
