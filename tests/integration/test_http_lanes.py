"""Both lanes on one port: pipelining across them, HTTP/2 and its floods, backpressure, draining."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio

from tests.http_client import Answer, Client, connect, event, get, post
from tests.integration.test_bad_input import BOTH_WAYS, unharmed, until
from tests.service import Service, open_service

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Client2:
    """One HTTP/2 connection, over any stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.protocol.initiate_connection()
        self._parts: dict[int, list[bytes]] = {}
        self._headers: dict[int, dict[str, str]] = {}
        self._ended: dict[int, Answer] = {}

    async def start(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        """Send a request; returns its stream's number."""
        number = self.protocol.get_next_available_stream_id()
        fields = {":method": method, ":path": path, ":scheme": "http", ":authority": "test", **headers}
        self.protocol.send_headers(number, [(k.replace("_", "-"), v) for k, v in fields.items()], end_stream=not body)
        while body:
            room = min(self.protocol.local_flow_control_window(number), self.protocol.max_outbound_frame_size)
            part, body = body[:room], body[room:]
            if part:
                self.protocol.send_data(number, part, end_stream=not body)
            await self.flush()
            if body and not room:
                await self.receive()
        await self.flush()
        return number

    async def answer(self, number: int) -> Answer:
        while number not in self._ended:
            await self.receive()
        return self._ended.pop(number)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        return await self.answer(await self.start(method, path, body, **headers))

    async def flush(self) -> None:
        with trio.fail_after(10):
            await self.stream.send_all(self.protocol.data_to_send())

    async def receive(self) -> None:
        with trio.fail_after(10):
            data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        for told in self.protocol.receive_data(data):
            if isinstance(told, h2.events.ResponseReceived):
                self._headers[told.stream_id] = dict(told.headers)  # type: ignore[arg-type]
                self._parts[told.stream_id] = []
            elif isinstance(told, h2.events.DataReceived):
                self._parts[told.stream_id].append(told.data)
                self.protocol.acknowledge_received_data(told.flow_controlled_length, told.stream_id)
            elif isinstance(told, h2.events.StreamEnded):
                headers = self._headers.pop(told.stream_id)
                body = b"".join(self._parts.pop(told.stream_id))
                self._ended[told.stream_id] = Answer(int(headers[":status"]), headers, body)
            elif isinstance(told, h2.events.StreamReset | h2.events.ConnectionTerminated):
                raise EOFError(repr(told))
        await self.flush()


@asynccontextmanager
async def connect2(service: Service) -> Any:
    """An HTTP/2 connection with prior knowledge."""
    async with connect(service) as client:
        yield Client2(client.stream)


# --- one connection, both lanes --------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_requests_for_both_lanes_on_one_connection_are_all_answered_in_order(durability: str) -> None:
    async with unharmed(durability=durability) as ground, connect(ground.service) as client:
        await client.send(
            post(event("a")),
            post(event("b"), b"X-Request-Id: b"),
            get(b"/metrics"),
            post(event("c"), b"X-Request-Id: c"),
            get(b"/ready"),
            post(b"{}"),
            get(b"/nothing"),
            post(event("d")),
        )
        answers = await client.answers(8)
        assert [answer.status for answer in answers] == [202, 202, 200, 202, 200, 400, 404, 202]
        assert b"hermes_events_received_total" in answers[2].body
        assert (answers[1].headers["x-request-id"], answers[3].headers["x-request-id"]) == ("b", "c")
        assert (await client.ask(post(event("e")))).status == 202
        ground.taken = ["a", "b", "c", "d", "e"]


async def test_a_head_in_pieces_is_handed_over_whole() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        for piece in (b"GET /hea", b"lth HTTP/1.1\r", b"\nHost: test\r\n", b"\r\n"):
            await client.send(piece)
            await trio.sleep(0.01)
        assert (await client.answer()).json == {"status": "ok"}


@pytest.mark.parametrize("length", [0, 1, 65_536, 300_000])
async def test_a_body_for_the_control_lane_is_handed_over_whole(length: int) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        body = event("big", payload={"a": "x" * length})
        assert (await client.ask(post(body, path=b"http://test/events"))).status == 202
        ground.taken = ["big"]


async def test_two_hundred_connections_are_handed_over_at_once() -> None:
    async with unharmed() as ground:
        answers = []

        async def ask() -> None:
            async with connect(ground.service) as client:
                answers.append((await client.ask(get(b"/health"))).status)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
        assert answers == [200] * 200


async def test_head_is_answered_like_get_without_the_body() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        for path in (b"/health", b"/ready", b"/metrics", b"/aggregates"):
            await client.send(b"HEAD %b HTTP/1.1\r\nHost: test\r\n\r\n" % path, get(b"/health"))
            head, _, client.buffer = (await read_until(client, b"\r\n\r\n")).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert (await client.answer()).json == {"status": "ok"}


async def read_until(client: Client, mark: bytes) -> bytes:
    while mark not in client.buffer:
        client.buffer += await client.stream.receive_some(65536)
    return client.buffer


STATUS_WITH_KEY = {b"/": 400, b"/events": 405, b"/nothing": 404}


async def test_a_websocket_upgrade_gets_a_clear_answer() -> None:
    lines = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"]
    async with unharmed() as ground:
        for path in (b"/", b"/events", b"/nothing"):
            for key in ([b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], []):
                async with connect(ground.service) as client:
                    answer = await client.ask(get(path, *lines, *key))
                    assert answer.status == (STATUS_WITH_KEY[path] if key else 400)


async def test_an_upgrade_on_a_post_is_answered_as_a_post() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        for upgrade in (b"h2c", b"websocket", b"nonsense"):
            answer = await client.ask(post(event("up"), b"Connection: Upgrade", b"Upgrade: " + upgrade))
            assert answer.status == 202
        ground.taken = ["up"] * 3


async def test_an_upgrade_to_h2c_is_answered_in_http_2() -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]
        answer = await client.ask(get(b"/health", *lines))
        assert answer.status == 101
        protocol = Client2(client.stream)
        protocol.protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        protocol.protocol.initiate_upgrade_connection()
        await protocol.flush()
        for told in protocol.protocol.receive_data(client.buffer):
            assert not isinstance(told, h2.events.ConnectionTerminated)
        assert (await protocol.answer(1)).json == {"status": "ok"}


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------


async def test_post_events_is_answered_alike_over_http_2() -> None:
    requests: list[tuple[bytes, dict[str, str]]] = [
        (event("2"), {}),
        (b"[%b,{}]" % event("2"), {}),
        (event("2") + b"\n" + event("2"), {"content-type": "application/x-ndjson"}),
        (b"{}", {}),
        (b"{", {}),
        (b"[]", {}),
        (event("2"), {"content-type": "text/html"}),
        (event("2"), {"content-encoding": "compress"}),
        (event("2"), {"content-encoding": "gzip"}),
        (event("2"), {"x-request-id": "mine"}),
    ]
    async with unharmed() as ground, connect(ground.service) as one, connect2(ground.service) as two:
        for body, headers in requests:
            there = await two.ask("POST", "/events", body, **headers)
            here = await one.ask(post(body, *[f"{name}: {value}".encode() for name, value in headers.items()]))
            assert (there.status, there.body) == (here.status, here.body)
            assert there.headers["content-type"] == here.headers["content-type"]
            if "x-request-id" in headers:
                assert there.headers["x-request-id"] == here.headers["x-request-id"] == "mine"
        ground.taken = ["2"] * 10


async def test_many_streams_of_one_connection_are_all_answered() -> None:
    async with unharmed() as ground, connect2(ground.service) as client:
        numbers = [await client.start("POST", "/events", event(f"s{n}")) for n in range(30)]
        assert [(await client.answer(number)).status for number in numbers] == [202] * 30
        ground.taken = [f"s{n}" for n in range(30)]


async def test_a_body_over_the_limit_is_413_over_http_2() -> None:
    async with unharmed(max_body_bytes=100_000) as ground, connect2(ground.service) as client:
        number = await client.start("POST", "/events", event("big", payload={"a": "x" * 90_000}))
        assert (await client.answer(number)).status == 202
        number = client.protocol.get_next_available_stream_id()
        fields = [(":method", "POST"), (":path", "/events"), (":scheme", "http"), (":authority", "test")]
        client.protocol.send_headers(number, [*fields, ("content-length", "100001")])
        await client.flush()
        assert (await client.answer(number)).status == 413
        ground.taken = ["big"]


async def test_header_values_that_would_inject_a_line_are_never_echoed() -> None:
    async with unharmed(cors_origins=("*",)) as ground:
        for value in ("http://a\r\nx-injected: 1", "http://a\nx-injected: 1", "http://a\0", "\xff" * 10, "x" * 300):
            for name in ("origin", "x-request-id"):
                async with connect2(ground.service) as client:
                    client.protocol.config.validate_outbound_headers = False
                    client.protocol.config.normalize_outbound_headers = False
                    try:
                        answer = await client.ask("POST", "/events", b"{}", **{name: value})
                    except EOFError:
                        continue
                    assert answer.status == 400
                    assert "x-injected" not in answer.headers
                    assert not any("\n" in text for text in answer.headers.values())


# Frames are written by hand: no library sends such a thing.


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
REQUEST = b"\x83\x86\x41\x04test\x04\x07/events"  # POST http://test/events
OPENING = PREFACE + frame(SETTINGS, 0, 0)

FLOODS: dict[str, Callable[[], bytes]] = {
    "priority": lambda: b"".join(frame(PRIORITY, 0, n, b"\0\0\0\0\x10") for n in range(1, 10_000, 2)),
    "priority-cycle": lambda: b"".join(frame(PRIORITY, 0, n, struct.pack(">IB", n, 1)) for n in range(1, 100, 2)),
    "rapid-reset": lambda: b"".join(
        frame(HEADERS, END_HEADERS, n, REQUEST) + frame(RST, 0, n, b"\0\0\0\x08") for n in range(1, 4_000, 2)
    ),
    "too-many-streams": lambda: b"".join(frame(HEADERS, END_HEADERS, n, REQUEST) for n in range(1, 2_000, 2)),
    "continuation": lambda: frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 20_000,
    "continuation-alone": lambda: frame(CONTINUATION, 0, 1, b""),
    "settings": lambda: frame(SETTINGS, 0, 0) * 10_000,
    "settings-changing": lambda: b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) for n in range(5_000)),
    "settings-nonsense": lambda: frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
    "settings-torn": lambda: frame(SETTINGS, 0, 0, b"abc"),
    "ping": lambda: frame(PING, 0, 0, b"12345678") * 10_000,
    "empty-data": lambda: frame(HEADERS, END_HEADERS, 1, REQUEST) + frame(DATA, 0, 1) * 10_000,
    "window-overflow": lambda: frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "window-zero": lambda: frame(WINDOW, 0, 0, b"\0\0\0\0"),
    "data-on-no-stream": lambda: frame(DATA, 0, 5, b"x" * 100),
    "data-on-stream-0": lambda: frame(DATA, 0, 0, b"x"),
    "push": lambda: frame(PUSH, END_HEADERS, 1, b"\0\0\0\x02" + REQUEST),
    "goaway": lambda: frame(GOAWAY, 0, 0, b"\0" * 8) * 100,
    "even-stream": lambda: frame(HEADERS, END_HEADERS, 2, REQUEST),
    "hpack-nonsense": lambda: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 50),
    "hpack-bomb": lambda: frame(HEADERS, 4, 1, REQUEST + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 10_000),
    "headers-without-path": lambda: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86"),
    "unknown-frames": lambda: frame(0x42, 0xFF, 7, b"?" * 100) * 1_000,
    "huge-frame": lambda: struct.pack(">I", 0xFFFFFF)[1:] + b"\0\0\0\0\0\1" + b"x" * 100_000,
    "reset-of-no-stream": lambda: frame(RST, 0, 9, b"\0\0\0\x08") * 1_000,
    "nonsense": lambda: bytes(range(256)) * 100,
    "http-1": lambda: post(event("inner")),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_an_http_2_flood_ends_its_own_connection_at_most(flood: Callable[[], bytes]) -> None:
    async with unharmed() as ground, connect(ground.service) as neighbour, connect2(ground.service) as neighbour2:
        statuses = []
        done = trio.Event()

        async def post_all_the_while() -> None:
            while not done.is_set():
                statuses.append((await neighbour.ask(post(event("n")))).status)
                statuses.append((await neighbour2.ask("POST", "/events", event("n"))).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(post_all_the_while)
            for _ in range(2):
                async with connect(ground.service) as client:
                    with trio.move_on_after(3):
                        try:
                            await client.stream.send_all(OPENING + flood())
                            await client.send_eof()
                            await client.rest()
                        except trio.BrokenResourceError:
                            pass  # it ended before it had taken everything
            done.set()
        assert len(statuses) >= 2
        assert set(statuses) == {202}
        ground.taken = ["n"] * len(statuses)


# --- backpressure ----------------------------------------------------------------------------------------------------


async def test_in_block_mode_a_request_waits_for_room_and_is_then_202_in_both_lanes() -> None:
    async with open_service(durability="memory", queue_size=2, backpressure_mode="block") as service:
        service.sink.stall()
        async with connect(service) as one, connect(service) as two, connect2(service) as three:
            assert (await one.ask(post(b"[%b,%b]" % (event("a"), event("b"))))).status == 202
            await one.send(post(event("c")))
            await two.send(post(event("d"), path=b"http://test/events"))
            number = await three.start("POST", "/events", event("e"))
            for client in (one, two):
                with trio.move_on_after(0.2) as scope:
                    await client.stream.receive_some(1)
                assert scope.cancelled_caught
            service.sink.resume()
            assert (await one.answer()).status == (await two.answer()).status == 202
            assert (await three.answer(number)).status == 202
            await service.sink.wait_stored(5)
    assert sorted(e.id for e in service.sink.stored) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
@pytest.mark.parametrize("path", [b"/events", b"http://test/events"], ids=["fast-lane", "control-lane"])
@pytest.mark.parametrize("lines", [[], [b"Connection: close"]], ids=["kept", "closing"])
async def test_the_events_of_a_client_that_leaves_while_it_waits_are_never_stored(
    leave: str, path: bytes, lines: list[bytes]
) -> None:
    async with open_service(durability="memory", queue_size=1, backpressure_mode="block") as service:
        service.sink.stall()
        async with connect(service) as client:
            assert (await client.ask(post(event("a")))).status == 202
        async with connect(service) as client:
            await client.send(post(event("gone"), *lines, path=path))
            await until(lambda: len(service.engine.intake.admission._waiters) == 1)
            if leave == "reset":
                await client.reset()
            elif leave == "half-close":
                await client.send_eof()
            else:
                await client.stream.aclose()
            await until(lambda: not service.engine.intake.admission._waiters)
        async with connect(service) as client:
            await client.send(post(event("b")))
            service.sink.resume()
            assert (await client.answer()).status == 202
            await service.sink.wait_stored(2)
    assert [e.id for e in service.sink.stored] == ["a", "b"]


# --- draining --------------------------------------------------------------------------------------------------------


async def test_ready_turns_503_on_a_kept_connection_while_what_is_in_flight_is_answered() -> None:
    async with open_service() as service, connect(service) as kept, connect(service) as late, connect(service) as idle:
        assert (await kept.ask(get(b"/ready"))).status == 200
        assert (await idle.ask(post(event("a")))).status == 202
        body = event("in-flight")
        await late.send(post(body)[:-10])
        await kept.send(get(b"/ready")[:-2])
        await trio.sleep(0.05)
        service.begin_stop()
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(service.host, service.port)
        answer = await late.ask(post(body)[-10:])
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert (await kept.ask(b"\r\n")).status == 503
        for client in (kept, late, idle):
            await client.stream.aclose()
        assert await service.stop()
    assert sorted(e.id for e in service.sink.stored) == ["a", "in-flight"]


async def test_a_stop_calls_off_what_waits_for_room() -> None:
    async with open_service(durability="memory", queue_size=1, backpressure_mode="block") as service:
        service.sink.stall()
        async with connect(service) as one, connect(service) as two, connect2(service) as three:
            assert (await one.ask(post(event("a")))).status == 202
            await one.send(post(event("b")))
            await two.send(post(event("c"), path=b"http://test/events"))
            number = await three.start("POST", "/events", event("d"))
            await until(lambda: len(service.engine.intake.admission._waiters) == 3)
            service.begin_stop()
            for client in (one, two):
                answer = await client.answer()
                assert answer.status == 503
                assert answer.headers["retry-after"]
            assert (await three.answer(number)).status == 503
        service.sink.resume()
        assert await service.stop()
    assert [e.id for e in service.sink.stored] == ["a"]


@pytest.mark.parametrize("first", [post(event("b")), get(b"/ready")], ids=["fast-lane", "control-lane"])
@BOTH_WAYS
async def test_requests_that_lie_unread_at_a_stop_are_answered_up_to_the_one_that_closes(
    first: bytes, durability: str
) -> None:
    async with open_service(durability=durability) as service, connect(service) as client:
        assert (await client.ask(post(event("a")))).status == 202
        # No checkpoint between this and the stop: the service may see either first.
        client.stream.socket._sock.send(first + post(event("c")))  # type: ignore[attr-defined]
        service.begin_stop()
        heard = [await client.answer()]
        if rest := await client.rest():
            client.buffer = rest
            heard.append(await client.answer())
        await client.stream.aclose()
        assert heard[0].status in ({202} if first.startswith(b"POST") else {200, 503})
        assert await service.stop()
    # Whatever was not answered was not taken either: the client may send it again.
    taken = 1 + [answer.status for answer in heard].count(202)
    assert [e.id for e in service.sink.stored] == (["a", "b", "c"] if first.startswith(b"POST") else ["a", "c"])[:taken]


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/events?in=control", {"Content-Type": "text/html"}, 415),
        ("/nowhere", {}, 404),
        ("/health", {}, 405),
    ],
)
async def test_after_an_answer_that_needed_no_body_the_connection_is_whole_or_said_to_end(
    path: str, headers: dict[str, str], status: int, size: int
) -> None:
    """It ended without a word, and the next request of the client got no answer."""
    async with open_service() as service, httpx.AsyncClient(base_url=service.url) as client:
        await client.get("/health")  # the connection is the control lane's from now on
        answer = await client.post(path, content=b"x" * size, headers=headers)
        assert (answer.status_code, answer.headers.get("Connection")) == (status, None if size == 1000 else "close")
        assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("path", [b"/events/", b"//events", b"///events//?a=/b/"])
async def test_a_path_with_slashes_too_many_is_the_data_route(path: bytes) -> None:
    async with unharmed() as ground, connect(ground.service) as client:
        body = event(path.decode())
        answer = await client.ask(post(body, path=path))
        assert (answer.status, answer.json) == (202, {"accepted": 1})
        assert (await client.ask(post(body, path=b"/event/s"))).status == 404
        ground.taken = [path.decode()]
