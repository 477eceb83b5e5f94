"""Posts spans as protobuf to an OTLP receiver over HTTP.

Invariant: encoding holds the loop for a few milliseconds at a time.
Source: OpenTelemetry Protocol specification 1.x, "OTLP/HTTP": which answers are worth another attempt, partial success.
"""

from __future__ import annotations

import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan

from hermes.net.outgoing import Answer, NoAnswer, open_client, parse_target, retry_after
from hermes.traces.export import NotExported

# The statuses that the specification calls retryable; every other one is final.
_AGAIN = frozenset({429, 502, 503, 504})
# Seconds; the specification's default for a whole export.
_TIMEOUT = 10.0
# Spans that are encoded before other tasks get the loop: some 2 ms.
_AT_ONCE = 32
_MOST_READ = 64 * 2**10  # bytes of an answer


@asynccontextmanager
async def open_sender(
    url: str, headers: Mapping[str, str]
) -> AsyncIterator[Callable[[Sequence[ReadableSpan]], Awaitable[int]]]:
    """Yield a function that sends spans to ``url`` and returns how many the receiver refused. Dials at the first send.

    The function raises `NotExported`. ::

        async with open_sender("http://collector:4318/v1/traces", {}) as send:
            refused = await send(spans)
    """
    async with open_client(
        parse_target(url, "TRACES_ENDPOINT"),
        # One task exports, one batch at a time.
        connections=1,
        connect_timeout=_TIMEOUT,
        read_timeout=_TIMEOUT,
        tls=ssl.create_default_context(),
        headers={**headers, "content-type": "application/x-protobuf", "content-encoding": "gzip"},
    ) as client:

        async def send(spans: Sequence[ReadableSpan]) -> int:
            # Level 1: spans repeat their names, so higher levels cost much more time for little.
            body = gzip.compress(await encode(spans), 1)
            # For the whole export: the client's own time-outs bound each read alone, and a slow trickle passes them.
            with trio.move_on_after(_TIMEOUT):
                try:
                    answer = await client.post(body, {}, most=_MOST_READ)
                except NoAnswer as error:
                    raise NotExported(str(error), again=True) from error
                return judge(answer, len(spans), time.time())
            raise NotExported(f"no answer within {_TIMEOUT:.0f} s", again=True)

        yield send


async def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the request for these spans."""
    # A protobuf reader merges concatenated messages, so the parts together are one request.
    parts = []
    for start in range(0, len(spans), _AT_ONCE):
        parts.append(encode_spans(spans[start : start + _AT_ONCE]).SerializeToString())
        await trio.lowlevel.checkpoint()
    return b"".join(parts)


def judge(answer: Answer, count: int, now: float) -> int:
    """Return how many of ``count`` spans the receiver has refused. ``now`` is in Unix seconds. Raises `NotExported`.

    >>> judge(Answer(200, {}, b""), count=9, now=1700000000.0)
    0
    """
    if not 200 <= answer.status < 300:
        words = f"the receiver answers {answer.status}"
        # Without Retry-After our own backoff alone decides.
        raise NotExported(words, again=answer.status in _AGAIN, after=retry_after(answer, now) or 0.0)
    try:
        # A success may be partial: the specification has the receiver count the spans that it did not take.
        refused: int = ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans
    except DecodeError:
        return 0  # a 2xx status means success, also with an unreadable body
    # The number is the receiver's: a wrong one must not make the counts of spans negative.
    return min(max(refused, 0), count)
