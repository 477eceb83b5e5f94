"""Answers recognised without parsing: never anything else than what the reader says."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes.load.known import MAX_SHAPES, KnownAnswers
from hermes.load.response import Answer, Malformed, ResponseReader

ACCEPTED = b'HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\ndate: %b\r\nx-request-id: %b\r\n\r\n{"accepted":1}'


def parsed(data: bytes) -> Answer | None:
    try:
        return ResponseReader().receive(data)
    except Malformed:
        return None


def test_answers_that_differ_in_date_and_request_id_are_one_shape() -> None:
    known = KnownAnswers()
    assert known.status(ACCEPTED % (b"now", b"1")) is None
    known.learn(ACCEPTED % (b"now", b"1"), 202)
    assert known.status(ACCEPTED % (b"now", b"1")) == 202
    assert known.status(ACCEPTED % (b"a second later", b"another")) == 202


@pytest.mark.parametrize(
    "other",
    [
        (ACCEPTED % (b"now", b"1"))[:-1],
        ACCEPTED % (b"now", b"1") + b"x",
        ACCEPTED % (b"now\r\nconnection: close", b"1"),
        (ACCEPTED % (b"now", b"1")).replace(b": 14", b": 15"),
        (ACCEPTED % (b"now", b"1")).replace(b"202", b"200"),
        (ACCEPTED % (b"now", b"1")).replace(b"date", b"transfer-encoding"),
        (ACCEPTED % (b"now", b"1"))[20:],
    ],
)
def test_bytes_that_are_framed_otherwise_are_left_to_the_reader(other: bytes) -> None:
    known = KnownAnswers()
    known.learn(ACCEPTED % (b"now", b"1"), 202)
    assert known.status(other) is None


FIELDS = (
    b"a: 1|a: 2|a:|b: x|no colon| folded: 1|content-length: 0|content-length: 2|Content-Length: 2|connection: close|"
    b"Connection: keep-alive|transfer-encoding: chunked"
).split(b"|")
answers = st.builds(
    lambda first, fields, body: b"\r\n".join([first, *fields, b"", body]),
    st.sampled_from([b"HTTP/1.1 202 A", b"HTTP/1.0 200 B", b"HTTP/1.1 204 C", b"HTTP/1.1 503", b"HTTP/1.1 100 D"]),
    st.lists(st.sampled_from(FIELDS), max_size=4),
    st.sampled_from(
        [b"", b"xx", b"yy", b"0\r\n\r\n", b"\r\n", b"HTTP/1.1 204 C\r\n\r\n", b"HTTP/1.1 503\r\na: 2\r\n\r\n"]
    ),
)


@given(st.lists(answers, max_size=12), answers)
@example([b"HTTP/1.1 100 D\r\n\r\nHTTP/1.1 204 C\r\n\r\n"], b"HTTP/1.1 100 D\r\n\r\nHTTP/1.1 503 E\r\n\r\n")
def test_a_known_status_is_always_the_one_that_the_reader_finds(learned: list[bytes], asked: bytes) -> None:
    known = KnownAnswers()
    for data in learned:
        answer = parsed(data)
        if answer is not None and answer.reusable:
            known.learn(data, answer.status)
    status = known.status(asked)
    if status is not None:
        assert parsed(asked) == Answer(status, True)


def test_a_server_with_ever_new_shapes_teaches_a_bounded_number() -> None:
    known = KnownAnswers()
    varied = [b"HTTP/1.1 200 OK\r\nname-%d: x\r\ncontent-length: 0\r\n\r\n" % number for number in range(100)]
    for data in varied:
        known.learn(data, 200)
    assert sum(known.status(data) is not None for data in varied) == MAX_SHAPES
