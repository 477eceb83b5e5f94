"""Posts to one server over HTTP: httpx at the boundary, for every request that Hermes sends.

Invariants: every failure to get an answer is `NoAnswer`; its message never holds the URL's path, query or credentials,
and no log does. No more of an answer is read than the caller asked for. Redirects are not followed; proxies and
certificates of the environment are ignored.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import httpx
import trio
import zstandard

from hermes.base.errors import ConfigError, HermesError
from hermes.base.quoting import clean
from hermes.version import __version__

Coding = Literal["none", "gzip", "zstd"]
"""The content codings that `compress` knows."""
T = TypeVar("T")

MOST_PAUSE = 900.0
"""The longest Retry-After that is obeyed, in seconds: a server's wrong clock must not stop the delivery for a year."""

# Characters of an answer in a reason. A reason is stored with every dead letter.
MOST_QUOTED = 300
# Seconds. Less than the idle time-outs of usual servers and load balancers, which would close a connection in use.
KEEP_ALIVE = 30.0
# Bytes. Fewer are compressed in under 2 ms, less than a thread costs under load.
_THREAD_FROM = 64 * 2**10


class NoAnswer(HermesError):
    """The server could not be reached, or did not answer in time. The same request may be answered later."""


@dataclass(frozen=True)
class Target:
    """The server to post to: the URL without credentials, the credentials, and the name for logs and errors.

    >>> target = parse_target("https://ann:secret@example.org/path", "SINK_MY_URL")
    >>> target.auth, target.words
    (('ann', 'secret'), 'https://example.org')
    """

    url: httpx.URL
    auth: tuple[str, str] | None
    words: str


@dataclass(frozen=True)
class Answer:
    r"""The status, the headers by their lower-case names, and the beginning of the body, undecoded.

    >>> Answer(503, {"retry-after": "5"}, b"over\nload").excerpt
    'over load'
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def excerpt(self) -> str:
        """The beginning of the body for a reason: one line of printable characters; empty if there is no body."""
        # A character of UTF-8 takes four bytes at most.
        text = self.body[: 4 * MOST_QUOTED].decode(errors="replace")
        return clean(text, MOST_QUOTED)


class HttpClient:
    r"""An open client for one target. Several tasks may call ``post`` at once.

    ::

        async def write(client: HttpClient, batch: Batch) -> None:
            body = b"".join(bytes(event.payload) + b"\n" for event in batch)
            try:
                answer = await client.post(body, {"content-type": "application/x-ndjson"}, most=1000)
            except NoAnswer as error:
                raise SinkUnavailable(str(error)) from error
            if answer.status >= 300:
                pause = retry_after(answer, time.time())
                raise SinkUnavailable(f"{answer.status}: {answer.excerpt}", retry_after=pause)
    """

    def __init__(self, client: httpx.AsyncClient, target: Target) -> None:
        # For messages and logs: the path and the query of a URL may hold a token.
        self.words = target.words
        self._client = client
        self._url = target.url

    async def post(
        self, body: bytes, headers: Mapping[str, str], *, most: int, query: Mapping[str, str] | None = None
    ) -> Answer:
        """Post the body and return the answer with at most ``most`` bytes of its body. Raises `NoAnswer`."""
        url = self._url.copy_merge_params(query) if query else self._url
        try:
            request = self._client.build_request("POST", url, content=body, headers=headers)
            # In place of httpx's stream, a generator: a request that ends early would leave that to the garbage
            # collector.
            request.stream = _Whole(body)
            # As a stream: httpx would read an answer of any length before it returns.
            response = await self._client.send(request, stream=True)
            async with aclosing(response):
                return Answer(response.status_code, response.headers, await _read(response, most))
        except httpx.HTTPError as error:
            raise NoAnswer(f"{self.words}: {_explain(error)}") from error


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


async def _read(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    # Leaving the loop would leave its generators suspended until the garbage collector runs. Cancelling ends them at
    # once.
    with trio.CancelScope() as enough:
        # Raw: of a compressed answer httpx would decode each piece whole, far beyond `most`.
        async for piece in response.aiter_raw():
            body += piece[: most - len(body)]
            if len(body) == most:
                enough.cancel()
    return bytes(body)


_FAILURES: dict[type[httpx.HTTPError], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ReadTimeout: "no answer in time",
    httpx.WriteTimeout: "it stopped reading the request",
    httpx.PoolTimeout: "no free connection in time",
}


def _explain(error: httpx.HTTPError) -> str:
    if words := _FAILURES.get(type(error)):
        return words
    if isinstance(error, httpx.ConnectError) and (why := _find_system_words(error)):
        return f"no connection: {why}"
    cause: BaseException | None = error
    # httpx's error for a failed handshake has no text; its cause has.
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {clean(str(cause or ''), MOST_QUOTED)}"


def _find_system_words(error: BaseException) -> str:
    """The words of the system for a connection that was not made; empty if it failed otherwise, as in a handshake."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return (cause.strerror or "").lower()
        # Trio tries each address of a host.
        if isinstance(cause, ExceptionGroup):
            # A set, because a host's addresses mostly fail for one reason; sorted, so that one trouble has one text.
            numbers = {each.errno for each in cause.exceptions if isinstance(each, OSError) and each.errno}
            return ", ".join(sorted(os.strerror(number).lower() for number in numbers))
        cause = cause.__cause__ or cause.__context__
    return ""


@asynccontextmanager
async def open_client(
    target: Target,
    *,
    connections: int,
    connect_timeout: float,
    read_timeout: float,
    tls: ssl.SSLContext,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[HttpClient]:
    """Open a client with at most ``connections`` connections, kept alive between requests. The first post connects.

    ::

        target = parse_target("http://127.0.0.1:9/events", "SINK_MY_URL")
        tls = tls_context("", verify=True, variable="SINK_MY_CA_FILE")
        async with open_client(target, connections=4, connect_timeout=5, read_timeout=30, tls=tls) as client:
            try:
                await client.post(b"{}", {"content-type": "application/json"}, most=1000)
            except NoAnswer:
                ...  # nothing listens on that port
    """
    # These libraries log each request, with its URL and all headers.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    async with httpx.AsyncClient(
        auth=target.auth,
        headers={
            # The body is quoted and searched without decoding.
            "accept-encoding": "identity",
            "user-agent": f"Hermes/{__version__}",
            **(headers or {}),
        },
        verify=tls,
        # A proxy variable of another program would send the events, with their credentials, through that proxy.
        trust_env=False,
        # httpx would follow 301, 302 and 303 with a GET without the body, and a 200 to that would count as delivered.
        follow_redirects=False,
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE
        ),
        timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
    ) as client:
        yield HttpClient(client, target)


def parse_target(text: str, variable: str) -> Target:
    """Parse the text of a variable as a target. Raises `ConfigError`, which does not repeat the text.

    >>> parse_target("ftp://example.org", "SINK_MY_URL")
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: SINK_MY_URL=(hidden): expected a URL such as https://host/path or http://host:8080/path
    """
    try:
        url = httpx.URL(text)
        # The resolver encodes the name in the same way, and would raise there.
        url.host.encode("idna")
        # httpx percent-encodes characters that a host name may not have.
        valid = url.scheme in ("http", "https") and url.host and "%" not in url.host and not url.fragment
        # httpx takes any number as a port, and only the system would refuse one above 65535, at each post.
        valid = valid and 0 < (url.port or 1) < 2**16
    except (httpx.InvalidURL, UnicodeError):
        valid = False
    if not valid:
        raise ConfigError(f"{variable}=(hidden): expected a URL such as https://host/path or http://host:8080/path")
    auth = (url.username, url.password) if url.userinfo else None
    # Without the credentials, so that no error of httpx and no line of a log can quote them with the URL.
    return Target(url.copy_with(userinfo=b""), auth, f"{url.scheme}://{url.netloc.decode('ascii')}")


def tls_context(ca_file: str, *, verify: bool, variable: str) -> ssl.SSLContext:
    """Return the TLS context of a client, which trusts the system's authorities and the ones in ``ca_file`` (PEM).

    Raises `ConfigError` if the file cannot be read or holds no certificates.

    >>> tls_context("/does/not/exist", verify=True, variable="SINK_MY_CA_FILE")
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: SINK_MY_CA_FILE='/does/not/exist': cannot be used as certificates (PEM): ...
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(Path(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{variable}={ca_file!r}: cannot be used as certificates (PEM): {error}") from None
    if not verify:
        # In this order: ssl refuses CERT_NONE while the host name is checked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def pack(size: int, work: Callable[[], T]) -> T:
    """Do the work on a body of ``size`` bytes (joining, hashing, compressing), on a thread if the body is large.

    ::

        parts = [b"one", b"two"]
        body = await pack(sum(map(len, parts)), lambda: b"".join(parts))
    """
    return work() if size < _THREAD_FROM else await trio.to_thread.run_sync(work)


def compress(coding: Coding, body: bytes) -> bytes:
    """Return the body in this content coding; equal bodies give equal bytes.

    ::

        body = compress("gzip", b"many bytes")
        headers = {"content-encoding": "gzip"}
    """
    return _COMPRESSORS[coding](body)


_COMPRESSORS: dict[Coding, Callable[[bytes], bytes]] = {
    "none": lambda body: body,
    # mtime=0: the time of compression would make equal bodies different bytes.
    "gzip": lambda body: gzip.compress(body, 5, mtime=0),
    "zstd": lambda body: zstandard.ZstdCompressor(level=3).compress(body),
}


def retry_after(answer: Answer, now: float) -> float | None:
    """Return the pause that an answer asks for, in seconds, at most `MOST_PAUSE`; ``now`` is in Unix seconds.

    Source: RFC 9110, section 10.2.3: whole seconds, or a date (section 5.6.7).

    >>> retry_after(Answer(503, {"retry-after": "120"}, b""), now=1700000000.0)
    120.0
    """
    text = answer.headers.get("retry-after", "").strip()
    # Digits alone: `float` would take "inf" and "nan" too.
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(float(text), MOST_PAUSE)
    try:
        # The one form that a sender must use (RFC 9110 §5.6.7). The two obsolete forms count as no wish.
        date = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
    # A date in the past, by a clock that is behind, asks for no pause.
    return min(max(0.0, date.timestamp() - now), MOST_PAUSE)


def host_of(location: str) -> str:
    """Return the host of a URL that a server sent; empty if the URL has no host.

    >>> host_of("https://example.org/path?token=secret")
    'example.org'
    """
    try:
        host = httpx.URL(location).host
    except httpx.InvalidURL:
        return ""
    # httpx percent-encodes characters that a host name may not have.
    return "" if "%" in host else clean(host, 255)
