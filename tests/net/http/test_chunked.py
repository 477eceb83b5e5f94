"""The chunked transfer coding by itself: exact ends, bounds, and the same result however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.net.http.chunked import MAX_LINE, MAX_TRAILER_LINES, BodyTooLarge, ChunkedDecoder, ChunkedError
from tests.net.http.kit import chunked

LIMIT = 1000


def feed(*pieces: bytes, limit: int = LIMIT) -> tuple[bytes, bytes | None]:
    """The body, and what came after it (None: it is not over)."""
    decoder = ChunkedDecoder(limit)
    rest = b""
    for piece in pieces:
        rest += piece
        # Many chunks are taken in several feeds.
        while rest and not decoder.done:
            rest = decoder.feed(rest)
    return bytes(decoder.body), rest if decoder.done else None


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=20), st.data())
def test_a_body_is_read_to_its_exact_end_wherever_it_is_cut(
    chunks: list[bytes], after: bytes, data: st.DataObject
) -> None:
    stream = chunked(*chunks) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    expected = b"".join(chunks), after
    assert feed(stream) == expected
    assert feed(*[stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected
    assert feed(*[stream[n : n + 1] for n in range(len(stream))]) == expected


@pytest.mark.parametrize("length", range(len(chunked(b"hello", b"you"))))
def test_a_body_that_is_cut_off_is_not_over(length: int) -> None:
    assert feed(chunked(b"hello", b"you")[:length])[1] is None


@pytest.mark.parametrize(
    "stream",
    [
        b"A\r\n0123456789\r\n0\r\n\r\n",
        b"00a\r\n0123456789\r\n000\r\n\r\n",
        b"a;x=y\r\n0123456789\r\n0;z\r\n\r\n",
        b"a \t;x\r\n0123456789\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n",
    ],
)
def test_odd_but_valid_forms_are_read(stream: bytes) -> None:
    assert feed(stream + b"next") == (b"0123456789", b"next")


def test_the_limit_counts_the_body_and_stops_at_the_size_that_passes_it() -> None:
    assert feed(chunked(b"x" * LIMIT)) == (b"x" * LIMIT, b"")
    for stream in (b"3e9\r\n", b"3e8\r\n%b\r\n1\r\n" % (b"x" * LIMIT), b"fffffffffffffff\r\n"):
        with pytest.raises(BodyTooLarge):
            feed(stream)
        with pytest.raises(BodyTooLarge):
            feed(*[stream[n : n + 1] for n in range(len(stream))])


@pytest.mark.parametrize("cut", [False, True])
def test_lines_and_trailers_are_bounded(cut: bool) -> None:
    def run(stream: bytes) -> bytes | None:
        return feed(*([stream[n : n + 1] for n in range(len(stream))] if cut else [stream]))[1]

    assert run(b"0;" + b"x" * (MAX_LINE - 2) + b"\r\n\r\n") == b""
    assert run(b"0\r\n" + b"A: b\r\n" * MAX_TRAILER_LINES + b"\r\n") == b""
    for stream in (
        b"0;" + b"x" * MAX_LINE + b"\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * (MAX_TRAILER_LINES + 1) + b"\r\n",
        b"0\r\nA:" + b"x" * MAX_LINE,
    ):
        with pytest.raises(ChunkedError):
            run(stream)


@given(st.binary(max_size=60), st.data())
def test_any_bytes_are_read_or_refused_alike_wherever_they_are_cut(noise: bytes, data: st.DataObject) -> None:
    stream = bytearray(chunked(b"hello", b"you") + b"next")
    at = data.draw(st.integers(0, len(stream)))
    stream[at : at + data.draw(st.integers(0, 4))] = noise

    def outcome(*pieces: bytes) -> object:
        try:
            return feed(*pieces)
        except (ChunkedError, BodyTooLarge) as error:
            return type(error), str(error)

    whole = bytes(stream)
    assert outcome(*[whole[n : n + 1] for n in range(len(whole))]) == outcome(whole)
