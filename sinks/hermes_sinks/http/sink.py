"""Posts signed batches to any URL.

Invariants: a write returns when every event was answered with 2xx or refused by itself; after a Retry-After no request
of any batch is sent before that time; a cancelled write leaves no connection half-used. The same events in the same
request have the same ``webhook-id``, but a retry may cut batches differently: a receiver that must not take an event
twice compares the ids of the events.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from hermes import Batch, BatchRejected, SinkUnavailable, Storage, trace_headers
from hermes.kit.http import HttpClient, NoAnswer, compress, open_client, pack, parse_target, tls_context
from hermes_sinks.common.each_line import encode_each
from hermes_sinks.common.parts import Refusal, cut, send_the_good
from hermes_sinks.common.reasons import hide_values
from hermes_sinks.http.answers import answer_limit, judge
from hermes_sinks.http.settings import HttpSettings, parse_headers
from hermes_sinks.http.signature import content_id, parse_keys, sign

_MEDIA_TYPES = {"json": "application/json", "ndjson": "application/x-ndjson"}


class HttpSink:
    """A sink over an open client. ``keys`` sign each request; without keys requests are unsigned.

    ::

        async with open_http(HttpSettings(url="https://example.com/hook"), Storage()) as sink:
            await sink.write(batch)
    """

    def __init__(self, client: HttpClient, settings: HttpSettings, keys: Sequence[bytes]) -> None:
        self.max_batch = settings.max_batch
        self.concurrency = settings.concurrency
        self._client = client
        self._settings = settings
        self._keys = keys
        # On Trio's clock.
        self._not_before = 0.0

    async def write(self, batch: Batch) -> None:
        """Post the batch in one request or several. Raises `hermes.SinkUnavailable` and `hermes.BatchRejected`."""
        # For every batch, and not only for the one whose answer asked for the pause.
        pause = self._not_before - trio.current_time()
        if pause > 0:
            raise SinkUnavailable(
                f"{self._client.words}: it asked for a pause of {pause:.0f} s more", retry_after=pause
            )
        lines, refused = await encode_each(batch)
        good = [index for index in range(len(lines)) if index not in refused] if refused else range(len(lines))
        # With the comma or the line break that follows each line.
        sizes = [len(line) + 1 for line in lines]
        parts = list(cut(good, sizes, self._settings.max_bytes))

        async def send(part: Sequence[int]) -> Refusal | None:
            return await self._send([lines[index] for index in part])

        refused.update(await send_the_good(parts, send))
        # An empty batch sends nothing, and a write is a checkpoint in any case.
        if not lines:
            await trio.lowlevel.checkpoint()
        if refused:
            # The receiver's words may quote the events.
            raise BatchRejected(await hide_values(refused, batch))

    async def _send(self, lines: Sequence[bytes]) -> Refusal | None:
        """Send one request. Raises `hermes.SinkUnavailable`."""
        settings = self._settings
        # Of each attempt: a receiver refuses a signature with an old time.
        timestamp = int(time.time())

        def make() -> tuple[bytes, str, str]:
            content = b"\n".join(lines) + b"\n" if settings.format == "ndjson" else b"[" + b",".join(lines) + b"]"
            # The id is of the uncompressed content: the same events have the same id, whatever the compression.
            body, message_id = compress(settings.compress, content), content_id(content)
            return body, message_id, sign(self._keys, message_id, timestamp, body) if self._keys else ""

        # On a thread if the request is large: joining, hashing and compressing megabytes would hold the loop.
        body, message_id, signature = await pack(sum(map(len, lines)), make)
        headers = {
            "content-type": _MEDIA_TYPES[settings.format],
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            # The receiver's spans continue the trace of this delivery.
            **trace_headers(),
        }
        if settings.compress != "none":
            headers["content-encoding"] = settings.compress
        if signature:
            headers["webhook-signature"] = signature
        try:
            # An answer without an end is read only up to this limit.
            answer = await self._client.post(body, headers, most=answer_limit(len(lines)))
        except NoAnswer as error:
            raise SinkUnavailable(str(error)) from error
        try:
            return judge(answer, len(lines), time.time())
        except SinkUnavailable as error:
            if error.retry_after:
                # Batches are sent at once, and another answer may have asked for a longer pause.
                self._not_before = max(self._not_before, trio.current_time() + error.retry_after)
            raise SinkUnavailable(f"{self._client.words}: {error}", retry_after=error.retry_after) from None


def check_http(settings: HttpSettings, _storage: Storage) -> None:
    """Raise `ConfigError` for invalid settings, without asking the server."""
    parse_target(settings.url, "SINK_HTTP_URL")
    parse_headers(settings.headers)
    parse_keys(settings.secret)
    _tls(settings)


def _tls(settings: HttpSettings) -> ssl.SSLContext:
    return tls_context(settings.ca_file, verify=settings.tls_verify, variable="SINK_HTTP_CA_FILE")


@asynccontextmanager
async def open_http(settings: HttpSettings, _storage: Storage) -> AsyncIterator[HttpSink]:
    """Open the sink; the first write dials. Raises `ConfigError` as `check_http` does."""
    keys = parse_keys(settings.secret)
    async with open_client(
        parse_target(settings.url, "SINK_HTTP_URL"),
        connections=settings.concurrency,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        tls=_tls(settings),
        headers=parse_headers(settings.headers),
    ) as client:
        yield HttpSink(client, settings, keys)
