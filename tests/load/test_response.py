"""Response framing: the same bytes cut at every point, each kind of body, and what is no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.load.response import MAX_HEAD_BYTES, Answer, Malformed, ResponseReader, Truncated

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "no body": (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", Answer(202, True)),
    "a body": (OK + b'Content-Length: 14 \r\nDate: x\r\n\r\n{"accepted":1}', Answer(200, True)),
    "a body with a head in it": (OK + b"content-length:21\r\n\r\nHTTP/1.1 500 No\r\n\r\nab", Answer(200, True)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, True)),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", Answer(304, True)),
    "no reason": (b"HTTP/1.1 503\r\ncontent-length: 0\r\n\r\n", Answer(503, True)),
    "close": (OK + b"Connection: keep-alive , Close\r\ncontent-length: 2\r\n\r\nhi", Answer(200, False)),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", Answer(200, False)),
    "1.0 kept": (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 0\r\n\r\n", Answer(200, True)),
    "chunked": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
        Answer(200, True),
    ),
    "chunked with a trailer": (
        OK + b"transfer-encoding: gzip, chunked\r\ncontent-length: 3\r\n\r\n1\r\n\r\r\n00\r\nDigest: 1\r\n\r\n",
        Answer(200, True),
    ),
    "interim answers first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n",
        Answer(202, True),
    ),
    "the same length twice": (OK + b"content-length: 1\r\nContent-Length: 1\r\n\r\nx", Answer(200, True)),
}


def feed(reader: ResponseReader, *parts: bytes) -> list[Answer | None]:
    return [reader.receive(part) for part in parts]


@pytest.mark.parametrize(("data", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_cut_anywhere_completes_with_its_last_byte(data: bytes, answer: Answer) -> None:
    assert ResponseReader().receive(data) == answer
    reader = ResponseReader()
    for cut in range(1, len(data)):
        assert feed(reader, data[:cut], data[cut:]) == [None, answer], f"cut at {cut}"
    assert feed(reader, *(data[at : at + 1] for at in range(len(data)))) == [None] * (len(data) - 1) + [answer]


@given(st.data())
def test_answers_one_after_the_other_cut_at_random_are_told_apart(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=4))
    reader = ResponseReader()
    for name in chosen:
        text, answer = ANSWERS[name]
        cuts = data.draw(st.lists(st.integers(1, len(text) - 1), max_size=5, unique=True).map(sorted))
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert feed(reader, *parts) == [None] * len(cuts) + [answer]


@pytest.mark.parametrize(
    "head", [OK + b"server: x\r\n\r\n", OK + b"transfer-encoding: gzip\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
def test_a_body_of_unknown_length_ends_with_the_connection(head: bytes) -> None:
    reader = ResponseReader()
    assert feed(reader, head + b"part", b"another") == [None, None]
    assert reader.receive_eof() == Answer(200, False)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_connection_that_ends_within_an_answer_truncates_it(name: str) -> None:
    data, _ = ANSWERS[name]
    for cut in range(1, len(data)):
        reader = ResponseReader()
        reader.receive(data[:cut])
        if name == "interim answers first" and data[:cut].endswith(b"\r\n\r\n"):
            continue  # between two answers; see the next test
        with pytest.raises(Truncated) as caught:
            reader.receive_eof()
        assert caught.value.started


def test_a_connection_that_ends_between_answers_is_told_from_a_truncated_one() -> None:
    reader = ResponseReader()
    reader.receive(ANSWERS["a body"][0])
    with pytest.raises(Truncated) as caught:
        reader.receive_eof()
    assert not caught.value.started


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"<html>",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 1, 1\r\n\r\nx",
        OK + b"content-length:\r\n\r\n",
        OK + b"content-length: 9999999999999999\r\n\r\n",
        OK + b"content-length: 1\r\n\r\nxy",
        OK + b"content-length: 0\r\n\r\n" + OK,
        OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nmore",
        OK + b"x: " + b"y" * MAX_HEAD_BYTES,
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"0" * (MAX_HEAD_BYTES + 1),
    ],
)
def test_what_is_no_answer_to_one_request_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        ResponseReader().receive(data)


def test_a_large_body_is_counted_past_and_not_kept() -> None:
    reader = ResponseReader()
    reader.receive(OK + b"content-length: 50000000\r\n\r\n")
    block = bytes(1_000_000)
    assert feed(reader, *[block] * 49) == [None] * 49
    assert reader._buffer == b""
    assert reader.receive(block) == Answer(200, True)
