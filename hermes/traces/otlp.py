"""OTLP over HTTP: spans as protobuf, posted with httpx on Trio.

Invariants: encoding holds the loop for a few milliseconds at a time; redirects and proxies of the environment are not
followed, so that the headers go to nobody else; of an answer no more is read than `_MOST_READ`. The export calls it.
Source: OpenTelemetry Protocol specification 1.x, "OTLP/HTTP": which answers are worth another attempt, partial success.
"""

from __future__ import annotations

import gzip
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import httpx
import trio
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan

from hermes import __version__
from hermes.traces.export import NotExported

_AGAIN = frozenset({429, 502, 503, 504})
_TIMEOUT = 10.0  # seconds; the specification's own for a whole export
_AT_ONCE = 32  # spans that are encoded before others get the loop: some 2 ms
_MOST_READ = 64 * 2**10  # bytes of an answer
_MOST_QUOTED = 200  # characters of an error


@asynccontextmanager
async def open_sender(
    url: str, headers: Mapping[str, str]
) -> AsyncIterator[Callable[[Sequence[ReadableSpan]], Awaitable[int]]]:
    """What sends spans to ``url`` and returns how many were refused; it raises `NotExported`. Nothing is dialed yet."""
    async with httpx.AsyncClient(
        headers={
            "user-agent": f"Hermes/{__version__}",
            **headers,
            "content-type": "application/x-protobuf",
            "content-encoding": "gzip",
            "accept-encoding": "identity",
        },
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=_TIMEOUT,
    ) as client:

        async def send(spans: Sequence[ReadableSpan]) -> int:
            body = gzip.compress(await encode(spans), 1)
            with trio.move_on_after(_TIMEOUT):
                return judge(*await _post(client, url, body), len(spans))
            raise NotExported(f"no answer within {_TIMEOUT:.0f} s", again=True)

        yield send


async def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """The request for these spans. Protobuf messages that stand one behind the other are read as one."""
    parts = []
    for start in range(0, len(spans), _AT_ONCE):
        parts.append(encode_spans(spans[start : start + _AT_ONCE]).SerializeToString())
        await trio.lowlevel.checkpoint()
    return b"".join(parts)


class _Whole(httpx.AsyncByteStream):
    """A body in one piece. httpx's own is a generator, which a request that ends early leaves to the collector."""

    def __init__(self, body: bytes) -> None:
        self._rest = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        return self._rest.pop()


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """The answer's status, headers and body."""
    try:
        request = client.build_request("POST", url, content=body)
        request.stream = _Whole(body)
        response = await client.send(request, stream=True)
        async with aclosing(response):
            answer = bytearray()
            # Leaving the loop would leave its generators half-run, to the garbage collector; cancelling ends them.
            with trio.CancelScope() as enough:
                async for piece in response.aiter_raw():
                    answer += piece[: _MOST_READ - len(answer)]
                    if len(answer) == _MOST_READ:
                        enough.cancel()
            return response.status_code, response.headers, bytes(answer)
    except httpx.HTTPError as error:
        words = f"{type(error).__name__}: {str(error)[:_MOST_QUOTED]}"
        raise NotExported(words, again=True) from error


def judge(status: int, headers: Mapping[str, str], body: bytes, count: int) -> int:
    """How many of ``count`` spans the receiver has refused. Raises `NotExported`."""
    if not 200 <= status < 300:
        asked = headers.get("retry-after", "")
        after = float(asked) if re.fullmatch(r"[0-9]{1,6}", asked) else 0.0
        raise NotExported(f"the receiver answers {status}", again=status in _AGAIN, after=after)
    try:
        refused: int = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
    except DecodeError:
        return 0  # 2xx is the receiver's word for success, whatever it says beside it
    return min(max(refused, 0), count)
