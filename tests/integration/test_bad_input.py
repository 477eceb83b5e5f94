"""Bad input over real sockets: a clear 4xx or a clean close, never a 500, and never a lost neighbour.

Every test runs inside `unharmed`, which posts on a connection of its own before and after it, and on a fresh one after
it, and looks into the sink for exactly those events and the ones that the test names.
"""

from __future__ import annotations

import gzip
import os
import re
import resource
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import zstandard

from hermes.net.http.connection import MAX_UNSENT
from tests.http_client import Answer, Client, connect, event, get, post
from tests.observe.test_metrics import value
from tests.service import Service, open_service

MEGABYTE = 2**20
BOTH_WAYS = pytest.mark.parametrize("durability", ["memory", "disk"])
"""An answer that is there at once, and one that waits for a commit, take different ways through a connection."""


class Ground:
    """The service under test; ``taken`` has the ids that the test expects in the sink beside the neighbour's."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.taken: list[str] = []


@asynccontextmanager
async def unharmed(**settings: Any) -> AsyncIterator[Ground]:
    """A service, and the proof afterwards that nobody but the offender has noticed anything."""
    async with open_service(**settings) as service, connect(service) as neighbour:
        ground = Ground(service)
        assert (await neighbour.ask(post(event("before")))).status == 202
        yield ground
        assert (await neighbour.ask(post(event("after")))).status == 202
        async with connect(service) as fresh:
            assert (await fresh.ask(post(event("fresh")))).status == 202
        with trio.fail_after(10):
            await service.sink.wait_stored(3 + len(ground.taken))
        assert sorted(e.id for e in service.sink.stored) == sorted(["before", "after", "fresh", *ground.taken])
    assert service.clean


def problem(answer: Answer, status: int) -> Any:
    """The problem details of an answer, checked to be some."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]
    # An answer that has the one count has the other.
    assert answer.json.get("accepted") == (0 if "rejected" in answer.json else None)
    return answer.json


# --- every row of the list of errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "lines", "status"),
    [
        (b"{", [], 400),
        (b"", [], 400),
        (b"[]", [], 400),
        (b"{}", [], 400),
        (event()[:50], [], 400),
        (event(id="\0"), [], 400),
        (event(timestamp="now"), [], 400),
        (event().replace(b"me", b"\xff"), [], 400),
        (b"\xff\xfe" + event().decode().encode("utf-16-le"), [], 400),
        (b'{"a":' * 100_000, [], 400),
        (event(timestamp=10**400), [], 400),
        (b"<event/>", [b"Content-Type: text/xml"], 415),
        (event(), [b"Content-Type: multipart/form-data; boundary=x"], 415),
        (event(), [b"Content-Encoding: compress"], 415),
        (event(), [b"Content-Encoding: gzip, gzip"], 415),
        (event(), [b"Content-Encoding: gzip"], 400),
        (gzip.compress(event(), mtime=0)[:-4], [b"Content-Encoding: gzip"], 400),
        (b"\0" * 100, [b"Content-Encoding: zstd"], 400),
        (zlib.compress(event()) + b"junk", [b"Content-Encoding: deflate"], 400),
        (b"nonsense\n" * 2000, [b"Content-Type: application/x-ndjson"], 400),
    ],
)
async def test_a_bad_body_gets_its_code_and_the_connection_goes_on(
    body: bytes, lines: list[bytes], status: int
) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        for _ in range(2):
            answer = await client.ask(post(body, *lines))
            if answer.headers.get("connection") == "close":
                assert len(body) > 65536, "only a long body that is not read may end the connection"
                problem(answer, status)
                return
            problem(answer, status)
        assert (await client.ask(post(event("good")))).status == 202
        ground.taken = ["good"]


async def test_the_position_of_bad_json_is_told() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        body = event()
        cut = body.index(b"timestamp")
        told = problem(await client.ask(post(body[:cut] + b"\x01" + body[cut:])), 400)
        assert f"byte {cut}" in told["detail"]


async def test_some_invalid_events_are_told_by_their_place_and_the_others_are_taken() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        answer = await client.ask(post(b"[%b,{},%b,7]" % (event("a"), event("b"))))
        assert answer.status == 202
        assert answer.json["accepted"] == 2
        assert [each["index"] for each in answer.json["rejected"]] == [1, 3]
        told = problem(await client.ask(post(b"[{},7]")), 400)
        assert [each["index"] for each in told["rejected"]] == [0, 1]
        ground.taken = ["a", "b"]


@pytest.mark.parametrize(
    ("path", "method", "status", "allow", "words"),
    [
        (b"/events", b"GET", 405, {"POST", "OPTIONS"}, "send POST"),
        (b"/events", b"DELETE", 405, {"POST", "OPTIONS"}, "send POST"),
        (b"/events", b"PUT", 405, {"POST", "OPTIONS"}, "send POST"),
        (b"/metrics", b"POST", 405, {"GET", "HEAD", "OPTIONS"}, "does not take POST: send GET"),
        (b"/nothing", b"GET", 404, None, "see / or /openapi.json"),
        (b"/nothing", b"POST", 404, None, "see / or /openapi.json"),
        (b"/event", b"POST", 404, None, "did you mean /events? see / or /openapi.json"),
        (b"/v1/trakc", b"POST", 404, None, "did you mean /v1/track? see"),
        (b"/events/1", b"POST", 404, None, "see / or /openapi.json"),
        (b"/debug/pprof/", b"GET", 404, None, "see / or /openapi.json"),
        (b"/../etc/passwd", b"GET", 404, None, "see / or /openapi.json"),
        (b"/%00", b"GET", 404, None, "see / or /openapi.json"),
        (b"/%ff%fe", b"GET", 404, None, "see / or /openapi.json"),
        (b"/" + b"a" * 60_000, b"GET", 404, None, "see / or /openapi.json"),
    ],
)
async def test_a_path_or_method_that_is_not_there_is_404_or_405(
    path: bytes, method: bytes, status: int, allow: set[str] | None, words: str
) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        request = b"%b %b HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}" % (method, path)
        answer = await client.ask(request)
        problem(answer, status)
        assert words in answer.json["detail"]
        if allow is not None:
            assert set(answer.headers["allow"].split(", ")) == allow
        assert (await client.ask(post(event("good")))).status == 202
        ground.taken = ["good"]


async def test_no_key_or_a_wrong_one_is_401_in_both_lanes() -> None:
    async with open_service(api_keys=("right", "other")) as service, connect(service) as client:
        for path in (b"/events", b"/events?lane=fast", b"http://test/events"):
            for lines in ([], [b"Authorization: Bearer wrong"], [b"X-API-Key: wrong"], [b"Authorization: Basic right"]):
                answer = await client.ask(post(event(), *lines, path=path))
                problem(answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            for line in (b"Authorization: Bearer right", b"X-API-Key: other", b"authorization: bearer  other"):
                assert (await client.ask(post(event(), line, path=path))).status == 202
        assert service.accepted == 9


async def test_headers_over_64_kib_are_431() -> None:
    async with unharmed() as ground:
        for request in (post(event(), b"X: " + b"x" * 70_000), b"POST /events HTTP/1.1\r\nX: " + b"x" * 70_000):
            async with connect(ground.service) as client:
                problem(await client.ask(request), 431)
                assert await client.rest() == b""


async def test_a_queue_without_room_is_503_and_says_when_to_come_again() -> None:
    async with open_service(durability="memory", queue_size=10) as service, connect(service) as client:
        service.sink.stall()
        body = b"[%b]" % b",".join(event(str(n)) for n in range(10))
        assert (await client.ask(post(body))).status == 202
        for request in (post(event("11")), post(event("11"), path=b"http://test/events")):
            answer = await client.ask(request)
            problem(answer, 503)
            assert 1 <= int(answer.headers["retry-after"]) <= 30
        service.sink.resume()
        await service.sink.wait_stored(10)
        assert (await client.ask(post(event("11")))).status == 202
        await service.sink.wait_stored(11)
    assert sorted(int(e.id) for e in service.sink.stored) == [*range(10), 11]


async def test_more_events_than_the_queue_could_ever_hold_are_413() -> None:
    async with open_service(queue_size=10) as service, connect(service) as client:
        told = problem(await client.ask(post(b"[%b]" % b",".join([event()] * 11))), 413)
        assert "QUEUE_SIZE, 10" in told["detail"]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/events", b"http://test/events"], ids=["fast-lane", "control-lane"])
async def test_ten_mebibytes_are_taken_and_one_byte_more_is_413(path: bytes) -> None:
    limit = 10 * MEGABYTE
    body = event("big", payload={"a": "x"})
    body = body.replace(b'"x"', b'"%b"' % (b"x" * (limit - len(body) + 1)))
    assert len(body) == limit
    async with unharmed() as ground:
        async with connect(ground.service, patience=30) as client:
            assert (await client.ask(post(body, path=path))).status == 202
            ground.taken = ["big"]
        async with connect(ground.service, patience=30) as client:
            # The client sends on after it is refused, as curl does; it must get to read the answer all the same.
            answer = await client.ask(post(body + b" ", path=path))
            assert "MAX_BODY_BYTES, 10485760" in problem(answer, 413)["detail"]
        async with connect(ground.service, patience=30) as client:
            head = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" % path
            await client.send(head, *[b"80000\r\n%b\r\n" % (b" " * 0x80000)] * 20, b"1\r\n \r\n0\r\n\r\n")
            problem(await client.answer(), 413)


# Made where they are sent, for every process that collects the tests reads this.
BOMBS: dict[str, tuple[bytes, Callable[[], bytes]]] = {
    "gzip": (b"gzip", lambda: gzip.compress(bytes(200 * MEGABYTE), 1, mtime=0)),
    "deflate": (b"deflate", lambda: zlib.compress(bytes(200 * MEGABYTE), 1)),
    "zstd": (b"zstd", lambda: zstandard.ZstdCompressor().compress(bytes(200 * MEGABYTE))),
    "numbers": (b"gzip", lambda: gzip.compress(b"[" + b"1," * 5_000_000 + b"1]", mtime=0)),
    "lines": (b"gzip", lambda: gzip.compress(b"\n" * 10_000_000 + b"x", mtime=0)),
    "brackets": (b"zstd", lambda: zstandard.ZstdCompressor().compress(b"[" * 10_000_000)),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_and_holds_nobody_up(name: str) -> None:
    coding, make = BOMBS[name]
    bomb = make()
    async with unharmed() as ground, connect(ground.service) as client, connect(ground.service) as other:
        began = time.perf_counter()
        answer = await client.ask(post(bomb, b"Content-Encoding: " + coding))
        assert answer.status in {400, 413}
        assert (await other.ask(post(event("other")))).status == 202
        assert time.perf_counter() - began < 3
        ground.taken = ["other"]


# --- framing and smuggling -------------------------------------------------------------------------------------------

SMUGGLED = post(event("smuggled"))
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BAD_FRAMING = {
    "both-lengths": post(event(), b"Transfer-Encoding: chunked"),
    "both-lengths-te-cl": b"POST /events HTTP/1.1\r\nHost: a\r\n" + CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n{}",
    "both-lengths-cl-te": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "two-lengths": post(b"", b"Content-Length: %d" % len(SMUGGLED)),
    "length-list": b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}",
    "signed-length": b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
    "huge-length": b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "te-variant": b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te-list": b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te-in-1.0": b"POST /events HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space-before-colon": b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{}",
    "obs-fold": b"POST /events HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "bare-lf": b"POST /events HTTP/1.1\nHost: a\nContent-Length: 2\n\n{}",
    "one-bare-lf": b"POST /events HTTP/1.1\r\nHost: a\nContent-Length: 2\r\n\r\n{}",
    "nul": b"POST /events HTTP/1.1\r\nHost: a\r\nX: \0\r\nContent-Length: 2\r\n\r\n{}",
    "cr": b"POST /events HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 2\r\n\r\n{}",
    "no-host": b"POST /events HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "two-hosts": b"POST /events HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}",
    "chunk-size": b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk-end": b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "chunk-bare-lf": b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "no-length": b"POST /events HTTP/1.1\r\nHost: a\r\n\r\n{}",
    "nonsense": b"\x00\x01\x02 nonsense\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("request_bytes", BAD_FRAMING.values(), ids=BAD_FRAMING)
async def test_bad_framing_is_refused_and_what_follows_is_not_taken_for_a_request(request_bytes: bytes) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        answer = await client.ask(request_bytes, SMUGGLED)
        problem(answer, 411 if request_bytes == BAD_FRAMING["no-length"] else 400)
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


# After its first request the control lane reads by h11's rules, which take these as RFC 9112 allows, of equal length.
TAKEN_BY_H11 = {"length-list", "obs-fold", "bare-lf", "one-bare-lf"}


@pytest.mark.parametrize(
    ("name", "later"),
    [(name, later) for name in BAD_FRAMING for later in (False, True) if not later or name not in TAKEN_BY_H11],
)
async def test_bad_framing_in_the_control_lane_is_refused_and_what_follows_is_not_taken_for_a_request(
    name: str, later: bool
) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        if later:
            assert (await client.ask(get(b"/health"))).status == 200
        await client.send(BAD_FRAMING[name].replace(b"POST /events", b"POST http://a/events", 1), SMUGGLED)
        answers = await client.rest()
        codes = re.findall(rb"HTTP/1\.1 (\d{3})", answers)
        assert codes
        assert set(codes) <= {b"400", b"413", b"501"}


async def test_a_length_that_is_too_short_smuggles_nothing() -> None:
    async with unharmed(header_timeout=0.3) as ground, connect(ground.service) as client:
        body = event("one")
        await client.send(b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(body) - 1), body)
        answers = [await client.answer(), await client.answer()]
        assert [answer.status for answer in answers] == [400, 408]


async def test_a_length_that_is_too_long_is_408_when_the_time_is_over() -> None:
    async with unharmed(body_timeout=0.3) as ground, connect(ground.service) as client:
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        answer = await client.ask(head, event())
        assert "body" in problem(answer, 408)["detail"]
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_body_that_is_longer_than_its_chunks_say_is_refused() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        problem(await client.ask(head, b"5\r\n", event(), b"\r\n0\r\n\r\n", SMUGGLED), 400)
        assert await client.rest() == b""


# --- slow, half-closed and vanishing clients -------------------------------------------------------------------------


async def test_headers_that_drip_are_408_however_often_a_byte_comes() -> None:
    async with unharmed(header_timeout=0.4) as ground, connect(ground.service) as client:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client, b"POST /events HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 100)
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert "headers" in problem(answer, 408)["detail"]
        assert 0.3 < trio.current_time() - began < 2


async def test_a_body_that_drips_is_408_however_often_a_byte_comes() -> None:
    async with unharmed(body_timeout=0.4) as ground, connect(ground.service) as client:
        await client.send(b"POST /events HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client, b"1\r\n \r\n" * 20)
            assert "body" in problem(await client.answer(), 408)["detail"]
            nursery.cancel_scope.cancel()


async def until(reached: Callable[[], bool]) -> None:
    """Look until it is so."""
    with trio.fail_after(10):
        while not reached():  # noqa: ASYNC110 - what is looked at has no event
            await trio.sleep(0.01)


async def drip(client: Client, data: bytes) -> None:
    for n in range(len(data)):
        try:
            await client.send(data[n : n + 1])
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.02)


@BOTH_WAYS
async def test_a_client_that_pipelines_without_pause_is_not_timed_out(durability: str) -> None:
    """Every read of the service ends within a request, so it is never seen idle, nor slow."""
    async with (
        unharmed(durability=durability, header_timeout=0.3, body_timeout=0.3) as ground,
        connect(ground.service) as client,
    ):
        body = event("piped")
        for cut in (10, len(post(body)) - 10):  # within the headers, within the body
            await client.send(post(body)[:cut])
            for _ in range(12):
                await trio.sleep(0.1)
                assert (await client.ask(post(body)[cut:], post(body)[:cut])).status == 202
            assert (await client.ask(post(body)[cut:])).status == 202
        ground.taken = ["piped"] * 26


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with open_service(idle_timeout=0.3) as service, connect(service) as used, connect(service) as unused:
        assert (await used.ask(post(event("first")))).status == 202
        for client in (used, unused):
            with trio.fail_after(3):
                assert await client.rest() == b""


@BOTH_WAYS
async def test_a_half_closed_client_gets_every_answer(durability: str) -> None:
    async with unharmed(durability=durability) as ground:
        in_both_lanes = [
            post(event("half")),
            b"".join(post(event("half")) for _ in range(500)),
            get(b"/health"),
            get(b"/metrics") * 5,
            post(event("half"), path=b"http://test/events") * 2,
        ]
        for request in in_both_lanes:
            async with connect(ground.service) as client:
                await client.send(request)
                await client.send_eof()
                heard = await client.rest()
                count = request.count(b"HTTP/1.1\r\n")
                assert len(re.findall(rb"HTTP/1\.1 20[02] ", heard)) == count
        ground.taken = ["half"] * 503


async def test_a_half_closed_client_in_the_middle_of_a_request_is_let_go() -> None:
    async with unharmed() as ground:
        for part in (
            b"",
            b"POST /ev",
            post(event())[:-5],
            b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        ):
            async with connect(ground.service) as client:
                await client.send(part)
                await client.send_eof()
                assert await client.rest() == b""
        await until(lambda: value(ground.service.running.edges.metrics, "hermes_inflight_requests") == 0)


@BOTH_WAYS
async def test_a_reset_in_any_phase_ends_one_connection(durability: str) -> None:
    async with unharmed(durability=durability) as ground:
        phases = [
            b"",
            b"POST /ev",
            post(event())[:-5],
            post(b"{}"),
            post(event("reset")) * 200,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
        phases += [
            get(b"/metrics"),
            get(b"/metrics") * 50,
            b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ]
        for phase in phases:
            for pause in (0.0, 0.02):
                async with connect(ground.service) as client:
                    await client.send(phase)
                    await trio.sleep(pause)
                    await client.reset()
        await until(lambda: ground.service.running.edges.edge.connections <= 1)
        await until(lambda: value(ground.service.running.edges.metrics, "hermes_inflight_requests") == 0)
        ground.taken = ["reset"] * (ground.service.accepted - 1)


async def test_a_client_that_reads_nothing_is_bounded_and_then_let_go() -> None:
    async with unharmed(write_timeout=0.5) as ground:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
            await stream.socket.connect((ground.service.host, ground.service.port))
            request = post(b"{}") * 100
            with trio.move_on_after(5):
                sent = await pour(stream, request)
                assert sent < 50 * MEGABYTE
                return
            pytest.fail("the client that reads nothing is still served")


async def test_requests_held_back_for_unsent_answers_are_served_without_another_byte() -> None:
    """Their answers are larger than they are, and together larger than what may lie unsent at once."""
    tiny = b"POST /events HTTP/1.1\r\nHost:\r\nContent-Length:0\r\n\r\n"
    count = 65536 // len(tiny)  # what one read takes
    async with unharmed() as ground, connect(ground.service) as client:
        for _ in range(3):
            await client.send(tiny * count)
            answers = await client.answers(count)
            assert {answer.status for answer in answers} == {400}
        assert sum(len(answer.body) for answer in answers) + count * 150 > MAX_UNSENT
        assert (await client.ask(post(event("next")))).status == 202
        ground.taken = ["next"]


async def pour(stream: trio.abc.SendStream, request: bytes) -> int:
    """Send a request again and again until the other side has enough; returns how many bytes that took."""
    sent = 0
    while True:
        try:
            await stream.send_all(request)
        except trio.BrokenResourceError:
            return sent
        sent += len(request)


async def test_a_client_that_reads_nothing_of_the_control_lane_is_let_go_too() -> None:
    async with unharmed(write_timeout=0.5) as ground, connect(ground.service) as client:
        with trio.fail_after(8):
            await pour(client.stream, get(b"/metrics") * 50)


async def test_a_client_that_reads_nothing_cannot_hold_up_the_stop() -> None:
    async with open_service(shutdown_timeout=2.0) as service, connect(service) as one, connect(service) as two:
        for client, request in ((one, get(b"/metrics") * 100), (two, post(b"{}") * 100)):
            with trio.move_on_after(0.5):
                await pour(client.stream, request)
                pytest.fail("the connection ended before the test began")
        began = trio.current_time()
        assert await service.stop()
        assert trio.current_time() - began < 4


# --- very many -------------------------------------------------------------------------------------------------------


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Both ends of the connections are in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(limits[1], 20_000)), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("many_descriptors")
async def test_five_thousand_idle_connections_leave_room_for_a_request() -> None:
    async with unharmed() as ground:
        async with AsyncExitStack() as idle:
            for number in range(5_000):
                idle.callback(socket.create_connection((ground.service.host, ground.service.port)).close)
                if number % 500 == 0:
                    await trio.lowlevel.checkpoint()
            async with connect(ground.service) as client:
                assert (await client.ask(post(event("one")))).status == 202
            assert ground.service.running.edges.edge.connections >= 5_000
        ground.taken = ["one"]
        await until(lambda: ground.service.running.edges.edge.connections <= 1)


async def test_beyond_max_connections_a_client_waits_until_another_leaves() -> None:
    async with unharmed(max_connections=20) as ground:
        async with AsyncExitStack() as held:
            clients = [await held.enter_async_context(connect(ground.service)) for _ in range(19)]
            for client in clients:
                await client.send(post(event("held"))[:-1])  # none of them is idle
            async with connect(ground.service, patience=0.3) as late:
                with pytest.raises(trio.TooSlowError):
                    await late.ask(post(event("late")))
                late.patience = 5
                assert (await clients[0].ask(b"}")).status == 202
                await clients[0].stream.aclose()
                assert (await late.answer()).status == 202
        ground.taken = ["held", "late"]


async def test_clients_never_take_the_last_descriptors_and_those_without_one_are_served_later(tmp_path: Path) -> None:
    command = f"ulimit -n 60; exec {sys.executable} -m hermes serve"
    environ = {**os.environ, "HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "off", "SINKS": "null", "LOG_FORMAT": "json"}
    environ["HERMES_DATA_DIR"] = str(tmp_path)
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, ["sh", "-c", command], env=environ, check=False, stderr=subprocess.PIPE)
        process: trio.Process = await nursery.start(run)
        assert process.stderr is not None
        log = b""
        while not (found := re.search(rb'"url": ?"http://[^:]+:(\d+)"', log)):
            log += await process.stderr.receive_some()
        port = int(found[1])
        assert b"fewer connections than MAX_CONNECTIONS" in log
        nursery.start_soon(discard, process.stderr)
        async with AsyncExitStack() as held:
            clients = []
            for _ in range(100):
                stream = await held.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
                clients.append(Client(stream, patience=0.5))
                await clients[-1].send(post(event())[:-1])  # none of them is idle, and would give way
            first, last = clients[0], clients[-1]
            with pytest.raises(trio.TooSlowError):
                await last.ask(b"}")
            assert len(descriptors_of(process.pid)) <= 52
            first.patience = last.patience = 10
            assert (await first.ask(b"}")).status == 202
            for client in clients[:-1]:
                await client.stream.aclose()
            assert (await last.answer()).status == 202
        process.terminate()
    assert process.returncode == 0


def descriptors_of(pid: int | str = "self") -> set[int]:
    """The descriptors that a process has open."""
    return {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}


async def discard(stream: trio.abc.ReceiveStream) -> None:
    async for _ in stream:
        pass
