"""Content codings: what they decode to, where they stop, and that no body costs more than its length allows."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hermes.net.http.content import CODINGS, MAX_MEMBERS, ContentError, ContentTooLarge, decode_parts
from tests.growth import assert_linear

LIMIT = 10 * 2**20


def _raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


def _zstd_of_unknown_size(data: bytes) -> bytes:
    coder = zstandard.ZstdCompressor().compressobj()
    return coder.compress(data) + coder.flush()


def _zstd_with_window(data: bytes, log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=log)
    coder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return coder.compress(data) + coder.flush()


def _zstd_skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
    ("zstd", zstandard.ZstdCompressor().compress),
    ("zstd", _zstd_of_unknown_size),
]
each_coding = pytest.mark.parametrize(
    ("coding", "encode"), ENCODERS, ids=["gzip", "x-gzip", "zlib", "raw-deflate", "zstd", "zstd-unknown-size"]
)


def decode(coding: str, body: bytes) -> bytes:
    return b"".join(decode_parts(coding, body, LIMIT))


@each_coding
@given(data=st.binary(max_size=5000) | st.builds(lambda n: bytes(n), st.integers(0, 300_000)))
def test_what_was_encoded_is_decoded(coding: str, encode: Callable[[bytes], bytes], data: bytes) -> None:
    assert decode(coding, encode(data)) == data


@pytest.mark.parametrize("coding", ["", "identity"])
def test_no_coding_leaves_the_body_alone(coding: str) -> None:
    assert coding in CODINGS
    assert b"".join(decode_parts(coding, b"as it is", 0)) == b"as it is"


@each_coding
def test_a_body_of_exactly_the_limit_is_decoded_and_one_byte_more_is_not(
    coding: str, encode: Callable[[bytes], bytes]
) -> None:
    assert len(decode(coding, encode(bytes(LIMIT)))) == LIMIT
    with pytest.raises(ContentTooLarge):
        decode(coding, encode(bytes(LIMIT + 1)))


@each_coding
@pytest.mark.parametrize("before", [0, 1, 3], ids=["alone", "second-member", "fourth-member"])
def test_a_bomb_stops_at_the_limit_in_bounded_memory(
    coding: str, encode: Callable[[bytes], bytes], before: int
) -> None:
    # A member that comes before is more of a bomb in gzip and zstd, and nonsense in deflate, which ends with the first.
    body = encode(b"") * before + encode(bytes(60 * 2**20))
    tracemalloc.start()
    with pytest.raises(ContentError if coding == "deflate" and before else ContentTooLarge):
        decode(coding, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT + 12 * 2**20


@each_coding
def test_a_body_cut_at_any_byte_is_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    body = encode(b"some text, some more text, and then some more of the same text")
    for length in range(len(body)):
        with pytest.raises(ContentError):
            decode(coding, body[:length])


@each_coding
@pytest.mark.parametrize("junk", [b"junk", b"\0" * 20, b"{"])
def test_bytes_after_the_end_are_refused(coding: str, encode: Callable[[bytes], bytes], junk: bytes) -> None:
    with pytest.raises(ContentError):
        decode(coding, encode(b"text") + junk)


@each_coding
@given(data=st.data())
def test_any_bytes_are_decoded_or_refused(coding: str, encode: Callable[[bytes], bytes], data: st.DataObject) -> None:
    body = bytearray(encode(b"some text, some more text, and then some more of the same text"))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(ContentError, ContentTooLarge):
        decode(coding, bytes(body))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_in_a_row_are_one_body(coding: str) -> None:
    encode = dict(ENCODERS)[coding]
    assert decode(coding, b"".join(map(encode, (b"", b"one ", b"two ", b"", b"three")))) == b"one two three"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_body_of_very_many_members_is_refused(coding: str, data: bytes) -> None:
    member = dict(ENCODERS)[coding](data)
    assert decode(coding, member * MAX_MEMBERS) == data * MAX_MEMBERS

    def refuse(times: int) -> None:
        with pytest.raises(ContentError, match=f"more than {MAX_MEMBERS} members"):
            decode(coding, member * times)

    assert_linear(refuse, int, LIMIT // len(member))


def test_skippable_frames_of_zstd_are_skipped() -> None:
    frame = zstandard.ZstdCompressor().compress
    body = _zstd_skippable(b"a note") + frame(b"one ") + _zstd_skippable(b"") + frame(b"two")
    assert decode("zstd", body) == b"one two"


def test_zstd_that_needs_much_memory_for_its_window_is_refused() -> None:
    assert decode("zstd", _zstd_with_window(b"text" * 1000, 23)) == b"text" * 1000
    with pytest.raises(ContentError, match="more memory"):
        decode("zstd", _zstd_with_window(b"text" * 1000, 27))


def test_the_refusal_says_what_is_wrong() -> None:
    for body, words in ((b"{}", "of another coding"), (gzip.compress(b"x")[:-1], "in the middle")):
        with pytest.raises(ContentError, match=words):
            decode("gzip", body)


@pytest.mark.parametrize("coding", sorted(CODINGS - {"", "identity"}))
def test_a_body_that_cannot_be_read_is_told_without_the_words_of_a_library(coding: str) -> None:
    with pytest.raises(ContentError) as raised:
        b"".join(decode_parts(coding, b"\x1f\x8bxxxx neither of this nor of another coding", 1000))
    assert not re.search(r"Error|decompress|decoder|LZ4|snappy:|brotli", str(raised.value))
