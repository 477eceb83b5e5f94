"""The codings of an extra: what they decode to, where they stop, and what a service without their libraries says."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import brotli
import cramjam
import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.events.ingest import route
from hermes.net.http import extra_codings
from hermes.net.http.content import CODINGS, ContentError, ContentTooLarge, decode_parts
from tests.net.http.kit import Wire, event, post

LIMIT = 2 * 2**20

ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "br": ("br", lambda data: bytes(brotli.compress(data, quality=5))),
    "lz4": ("lz4", lz4.frame.compress),
    "lz4-frames": ("lz4", lambda data: lz4.frame.compress(data[:9]) + lz4.frame.compress(data[9:])),
    "snappy": ("snappy", lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy-framed": ("snappy", lambda data: bytes(cramjam.snappy.compress(data))),
    "x-snappy-framed": ("x-snappy-framed", lambda data: bytes(cramjam.snappy.compress(data))),
}
# Where a body of several parts may be cut and is one of fewer, for it says nowhere how many it has.
ENDS = {"snappy-framed": {10}, "x-snappy-framed": {10}, "lz4-frames": {len(lz4.frame.compress(b"some text"))}}
EVERY_ONE = pytest.mark.parametrize("name", ENCODERS)


def encode(name: str, data: bytes) -> bytes:
    return ENCODERS[name][1](data)


def decode(name: str, body: bytes) -> bytes:
    return b"".join(decode_parts(ENCODERS[name][0], body, LIMIT))


@EVERY_ONE
@given(data=st.binary(max_size=3000) | st.builds(lambda n: bytes(n), st.integers(0, 300_000)))
def test_what_was_encoded_is_decoded(name: str, data: bytes) -> None:
    assert decode(name, encode(name, data)) == data


@EVERY_ONE
def test_a_bomb_stops_at_the_limit_in_bounded_memory(name: str) -> None:
    assert len(decode(name, encode(name, bytes(LIMIT)))) == LIMIT
    body = encode(name, bytes(60 * 2**20))
    tracemalloc.start()
    with pytest.raises(ContentTooLarge):
        decode(name, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * LIMIT + 12 * 2**20


@EVERY_ONE
def test_a_body_cut_or_followed_by_junk_is_refused(name: str) -> None:
    body = encode(name, b"some text, some more text, and then some more of the same text")
    for length in range(1, len(body)):
        if length in ENDS.get(name, ()):
            assert decode(name, body[:length]) in {b"", b"some text"}
        else:
            with pytest.raises(ContentError):
                decode(name, body[:length])
    for junk in (b"junk", b"\0" * 20, b"{"):
        with pytest.raises(ContentError):
            decode(name, body + junk)


@EVERY_ONE
@given(body=st.binary(max_size=100), prefix=st.integers(0, 30))
def test_any_bytes_are_decoded_or_refused(name: str, body: bytes, prefix: int) -> None:
    for sent in (body, encode(name, b"x" * 50)[:prefix] + body):
        with suppress(ContentError, ContentTooLarge):
            decode(name, sent)


@EVERY_ONE
def test_events_come_in_every_coding(name: str) -> None:
    wire = Wire()
    (answer,) = wire.feed(post(encode(name, event("a")), b"Content-Encoding: " + ENCODERS[name][0].encode()))
    assert (answer.status, wire.intake.ids) == (202, ["a"])


def test_zlib_is_deflate_and_needs_no_extra() -> None:
    assert b"".join(decode_parts("zlib", zlib.compress(b"text"), LIMIT)) == b"text"
    assert set(extra_codings.EXTRA_DECODERS) == {"br", "lz4", "snappy", "x-snappy-framed"} <= CODINGS


def test_without_the_extra_a_coding_is_415_and_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "CODINGS", CODINGS - {"br"})
    monkeypatch.setattr(route, "MISSING_CODINGS", frozenset({"br"}))
    (answer,) = Wire().feed(post(b"", b"Content-Encoding: br"))
    assert answer.status == 415
    assert "install 'hermes-events[codings]'" in answer.json["detail"]
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"
