"""Frames out of a stream that arrives in pieces of any size."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hermes.broker.wire.frames import FrameReader, encode_frame

MOST = 40


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(st.binary(max_size=MOST), max_size=8), st.lists(st.integers(0, 300), max_size=20))
def test_frames_are_the_same_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    reader = FrameReader(MOST)
    found = [frame for piece in pieces(b"".join(map(encode_frame, messages)), cuts) for frame in reader.feed(piece)]
    assert found == messages
    assert not reader.begun
    assert reader.too_large is None


@given(
    st.lists(st.binary(max_size=MOST), max_size=4),
    st.integers(MOST + 1, 2**32 - 1),
    st.binary(max_size=60),
    st.lists(st.integers(0, 300), max_size=20),
)
def test_a_length_too_large_ends_the_stream_after_the_frames_before_it(
    messages: list[bytes], size: int, rest: bytes, cuts: list[int]
) -> None:
    reader = FrameReader(MOST)
    stream = b"".join(map(encode_frame, messages)) + struct.pack(">I", size) + rest
    found = [frame for piece in pieces(stream, cuts) for frame in reader.feed(piece)]
    assert found == messages
    assert reader.too_large is not None
    assert (reader.too_large.size, reader.feed(encode_frame(b"x"))) == (size, [])


@given(st.integers(0, MOST), st.binary(max_size=MOST))
def test_a_frame_has_begun_once_its_length_is_there(size: int, body: bytes) -> None:
    reader = FrameReader(MOST)
    head = struct.pack(">I", size)
    assert reader.feed(head[:3]) == []
    assert not reader.begun
    found = reader.feed(head[3:] + body[:size])
    assert found == ([body[:size]] if len(body) >= size else [])
    assert reader.begun == (len(body) < size)
