"""Declares the settings of the http sink, and reads the headers from one of them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from hermes import ConfigError
from hermes.config import Duration, Secret, Secrets, Size, about
from hermes.kit.http import Coding

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# An empty value is most likely a token that was not filled in.
_VALUE = re.compile(r"[\t\x20-\x7e]+")
_OURS = frozenset({
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
})  # fmt: skip


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the http sink. Sizes are in bytes, durations in seconds."""

    url: Annotated[Secret, about("where batches are posted to; `user:password@` in it is sent as Basic authorization")]
    format: Annotated[
        Literal["json", "ndjson"], about("the body: `json`, an array of events, or `ndjson`, one a line")
    ] = "json"
    compress: Annotated[Coding, about("the body's Content-Encoding")] = "none"
    headers: Annotated[Secret, about("more headers, as `Name: value`, one a line or in a comma list")] = ""
    secret: Annotated[
        Secrets,
        about("comma list of keys that sign by Standard Webhooks (`whsec_…`), the newest first; unset: unsigned"),
    ] = ()
    connect_timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    read_timeout: Annotated[Duration, about("longest wait for an answer; keep it below SINK_HTTP_TIMEOUT", gt=0)] = 20.0
    tls_verify: Annotated[bool, about("`false`: take any certificate for the server's")] = True
    ca_file: Annotated[str, about("path of further authorities (PEM) that certify the server")] = ""
    max_batch: Annotated[int, about("most events in one batch", ge=1, le=100_000)] = 1000
    max_bytes: Annotated[
        Size, about("most bytes of one request before compression; a larger single event goes alone", ge=1)
    ] = 5 * 2**20
    concurrency: Annotated[int, about("batches sent at once, each on a connection of its own", ge=1, le=64)] = 4


def parse_headers(text: str) -> dict[str, str]:
    """Return the headers of SINK_HTTP_HEADERS. Raises `ConfigError`, which does not show their values.

    >>> parse_headers("X-Team: events, X-Env: test")
    {'x-team': 'events', 'x-env': 'test'}
    """
    headers: dict[str, str] = {}
    # A value may hold a comma: then each header has a line of its own.
    for line in text.split("\n" if "\n" in text else ","):
        if not line.strip():
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ConfigError(
                "SINK_HTTP_HEADERS=(hidden): expected `Name: value`, none empty, in ASCII, several in a comma list, "
                "or one a line where a value holds a comma"
            )
        if name.lower() in _OURS:
            raise ConfigError(f"SINK_HTTP_HEADERS=(hidden): {name} is set by Hermes; leave it out")
        if name.lower() in headers:
            raise ConfigError(f"SINK_HTTP_HEADERS=(hidden): {name} is named twice")
        headers[name.lower()] = value
    return headers
