"""One connection, sans-IO: order, framing, ends, bounds, and the same answers however the bytes are cut."""

from __future__ import annotations

import gzip
import re
import socket

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.events.ack import Outcome
from hermes.net.http.connection import FREE_BYTES, MAX_SLOTS, MAX_UNSENT, Connection
from hermes.net.http.head import MAX_HEAD_BYTES, Heads, Route
from hermes.net.http.lane import BodyBudget, Lane, Timeouts
from hermes.net.http.peer import Peer
from hermes.net.http.phase import Phase
from hermes.net.http.response import Response
from tests.net.http.kit import FakeIntake, Wire, chunked, event, head, post, post_chunked, read_answers

ONE = post(event())
METRICS = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"


def blocked(room: int = 0) -> Wire:
    """A wire whose requests wait for room."""
    return Wire(FakeIntake(room=room, blocking=True))


# --- order -----------------------------------------------------------------------------------------------------------


def test_a_turn_that_is_over_costs_no_client_its_connection_where_the_budget_has_no_room() -> None:
    wire = Wire()
    wire.lane.turn_ends = -1.0
    keyless = wire.lane.body_budget.keyless
    while keyless.reserve(1024):
        pass  # others hold all of it
    count = 2 * FREE_BYTES // len(ONE)
    wire.connection.receive(ONE * count)
    while wire.connection.deferred:
        wire.connection.resume()
        assert wire.connection.hold()
    assert len(wire.intake.ids) == count


def test_requests_that_came_at_once_are_served_one_by_one_when_each_takes_a_turn() -> None:
    wire = Wire()
    wire.lane.turn_ends = -1.0  # over already, so that one request is served in each turn
    wire.connection.receive(post(event("1")) + post(event("2")) + b"\r\n" * 30_000 + post(event("3"))[:-1])
    served = []
    while wire.connection.deferred:
        assert not wire.connection.wants_bytes
        served += read_answers(b"".join(wire.connection.out))
        wire.connection.out.clear()
        wire.connection.unsent = 0
        wire.connection.resume()
    assert len(served) == 2
    assert wire.connection.wants_bytes
    assert [answer.status for answer in (*served, *wire.feed(event("3")[-1:]))] == [202] * 3
    assert wire.intake.ids == ["1", "2", "3"]


@pytest.mark.parametrize("room", [True, False], ids=["room", "no-room"])
def test_a_chunked_body_is_read_in_turns_as_it_is_read_at_once(room: bool) -> None:
    wire = Wire()
    wire.lane.turn_ends = -1.0
    keyless = wire.lane.body_budget.keyless
    while not room and keyless.reserve(1024):
        pass  # others hold all of it
    used, body = wire.used(), event("1") + b"\n" * 9000
    sent = post_chunked(*[body[n : n + 1] for n in range(len(body))]) + post(event("2"))
    wire.connection.receive(sent)
    # Without room for the rest all of it is read now: the client must not lose its connection for that.
    assert (wire.phase is Phase.BODY) == room
    turns = 0
    while wire.connection.deferred:
        assert not wire.connection.wants_bytes
        assert wire.connection.hold()
        # The bytes that wait are in the budget, as the bytes of the body are.
        assert not room or turns > 1 or wire.used() - used > len(sent) // 4
        wire.connection.resume()
        turns += 1
    assert turns >= (3 if room else 0)
    assert [answer.status for answer in wire.answers()] == [202, 202]
    assert wire.intake.ids == ["1", "2"]
    assert wire.connection.hold()
    assert wire.used() == used


def test_a_chunked_body_that_waits_for_turns_earns_no_time() -> None:
    wire = Wire()
    wire.lane.turn_ends = -1.0
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer(ours, wire.lane, lambda _peer: None)
        timeouts = Timeouts(header=10, body=60, idle=75, write=30)
        begin = head(b"Transfer-Encoding: chunked")
        peer.connection.receive(begin)
        peer.set_deadline(0.0, timeouts)
        for now in range(1, 4):
            peer.connection.receive(b"1\r\n\n\r\n" * 3000)
            while peer.connection.deferred:
                peer.set_deadline(float(now), timeouts)
                peer.connection.resume()
            peer.set_deadline(float(now), timeouts)
        assert peer.deadline == 60.0
        assert not peer.held_back


def test_pipelined_requests_are_answered_in_order() -> None:
    wire = Wire()
    answers = wire.feed(
        post(event("a")) + post(b"{}") + post_chunked(event("b")) + post(event("c"), b"X-Request-Id: c")
    )
    assert [answer.status for answer in answers] == [202, 400, 202, 202]
    assert answers[3].headers["x-request-id"] == "c"
    assert wire.intake.ids == ["a", "b", "c"]
    assert wire.phase is Phase.IDLE


def test_a_wait_holds_back_the_responses_after_it_and_no_others() -> None:
    wire = blocked(room=1)
    assert [a.status for a in wire.feed(post(event("a")), post(event("b")), post(b"{}"), post(event("c")))] == [202]
    assert len(wire.connection.waiting) == 3
    wire.intake.make_room(1)
    assert [answer.status for answer in wire.answers()] == [202, 400]
    wire.intake.make_room(1)
    assert [answer.status for answer in wire.answers()] == [202]
    assert wire.intake.ids == ["a", "b", "c"]
    assert wire.calls == 2


def test_waits_that_end_in_another_order_are_answered_in_the_order_of_their_requests() -> None:
    wire = blocked()
    assert wire.feed(post(event("a")) + post(event("b"))) == []
    wire.intake.waiting[1][1](Outcome.TAKEN, None)
    assert wire.answers() == []
    wire.intake.waiting[0][1](Outcome.NO_ROOM, None)
    assert [answer.status for answer in wire.answers()] == [503, 202]


def test_a_wait_that_is_over_at_once_is_answered_at_once() -> None:
    wire = blocked()
    wire.intake.make_room(2)
    assert [answer.status for answer in wire.feed(ONE + ONE)] == [202, 202]
    assert wire.connection.answered
    assert wire.lane.inflight == 0


def test_more_waits_than_the_bound_leave_the_rest_unread_until_there_is_room() -> None:
    wire = blocked()
    wire.feed(b"".join(post(event(str(n))) for n in range(MAX_SLOTS + 10)))
    assert len(wire.intake.waiting) == MAX_SLOTS
    assert not wire.connection.wants_bytes
    wire.intake.make_room(10**6)
    assert len(wire.answers()) == MAX_SLOTS + 10
    assert wire.intake.ids == [str(n) for n in range(MAX_SLOTS + 10)]
    assert wire.connection.wants_bytes


def test_responses_that_the_client_leaves_unread_stop_the_reading_of_its_requests() -> None:
    wire = Wire()
    tiny = b"POST /events HTTP/1.1\r\nHost:\r\nContent-Length:0\r\n\r\n"
    wire.connection.receive(tiny * 5_000)
    assert MAX_UNSENT <= wire.connection.unsent < MAX_UNSENT + 1_000
    assert not wire.connection.wants_bytes
    assert len(wire.answers()) == 5_000
    assert wire.phase is Phase.IDLE


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "lines", "kept"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: Keep-Alive, Close"], False),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: close"], False),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["new-head", "known-head"])
def test_a_connection_is_kept_as_its_version_and_header_say(
    version: bytes, lines: list[bytes], kept: bool, known: bool
) -> None:
    request = post(event(), *lines).replace(b"HTTP/1.1", b"HTTP/" + version)
    wire = Wire()
    if known:
        Wire(lane=wire.lane).feed(request)
    (answer,) = wire.feed(request)
    assert answer.status == 202
    assert (answer.headers.get("connection") == "close") is not kept
    assert wire.phase is (Phase.IDLE if kept else Phase.CLOSING)
    if kept and version == b"1.0":
        assert answer.headers["connection"] == "keep-alive"


@pytest.mark.parametrize(
    "first", [post(event("a"), b"Connection: close"), post_chunked(event("a"), lines=[b"Connection: close"])]
)
@pytest.mark.parametrize("cut", [False, True])
def test_nothing_is_read_after_the_request_that_closes(first: bytes, cut: bool) -> None:
    wire = Wire()
    data = first + post(event("b"))
    answers = wire.feed(data[: len(first) - 5], data[len(first) - 5 :]) if cut else wire.feed(data)
    assert [answer.status for answer in answers] == [202]
    assert wire.feed(post(event("c"))) == []
    assert wire.intake.ids == ["a"]
    assert wire.phase is Phase.CLOSING


def test_a_request_that_closes_and_waits_is_answered_before_the_end() -> None:
    wire = blocked()
    wire.feed(post(event("a"), b"Connection: close") + post(event("b")))
    assert not wire.connection.answered
    wire.intake.make_room(5)
    (answer,) = wire.answers()
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert wire.connection.answered
    assert wire.intake.ids == ["a"]


@pytest.mark.parametrize(
    "part",
    [
        b"POST /ev",
        head(b"Content-Length: 50"),
        head(b"Content-Length: 50") + b"{",
        head(b"Transfer-Encoding: chunked") + b"5\r\nab",
    ],
)
def test_an_end_of_stream_within_a_request_ends_the_connection_and_gives_back_what_it_held(part: bytes) -> None:
    wire = Wire()
    assert wire.feed(part) == []
    wire.connection.receive_eof()
    assert wire.answers() == []
    assert wire.phase is Phase.CLOSING
    assert wire.connection.answered
    assert (wire.used(), wire.lane.inflight) == (0, 0)


def test_a_client_that_leaves_takes_its_waiting_events_along() -> None:
    for leave in (Connection.receive_eof, Connection.drop):
        wire = blocked()
        wire.feed(post(event("a")) + post(event("b")))
        leave(wire.connection)
        wire.intake.make_room(5)
        assert wire.intake.taken == []
        assert wire.lane.inflight == 0


def test_waits_are_called_off_with_their_routes_answer() -> None:
    wire = blocked()
    wire.feed(ONE + ONE)
    wire.connection.call_off()
    assert [(a.status, a.headers["retry-after"]) for a in wire.answers()] == [(503, "7"), (503, "7")]
    assert wire.rejected == {"queue_full": 2}


def test_while_draining_every_answer_says_that_the_connection_closes() -> None:
    for request in (ONE, post(event(), b"Connection: keep-alive"), post_chunked(event())):
        wire = Wire()
        wire.feed(request)
        wire.lane.draining = True
        (answer,) = wire.feed(request + request)
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert wire.phase is Phase.CLOSING
        assert len(wire.intake.taken) == 2


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (b"POST /ev", "headers"),
        (head(b"Content-Length: 50"), "body"),
        (head(b"Content-Length: 50") + b"{", "body"),
        (head(b"Transfer-Encoding: chunked") + b"5\r\nab", "body"),
        (head(b"Content-Length: 5", b"Content-Type: text/html") + b"a", "body"),
    ],
)
def test_a_request_that_comes_too_slowly_is_answered_408(part: bytes, words: str) -> None:
    wire = Wire()
    assert wire.feed(part) == []
    wire.connection.time_out()
    (answer,) = wire.answers()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert words in answer.json["detail"]
    assert wire.phase is Phase.CLOSING
    assert (wire.used(), wire.lane.inflight) == (0, 0)


def test_an_idle_connection_that_times_out_ends_without_a_word() -> None:
    wire = Wire()
    wire.feed(ONE)
    wire.connection.time_out()
    assert wire.answers() == []
    assert wire.phase is Phase.CLOSING


def test_a_time_out_after_a_waiting_request_is_answered_in_its_turn() -> None:
    wire = blocked()
    wire.feed(ONE + b"POST /ev")
    wire.connection.time_out()
    assert wire.answers() == []
    wire.intake.make_room(1)
    assert [answer.status for answer in wire.answers()] == [202, 408]


# --- expectations and refusals ---------------------------------------------------------------------------------------


def test_a_body_that_waits_to_be_asked_for_is_asked_for_once() -> None:
    wire = Wire()
    for first in (
        head(b"Content-Length: 97", b"Expect: 100-continue"),
        head(b"Expect: 100-Continue", b"Transfer-Encoding: chunked"),
    ):
        body = chunked(event()) if b"chunked" in first else event()
        assert [answer.status for answer in wire.feed(first)] == [100]
        assert wire.feed(body[:20]) == []
        assert [answer.status for answer in wire.feed(body[20:])] == [202]


def test_a_body_that_is_here_already_is_not_asked_for() -> None:
    assert [answer.status for answer in Wire().feed(post(event(), b"Expect: 100-continue"))] == [202]


def test_an_http_1_0_client_is_not_told_to_continue() -> None:
    first = head(b"Content-Length: 97", b"Expect: 100-continue", first=b"POST /events HTTP/1.0")
    assert [answer.status for answer in Wire().feed(first, event())] == [202]


def test_asking_for_the_body_keeps_the_order() -> None:
    wire = blocked()
    assert wire.feed(ONE + head(b"Content-Length: 97", b"Expect: 100-continue")) == []
    wire.intake.make_room(1)
    assert [answer.status for answer in wire.answers()] == [202, 100]


def test_a_refused_request_that_waits_to_be_asked_for_its_body_is_answered_at_once() -> None:
    wire = Wire(keys=["secret"])
    (answer,) = wire.feed(head(b"Content-Length: 97", b"Expect: 100-continue"))
    assert (answer.status, answer.headers["connection"]) == (401, "close")


def test_a_refused_request_with_a_small_body_leaves_the_connection_usable() -> None:
    wire = Wire()
    for request in (post(event(), b"Content-Type: text/html"), post(b"", b"Content-Type: text/html")):
        for pieces in ([request + ONE], [request[:-1], request[-1:] + ONE] if request[-1:] == b"}" else [request, ONE]):
            answers = wire.feed(*pieces)
            assert [answer.status for answer in answers] == [415, 202]
            assert "connection" not in answers[0].headers


def test_a_refused_request_with_a_large_body_ends_the_connection_before_the_body_comes() -> None:
    wire = Wire(max_body_bytes=10**6)
    (answer,) = wire.feed(head(b"Content-Length: 65537", b"Content-Type: text/html"))
    assert (answer.status, answer.headers["connection"]) == (415, "close")
    assert wire.feed(b"x" * 65537 + ONE) == []


@pytest.mark.parametrize(("length", "status"), [(10_000, 400), (10_001, 413), (10**18, 413)])
def test_a_body_longer_than_the_limit_is_refused_by_its_length(length: int, status: int) -> None:
    wire = Wire()
    answers = wire.feed(head(b"Content-Length: %d" % length))
    assert [answer.status for answer in answers] == ([413] if status == 413 else [])
    if status == 400:
        assert [answer.status for answer in wire.feed(b" " * length)] == [400]


def test_a_chunked_body_longer_than_the_limit_is_refused_as_soon_as_a_size_says_so() -> None:
    wire = Wire()
    assert wire.feed(head(b"Transfer-Encoding: chunked") + b"2710\r\n" + b" " * 10_000 + b"\r\n") == []
    (answer,) = wire.feed(b"1\r\n")
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert "MAX_BODY_BYTES, 10000 bytes" in answer.json["detail"]
    assert wire.used() == 0


# --- framing ---------------------------------------------------------------------------------------------------------

MALFORMED = {
    "both-lengths": post(event(), b"Transfer-Encoding: chunked"),
    "both-lengths-swapped": head(b"Transfer-Encoding: chunked", b"Content-Length: 97") + event(),
    "two-lengths": post(event(), b"Content-Length: 97"),
    "two-different-lengths": post(event(), b"Content-Length: 5"),
    "length-list": head(b"Content-Length: 97, 97") + event(),
    "signed-length": head(b"Content-Length: +97") + event(),
    "negative-length": head(b"Content-Length: -1") + event(),
    "hexadecimal-length": head(b"Content-Length: 0x61") + event(),
    "length-with-a-space": head(b"Content-Length: 9 7") + event(),
    "empty-length": head(b"Content-Length:") + event(),
    "huge-length": head(b"Content-Length: 18446744073709551616") + event(),
    "obs-fold": head(b"X-Folded: a", b" b", b"Content-Length: 97") + event(),
    "obs-fold-of-a-length": head(b"Content-Length:", b" 97") + event(),
    "space-before-colon": head(b"Content-Length : 97") + event(),
    "space-before-name": head(b" Content-Length: 97") + event(),
    "te-space-before-colon": head(b"Transfer-Encoding : chunked") + chunked(event()),
    "te-gzip-chunked": head(b"Transfer-Encoding: gzip, chunked") + chunked(event()),
    "te-chunked-gzip": head(b"Transfer-Encoding: chunked, gzip") + chunked(event()),
    "te-twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + chunked(event()),
    "te-identity": head(b"Transfer-Encoding: identity", b"Content-Length: 97") + event(),
    "te-quoted": head(b'Transfer-Encoding: "chunked"') + chunked(event()),
    "te-prefixed": head(b"Transfer-Encoding: xchunked") + chunked(event()),
    "te-tab": head(b"Transfer-Encoding: \x0bchunked") + chunked(event()),
    "te-in-1.0": head(b"Transfer-Encoding: chunked", first=b"POST /events HTTP/1.0") + chunked(event()),
    "te-empty": head(b"Transfer-Encoding:") + chunked(event()),
    "nul-in-value": post(event(), b"X-A: a\0b"),
    "nul-in-name": post(event(), b"X\0A: b"),
    "cr-in-value": post(event(), b"X-A: a\rb"),
    "cr-for-crlf": post(event(), b"X-A: a\rContent-Length: 5"),
    "bare-lf": ONE.replace(b"Host: test\r\n", b"Host: test\n"),
    "bare-lf-before": b"\n" + ONE,
    "bare-lf-after-the-request-line": ONE.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "only-bare-lf": b"POST /events HTTP/1.1\nHost: test\nContent-Length: 2\n\n{}",
    "no-colon": post(event(), b"nonsense"),
    "empty-name": post(event(), b": value"),
    "name-with-a-space": post(event(), b"X A: b"),
    "no-host": ONE.replace(b"Host: test\r\n", b""),
    "two-hosts": post(event(), b"Host: other"),
    "two-spaces": ONE.replace(b"POST ", b"POST  "),
    "tab-for-space": ONE.replace(b"POST ", b"POST\t"),
    "no-version": ONE.replace(b" HTTP/1.1", b""),
    "version-1.2": ONE.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "version-lower-case": ONE.replace(b"HTTP/1.1", b"http/1.1"),
    "method-lower-case": ONE.replace(b"POST", b"post"),
    "no-method": ONE.replace(b"POST ", b" "),
    "control-in-target": ONE.replace(b"/events", b"/events\x01"),
    "raw-bytes-in-target": ONE.replace(b"/events", b"/\xff\xfe"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60 + b"\r\n\r\n",
    "nonsense": b"\0" * 100 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_and_nothing_after_it_is_read(request_bytes: bytes) -> None:
    wire = Wire()
    assert [answer.status for answer in wire.feed(ONE)] == [202]
    (answer,) = wire.feed(request_bytes + ONE)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]
    assert wire.phase is Phase.CLOSING
    assert wire.feed(ONE) == []
    assert len(wire.intake.taken) == 1
    assert (wire.used(), wire.lane.inflight) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        *(b"x\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b" 5\r\nhello\r\n", b"\r\n", b";ext\r\n", b"5\x005\r\n"),
        *(b"ffffffffffffffffff\r\n", b"5\r\nhelloo\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n"),
        *(b"5\nhello\n0\n\n", b"5\r\rhello", b"5;a\nb\r\nhello\r\n", b"5;\0\r\nhello\r\n", b"5\r\nhello\n0\r\n\r\n"),
        *(
            b"0\r\nTrailer\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\nA: b\r\n\r\n",
        ),
        *(b"5;" + b"x" * 5_000, b"0\r\n" + b"A: b\r\n" * 65 + b"\r\n", b"0\r\nA: " + b"b" * 5_000),
    ],
)
def test_a_malformed_chunked_body_is_refused_and_nothing_after_it_is_read(body: bytes) -> None:
    wire = Wire()
    (answer,) = wire.feed(head(b"Transfer-Encoding: chunked") + body + ONE)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "malformed" in answer.json["detail"]
    assert wire.feed(ONE) == []
    assert wire.intake.taken == []


def test_a_request_without_a_length_is_refused_411() -> None:
    (answer,) = Wire().feed(head() + event())
    assert (answer.status, answer.headers["connection"]) == (411, "close")


def test_a_body_longer_than_its_length_is_no_second_request() -> None:
    wire = Wire()
    answers = wire.feed(head(b"Content-Length: 97") + event() + b"garbage\r\n\r\n" + ONE)
    assert [answer.status for answer in answers] == [202, 400]
    assert len(wire.intake.taken) == 1


@pytest.mark.parametrize("empty_lines", [b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"])
def test_empty_lines_before_a_request_are_skipped(empty_lines: bytes) -> None:
    wire = Wire()
    assert [answer.status for answer in wire.feed(empty_lines + ONE + empty_lines + ONE)] == [202, 202]


@pytest.mark.parametrize("whole", [False, True])
def test_headers_larger_than_the_bound_are_refused_431(whole: bool) -> None:
    request = post(event(), b"X-Long: " + b"x" * MAX_HEAD_BYTES)
    wire = Wire()
    (answer,) = wire.feed(request) if whole else wire.feed(request[: MAX_HEAD_BYTES + 1])
    assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert wire.feed(ONE) == []


def test_headers_as_large_as_the_bound_are_read() -> None:
    request = post(event(), b"X-Long: " + b"x" * (MAX_HEAD_BYTES - len(ONE) + len(event()) - 10))
    assert request.index(b"{") == MAX_HEAD_BYTES
    assert [answer.status for answer in Wire().feed(request)] == [202]


def test_a_bare_lf_is_refused_before_the_headers_end() -> None:
    (answer,) = Wire().feed(b"POST /events HTTP/1.1\nHost: test\n")
    assert answer.status == 400
    assert "bare LF" in answer.json["detail"]


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_body_counts_against_the_budget_as_it_arrives_and_not_before() -> None:
    wire = Wire(budget=1_000, max_body_bytes=2_000)
    wire.feed(head(b"Content-Length: 1500") + b" " * 400)
    other = Wire(lane=wire.lane)
    assert wire.used() == 400
    other.feed(head(b"Content-Length: 700") + b" " * 500)
    assert wire.used() == 900
    (answer,) = wire.feed(b" " * 200)
    assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
    assert wire.used() == 500
    assert [answer.status for answer in other.feed(b" " * 200)] == [400]
    assert (wire.used(), wire.lane.inflight) == (0, 0)


def test_a_chunked_body_counts_against_the_budget() -> None:
    wire = Wire(budget=100)
    assert [answer.status for answer in wire.feed(head(b"Transfer-Encoding: chunked") + chunked(b" " * 101))] == [503]
    assert wire.used() == 0


def test_what_clients_without_a_key_hold_keeps_nobody_out_who_has_one() -> None:
    wire = Wire(budget=80_000, keys=["secret"], max_body_bytes=10_000)
    unfinished = head(b"Content-Length: 9000", first=b"POST /v1/batch HTTP/1.1") + b" " * 8_999
    clients = [Wire(lane=wire.lane) for _ in range(26)]
    answers = [each.feed(unfinished) for each in clients]
    assert [len(answer) for answer in answers] == [0] + 25 * [1]
    assert {(answer.status, answer.headers["retry-after"]) for (answer,) in answers[1:]} == {(503, "1")}
    keyed = [Wire(lane=wire.lane) for _ in range(7)]
    for each in keyed:
        assert not each.feed(head(b"X-API-Key: secret", b"Content-Length: 9500") + b" " * 9_400)
    assert [answer.status for each in keyed for answer in each.feed(b" " * 100)] == 7 * [400]  # read, and empty
    for each in clients:
        each.connection.drop()
    assert wire.used() == 0


UNREAD = b"POST /events HTTP/1.1\r\nHost:\r\nContent-Length:0\r\n\r\n" * 5_000


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"POST /events HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 50_000, id="an unfinished head"),
        pytest.param(UNREAD, id="responses that are left unread, and requests behind them"),
        pytest.param(post(event("first")) + 40 * post(b"[" + 900 * b"{}," + b"{}]"), id="responses behind a wait"),
    ],
)
def test_what_a_connection_holds_is_in_the_budget_but_for_a_little(request_bytes: bytes) -> None:
    wire = Wire(FakeIntake(room=0, blocking=True), budget=10**9)
    lane = wire.lane
    wire.connection.receive(request_bytes)
    assert wire.connection.hold()
    held = len(wire.connection._buffer) + wire.connection.unsent
    held += sum(len(slot.data) for slot in wire.connection.waiting if slot.data)
    assert held > 2 * FREE_BYTES
    assert wire.used() == held - FREE_BYTES
    wire.connection.drop()
    assert wire.used() == 0
    lane.body_budget.keyless.reserve(lane.body_budget.keyless._limit - FREE_BYTES)
    crowded = Wire(FakeIntake(room=0, blocking=True), lane=lane)
    answers = crowded.feed(request_bytes) if crowded.connection.phase is Phase.IDLE and b"X-A" in request_bytes else []
    assert [answer.status for answer in answers] == [503] * len(answers)
    if not answers:
        crowded.connection.receive(request_bytes)
        assert not crowded.connection.hold()
    crowded.connection.drop()


def test_a_body_in_very_many_pieces_is_kept_in_the_space_of_its_bytes() -> None:
    wire = Wire(max_body_bytes=100_000)
    wire.feed(head(b"Transfer-Encoding: chunked") + b"2\r\n  \r\n" * 40_000)
    gathered = wire.connection._body
    assert gathered is not None
    assert gathered.gathered.__sizeof__() < 2 * 80_000
    wire = Wire(max_body_bytes=100_000)
    wire.feed(head(b"Content-Length: 50000"))
    for _ in range(20_000):
        wire.connection.receive(b"  ")
    gathered = wire.connection._body
    assert gathered is not None
    assert gathered.gathered.__sizeof__() < 2 * 40_000


# --- handover --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        METRICS,
        b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n",
        post(event()).replace(b"/events", b"/events/"),
        post(event()).replace(b"/events", b"http://test/events"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        post(event(), b"Connection: Upgrade", b"Upgrade: h2c"),
        b"GET /events HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT test:1 HTTP/1.1\r\nHost: test\r\n\r\n",
        post(event()).replace(b"HTTP/1.1", b"HTTP/2.0"),
    ],
)
def test_what_is_no_data_route_is_handed_over_with_exactly_its_bytes(request_bytes: bytes) -> None:
    wire = Wire()
    answers = wire.feed(ONE + request_bytes + ONE)
    assert [answer.status for answer in answers] == [202]
    assert wire.phase is Phase.HANDOVER
    assert not wire.connection.wants_bytes
    assert wire.connection.take_handover() == request_bytes + ONE
    assert wire.connection.take_handover() == b""


def test_a_handover_waits_for_the_responses_before_it() -> None:
    wire = blocked()
    wire.feed(ONE + METRICS)
    assert wire.phase is Phase.HANDOVER
    assert not wire.connection.answered
    wire.intake.make_room(1)
    assert [answer.status for answer in wire.answers()] == [202]
    assert wire.connection.answered
    assert wire.connection.take_handover() == METRICS


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_every_answer_is_observed_with_its_route_and_code() -> None:
    wire = blocked(room=1)
    assert len(wire.feed(ONE + ONE + post(b"{}") + b"nonsense\r\n\r\n")) == 1
    wire.seconds = 3.0
    wire.intake.make_room(1)
    assert len(wire.answers()) == 3
    wire.lane.observe_answered(0.3)
    seen = {(route, status): (seconds, times) for route, status, seconds, times in wire.observed}
    assert seen.keys() == {("/events", 202), ("/events", 400), ("unreadable", 400)}
    assert ("/events", 202, 3.0, 1) in wire.observed
    assert sum(times for *_, times in wire.observed) == 4


# --- the same bytes, cut anywhere ------------------------------------------------------------------------------------

WHOLE = [
    ONE,
    post(event("close"), b"Connection: close"),
    post_chunked(event()[:10], event()[10:]),
    post(event(), b"X-Request-Id: mine"),
    post(event(), b"Expect: 100-continue"),
    post(event(), b"Expect: 100-continue", b"Content-Type: text/html"),
    post(event(), b"Content-Type: text/html"),
    post(b"[%b,%b,{}]" % (event("a"), event("b"))),
    post(b"{}"),
    post(event(), b"Content-Encoding: gzip"),
    post(event()).replace(b"1.1", b"1.0"),
    head(b"Transfer-Encoding: chunked") + b"5;a=b \r\n[    \r\n1\r\n]\r\n0\r\nA: b\r\n\r\n",
    head(b"Transfer-Encoding: chunked") + b"2711\r\n",
    head(b"Content-Length: 10001"),
    head(),
    b"\r\n" + ONE,
    METRICS,
    *MALFORMED.values(),
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b";",
    b"0",
    b"f",
    b"9" * 20,
    b"-1",
    b"chunked",
    b"\r\n\r\n",
    b"\xff",
    b"HTTP/1.1",
]


def converse(pieces: list[bytes]) -> tuple[bytes, list[str], bytes | None]:
    """What a client hears of these pieces, which events were taken, and what was handed over."""
    wire = Wire()
    sent = b""
    for index, piece in enumerate(pieces):
        if piece:
            sent += wire.feed_raw([piece])
        if wire.phase is Phase.HANDOVER:
            return normal(sent), wire.intake.ids, wire.connection.take_handover() + b"".join(pieces[index + 1 :])
    read_answers(sent)
    wire.connection.receive_eof()
    wire.connection.drop()
    assert (wire.used(), wire.lane.inflight) == (0, 0)
    return normal(sent), wire.intake.ids, None


def normal(sent: bytes) -> bytes:
    """Responses without what may differ: made ids, the date, and whether a body had to be asked for."""
    sent = re.sub(rb"(x-request-id: [0-9a-f]{12}-[0-9a-f]+|date: [^\r]+)", b"", sent)
    return sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")


@pytest.mark.parametrize("request_bytes", WHOLE)
def test_a_request_cut_at_any_one_point_is_answered_alike(request_bytes: bytes) -> None:
    data = request_bytes + ONE
    expected = converse([data])
    for cut in range(0, len(data), 1 + len(data) // 300):
        assert converse([data[:cut], data[cut:]]) == expected


@settings(max_examples=300)
@given(data=st.data(), requests=st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4))
def test_any_bytes_are_answered_alike_wherever_they_are_cut_and_nothing_raises(
    data: st.DataObject, requests: list[bytes]
) -> None:
    stream = bytearray(b"".join(requests))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(stream)))
        stream[at : at + data.draw(st.integers(0, 6))] = data.draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    whole = bytes(stream)
    expected = converse([whole])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    assert converse([whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]) == expected
    assert converse([whole[n : n + 1] for n in range(len(whole))]) == expected


# --- against another parser ------------------------------------------------------------------------------------------


def bodies_here(stream: bytes) -> list[bytes]:
    """The bodies that the fast lane serves of a stream."""
    found: list[bytes] = []
    answer = Response(202)

    def keep(_head: object, body: bytes) -> Response:
        found.append(body)
        return answer

    route = Route("/events", lambda _: None, keep, lambda _: b"", 10_000)
    lane = Lane(Heads({("POST", "/events"): route}), BodyBudget(10**6))
    connection = Connection(lane, lambda: None)
    connection.receive(stream)
    return found


def test_a_route_gets_the_bytes_that_were_sent_whatever_their_content_coding() -> None:
    # A signature is made over these bytes.
    coded = gzip.compress(event())
    whole = post(coded, b"Content-Encoding: gzip")
    assert bodies_here(whole + post_chunked(coded[:9], coded[9:], lines=[b"Content-Encoding: gzip"])) == [coded, coded]


def bodies_there(stream: bytes) -> list[bytes]:
    """The bodies of the requests that h11 reads from a stream, up to the first that it refuses."""
    found: list[bytes] = []
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(stream)
    body = b""
    try:
        while True:
            told = parser.next_event()
            if isinstance(told, h11.Data):
                body += bytes(told.data)
            elif isinstance(told, h11.EndOfMessage):
                found.append(body)
                body = b""
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                if parser.our_state is h11.MUST_CLOSE:
                    return found
                parser.start_next_cycle()
            elif not isinstance(told, h11.Request):
                return found
    except h11.RemoteProtocolError:
        return found


FRAMED = [
    ONE,
    post_chunked(event()[:10], event()[10:]),
    post(b"[]", b"Connection: close"),
    head(b"Content-Length: 0"),
    post(b"0\r\n\r\n"),
]


@settings(max_examples=500)
@given(data=st.data(), requests=st.lists(st.sampled_from(FRAMED), min_size=1, max_size=3))
def test_where_the_first_request_ends_no_other_parser_sees_it_differently(
    data: st.DataObject, requests: list[bytes]
) -> None:
    stream = bytearray(b"".join(requests))
    end = stream.index(b"\r\n\r\n") + 4
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, end))
        lines = [
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: x\r\n",
            b"A: b\r\n c\r\n",
        ]
        stream[at:at] = data.draw(st.sampled_from([*PIECES, *lines]) | st.binary(max_size=2))
    # h11 skips no empty lines, and ends a connection with any request of HTTP/1.0.
    stream = bytearray(stream.lstrip(b"\r\n"))
    here, there = bodies_here(bytes(stream)), bodies_there(bytes(stream))
    if here and there:
        assert here[0] == there[0]
