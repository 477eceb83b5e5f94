"""The parameters of one run of `hermes load`, checked before anything is sent.

Invariant: an `Options` that exists is bounded in time, in connections and in memory.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from hermes.base.errors import HermesError
from hermes.load.payload import DEFAULT_PAYLOAD_BYTES, DEFAULT_TYPES, Bodies, check_body

DEFAULT_URL = "http://127.0.0.1:8080/events"
DEFAULT_DURATION = 10.0
# As many as a Hermes holds at once by default.
MAX_CONNECTIONS = 10_000
# Also a mistyped duration ends.
MAX_DURATION = 24 * 3600.0
# Far more than one core sends: a higher schedule would only count unsent requests.
MAX_RATE = 1e6
MAX_REQUESTS = 10**12 - 1
"""The end of a run without a ``total``: the number of serial numbers for ids, which have 12 digits."""

GZIP_LEVEL = 1
"""The fastest level. A body with new ids is compressed anew, and the benchmark must measure the server, not gzip."""

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# The generator frames its requests itself; a second content-length or an Expect would break its count of answers.
_FIELDS_OF_OUR_OWN = ("content-length", "transfer-encoding", "connection", "content-encoding", "expect")


class LoadError(HermesError):
    """The load cannot be generated as asked. One line tells the person at the terminal how to ask for it."""


class Target(msgspec.Struct, frozen=True):
    """The server that receives the requests: ``authority`` is the Host field, ``path`` includes the query."""

    host: str
    port: int
    path: str
    authority: str


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the generator. Raises `LoadError` for a value out of range.

    ``rate`` is requests a second on a fixed schedule (open loop); None sends the next request of a connection as soon
    as the last one is answered (closed loop). The run ends after ``duration`` seconds or ``total`` requests, whichever
    comes first. ``warmup`` seconds of load go before the run and are not counted. A request without an answer after
    ``timeout`` seconds is given up, and its connection is closed. The other fields describe each request; see `Bodies`.

    >>> options = Options(url="http://127.0.0.1:8080/events?source=test", events=10, rate=500.0)
    >>> options.target.path
    '/events?source=test'
    """

    url: str = DEFAULT_URL
    connections: int = 64
    duration: float = DEFAULT_DURATION
    total: int | None = None
    rate: float | None = None
    warmup: float = 0.0
    timeout: float = 10.0
    events: int = 1
    payload_bytes: int = DEFAULT_PAYLOAD_BYTES
    types: tuple[str, ...] = DEFAULT_TYPES
    unique_ids: bool = True
    random_ids: bool = False
    gzip: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _within("connections", self.connections, 1, MAX_CONNECTIONS)
        _within("duration", self.duration, 0.001, MAX_DURATION)
        _within("warmup", self.warmup, 0, MAX_DURATION)
        _within("timeout", self.timeout, 0.001, 3600)
        if self.total is not None:
            _within("total", self.total, 1, MAX_REQUESTS)
        if self.rate is not None:
            _within("rate", self.rate, 0.001, MAX_RATE)
        for name, value in self.headers:
            _check_header(name, value)
        if self.random_ids and not self.unique_ids:
            raise LoadError("--random-ids and --same-id exclude each other")
        parse_url(self.url)
        try:
            check_body(self.events, self.payload_bytes, self.types)
        except ValueError as error:
            raise LoadError(str(error)) from error

    @property
    def target(self) -> Target:
        """The parsed ``url``."""
        return parse_url(self.url)

    def requests(self) -> Bodies:
        """Return an endless iterator of requests, head and body, ready to be sent."""
        head = self._head()
        return Bodies(
            self.events,
            payload_bytes=self.payload_bytes,
            types=self.types,
            unique_ids=self.unique_ids,
            random_ids=self.random_ids,
            gzip_level=GZIP_LEVEL if self.gzip else None,
            frame=lambda body: head % len(body) + body,
        )

    def _head(self) -> bytes:
        """Return the bytes before a body, with one ``%d`` for the length of the body."""
        target = self.target
        fields = {
            "Host": target.authority,
            "User-Agent": "hermes-load",
            "Content-Type": "application/json" if self.events == 1 else "application/x-ndjson",
        }
        for name, value in self.headers:
            # A header of the user replaces a default one, in any case of letters.
            overridden = next((known for known in fields if known.lower() == name.lower()), name)
            fields[overridden] = value
        if self.gzip:
            fields["Content-Encoding"] = "gzip"
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        # Every other percent sign (a URL may be percent-encoded) is doubled, because the head is a format string.
        return "\r\n".join(lines).encode().replace(b"%", b"%%") + b"\r\nContent-Length: %d\r\n\r\n"


def parse_url(url: str) -> Target:
    """Return the target of an ``http://host:port/path`` URL. Raises `LoadError` that names the fault.

    >>> parse_url("http://localhost:8080/events").port
    8080
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LoadError(f"--url {url!r} is no URL: {error}") from error
    if parts.scheme == "https":
        raise LoadError("--url: https is not supported; point it at the plain http:// address behind the TLS end")
    if parts.scheme != "http" or not host:
        raise LoadError(f"--url {url!r} is not of the form http://host:port/events")
    if parts.username is not None:
        raise LoadError("--url holds a user name; send credentials with --header 'Authorization: ...'")
    # A space would end the path in the request line, and a line break the line itself.
    if not url.isascii() or not url.isprintable() or " " in url:
        raise LoadError("--url holds characters that must be percent-encoded")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or 80, path, parts.netloc)


def parse_header(text: str) -> tuple[str, str]:
    """Return name and value of ``Name: value``. Raises `LoadError` for any other form.

    >>> parse_header("Authorization: Bearer secret")
    ('Authorization', 'Bearer secret')
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise LoadError(f"--header {text!r} is not of the form 'Name: value'")
    name, value = name.strip(), value.strip()
    _check_header(name, value)
    return name, value


def _check_header(name: str, value: str) -> None:
    if not _FIELD_NAME.fullmatch(name):
        raise LoadError(f"--header: {name!r} is no name of a header field")
    if name.lower() in _FIELDS_OF_OUR_OWN:
        raise LoadError(f"--header: {name} is set by the generator itself")
    # A line feed in a value would end the header field, and the rest would become a field of its own.
    if not value.isprintable():
        raise LoadError(f"--header: the value of {name} holds control characters")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise LoadError(f"--{name} must be between {low:g} and {high:g}, not {value:g}")
