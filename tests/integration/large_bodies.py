"""The bodies that take the longest, one of each kind: what a neighbour may have to wait for.

Invariant: each is as large as MAX_BODY_BYTES allows by default, before or after its coding. Used by the test of
fairness and by the benchmark.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import NamedTuple

import zstandard

from hermes.base.varint import varint

MOST = 10 * 2**20
EVENT = b'{"id":"%d","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"title":"Alive and well"}}'
ALONE = b'{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"n":'
CLOUD_ALONE = b'{"specversion":"1.0","id":"1","source":"/s","type":"song_played","subject":"me","data":{"n":'
MESSAGE = b'{"type":"track","event":"song_played","userId":"u"}'
CLOUD = b'{"specversion":"1.0","id":"%d","source":"/s","type":"song_played","subject":"me","data":{"a":1}}'
RECORD = (
    b'{"timeUnixNano":"1700000000000000000","body":{"stringValue":"hi"},'
    b'"attributes":[{"key":"a","value":{"intValue":1}}]}'
)
OTLP = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}],"resource":{"attributes":[]}}]}'

# A block of deflate that has tables for all its codes, and then nothing but its end. An empty stored block follows,
# so that both together end with a byte.
TABLES = bytes.fromhex("ecdd036018300c0080d9b66ddbb66ddbb66ddbb66ddbb671dbb66d33a96de311000000ffff")

JSON = "application/json"
LINES = "application/x-ndjson"
PROTOBUF = "application/x-protobuf"
BINARY = "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: x\r\n"


class Request(NamedTuple):
    """A request to send: its path, Content-Type, Content-Encoding, body, further header lines, and how often."""

    path: str
    kind: str
    body: bytes
    coding: str = ""
    headers: str = ""
    times: int = 1

    @property
    def raw(self) -> bytes:
        """Its bytes. ``times`` requests are sent at once, without a wait for a response."""
        coding = f"Content-Encoding: {self.coding}\r\n" if self.coding else ""
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {self.kind}\r\n{coding}{self.headers}"
        if "Transfer-Encoding" not in head:
            head += f"Content-Length: {len(self.body)}\r\n"
        return (f"{head}\r\n".encode() + self.body) * self.times


def fill(element: bytes, between: bytes = b",", most: int = MOST - 200) -> bytes:
    """As many elements as fit; ``%d`` in one is its number."""
    if b"%d" not in element:
        return between.join([element] * (most // (len(element) + len(between))))
    return between.join([element % n for n in range(most // (len(element) + len(between) + 4))])


def record(data: bytes) -> bytes:
    """A field of protobuf with the number 2, as a log record and what is around it have it."""
    return b"\x12" + varint(len(data)) + data


def protobuf() -> bytes:
    """Records of protobuf: a body and an attribute each."""
    data = b"\x09" + b"\x00" * 7 + b"\x17" + b"\x2a\x04\x0a\x02hi" + b"\x32\x08\x0a\x01a\x12\x03\x0a\x01b"
    inner = record(record(data) * ((MOST - 200) // len(record(data))))
    return b"\x0a" + varint(len(inner)) + inner


def many_values() -> bytes:
    """One record of protobuf that has a great many tiny values."""
    data = b"\x32\x02\x12\x00" * (2**20 // 4 - 10)
    inner = record(record(data) * 9)
    return b"\x0a" + varint(len(inner)) + inner


def large_resource(attributes: bytes, count: int) -> bytes:
    """Records of protobuf that have nothing in them, and share a resource."""
    inner = b"\x0a" + varint(len(attributes)) + attributes + record(b"\x12\x00" * count)
    return b"\x0a" + varint(len(inner)) + inner


def texts(text: bytes) -> bytes:
    """Records of protobuf whose body is one text of nearly 1 MiB."""
    value = b"\x0a" + varint(len(text)) + text
    inner = record(record(b"\x2a" + varint(len(value)) + value) * 9)
    return b"\x0a" + varint(len(inner)) + inner


def empty_records(count: int) -> bytes:
    """Records of protobuf that have nothing in them: two bytes each."""
    inner = record(b"\x12\x00" * count)
    return b"\x0a" + varint(len(inner)) + inner


def gzipped(path: str, kind: str, body: bytes, headers: str = "", times: int = 1) -> Request:
    return Request(path, kind, gzip.compress(body, 6), "gzip", headers, times)


REQUESTS: dict[str, Callable[[], Request]] = {
    "lines": lambda: Request("/events", LINES, fill(EVENT, b"\n")),
    "lines, invalid": lambda: Request("/events", LINES, fill(b'{"id":""}', b"\n")),
    "array": lambda: Request("/events", JSON, b"[" + fill(EVENT) + b"]"),
    "array of zeros": lambda: gzipped("/events", JSON, b"[" + fill(b"0") + b"]"),
    "array, broken in its last event": lambda: Request("/events", JSON, b"[" + fill(EVENT) + b',{"id":"\\ud800"}]'),
    "one event of strings": lambda: gzipped("/events", JSON, ALONE + b'["' + b"a" * (MOST - 300) + b'"]}}'),
    "one event of tiny values": lambda: gzipped("/events", JSON, ALONE + b"[" + fill(b'""') + b"]}}"),
    "one event of escapes": lambda: gzipped(
        "/events", JSON, ALONE + b'["' + b"\\\\u0000" * (MOST // 7 - 100) + b'"]}}'
    ),
    "an id of escapes": lambda: gzipped("/events", JSON, b'{"id":"' + b"\\u00e9" * (MOST // 6 - 100) + b'"}'),
    "one event of brackets": lambda: gzipped("/events", JSON, ALONE + b"[" + fill(b"[]") + b"]}}"),
    "nested too deeply": lambda: gzipped("/events", JSON, b"[" * (MOST - 10)),
    "brackets before a mistake": lambda: Request(
        "/v1/batch",
        JSON,
        b'{"batch":[' + MESSAGE[:-1] + b',"properties":["\\ud800",' + fill(b"[{}]", most=60_000) + b"]}]}",
    ),
    "gzip of white space": lambda: gzipped("/events", JSON, b" " * MOST),
    "zstd": lambda: Request("/events", LINES, zstandard.compress(fill(EVENT, b"\n")), "zstd"),
    "deflate": lambda: Request("/events", LINES, zlib.compress(fill(EVENT, b"\n")), "deflate"),
    "deflate of tables": lambda: Request("/events", LINES, TABLES * (MOST // 37 - 1) + b"\x01\0\0\xff\xff", "deflate"),
    "snappy of empty chunks": lambda: Request(
        "/events", LINES, b"\xff\x06\0\0sNaPpY" + b"\xfe\0\0\0" * (MOST // 4 - 10), "snappy"
    ),
    "CloudEvents": lambda: Request("/events", "application/cloudevents-batch+json", b"[" + fill(CLOUD) + b"]"),
    "one CloudEvent": lambda: gzipped(
        "/events", "application/cloudevents+json", CLOUD_ALONE + b"[" + fill(b'""') + b"]}}"
    ),
    "one CloudEvent of a text": lambda: gzipped("/events", "text/plain", b"\x01" * (MOST - 10), BINARY),
    "one CloudEvent of bytes": lambda: gzipped("/events", "application/octet-stream", b"\xff" * (MOST - 10), BINARY),
    "one CloudEvent of values": lambda: gzipped("/events", JSON, b"[" + fill(b'""') + b"]", BINARY),
    "Segment": lambda: Request("/v1/batch", JSON, b'{"batch":[' + fill(MESSAGE) + b"]}"),
    "Segment, shared context": lambda: gzipped(
        "/v1/batch", JSON, b'{"context":{"a":1},"batch":[' + fill(MESSAGE) + b"]}"
    ),
    "Segment, large shared context": lambda: gzipped(
        "/v1/batch",
        JSON,
        b'{"context":["' + b"a" * (MOST // 2) + b'"],"batch":[' + fill(MESSAGE, most=MOST // 2 - 300) + b"]}",
    ),
    "Segment, a long query": lambda: Request(
        "/v1/batch?" + "a=b&" * 15_000, JSON, b'{"batch":[' + fill(MESSAGE, most=4 * 2**20) + b"]}"
    ),
    "one message": lambda: gzipped("/v1/track", JSON, MESSAGE[:-1] + b',"properties":[' + fill(b'""') + b"]}"),
    "one message with a key": lambda: gzipped(
        "/v1/track", JSON, MESSAGE[:-1] + b',"writeKey":"k","properties":[' + fill(b'""', most=MOST - 400) + b"]}"
    ),
    "OTLP JSON": lambda: Request("/v1/logs", JSON, OTLP % fill(RECORD)),
    "OTLP JSON, records of numbers": lambda: gzipped(
        "/v1/logs", JSON, OTLP % b",".join([b'{"body":[' + fill(b"1", most=2**20 - 100) + b"]}"] * 9)
    ),
    "OTLP JSON, a large resource and empty records": lambda: gzipped(
        "/v1/logs",
        JSON,
        b'{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"%b"}}]},"scopeLogs":[%b]}]}'
        % (b"a" * 60_000, b",".join([b'{"logRecords":[' + fill(b"{}", most=8000) + b"]}"] * 3)),
    ),
    "OTLP JSON, one record of many values": lambda: gzipped(
        "/v1/logs", JSON, OTLP % (b'{"attributes":[' + fill(b'{"key":"a","value":{}}') + b"]}")
    ),
    "OTLP protobuf": lambda: Request("/v1/logs", PROTOBUF, protobuf()),
    "OTLP protobuf, records of many values": lambda: Request("/v1/logs", PROTOBUF, many_values()),
    "OTLP protobuf, quotes": lambda: gzipped("/v1/logs", PROTOBUF, texts(b'"' * (2**20 - 100))),
    "OTLP protobuf, control characters": lambda: gzipped("/v1/logs", PROTOBUF, texts(b"\x01" * (2**20 - 100))),
    "OTLP protobuf, a large resource and empty records": lambda: gzipped(
        "/v1/logs", PROTOBUF, large_resource(b"\x0a\x02\x12\x00" * 8000, 3000)
    ),
    "OTLP protobuf, unknown fields": lambda: gzipped("/v1/logs", PROTOBUF, b"\x20\x00" * (MOST // 2 - 100)),
    "OTLP protobuf, empty records, pipelined": lambda: gzipped("/v1/logs", PROTOBUF, empty_records(8000), times=200),
    "OTLP JSON, empty records, pipelined": lambda: gzipped(
        "/v1/logs", JSON, OTLP % fill(b"{}", most=16_000), times=200
    ),
    "invalid lines, pipelined": lambda: gzipped("/events", LINES, b"{}\n" * 40_000, times=200),
    "heads of their own, pipelined": lambda: Request("/events", JSON, b"[]", "", "X-Request-Id: 1\r\n", 1000),
    "chunks of one byte": lambda: Request(
        "/events", LINES, b"1\r\n\n\r\n" * 200_000 + b"0\r\n\r\n", headers="Transfer-Encoding: chunked\r\n"
    ),
}
"""What each is, and what makes it."""
