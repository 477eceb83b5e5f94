"""Every error that accept(2) and epoll(7) can report: the service goes on, unless the error is a bug of ours."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from hermes.net.http import accepting, polled, reactor
from hermes.net.http.head import Head, Heads, Route
from hermes.net.http.lane import BodyBudget, Lane, Timeouts
from hermes.net.http.reactor import Reactor
from hermes.net.http.response import Response
from hermes.net.http.stream import StreamOptions, StreamServer
from tests.http_client import Client
from tests.net.http.kit import post

MISUSE = {errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK}
SURVIVED = sorted(errno.errorcode.keys() - MISUSE - {errno.EAGAIN, errno.EINTR})
TIMEOUTS = Timeouts(header=5, body=5, idle=5, write=5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (accepting, polled, reactor):
        monkeypatch.setattr(module, "ACCEPT_PAUSE", 0.001)
    monkeypatch.setattr(reactor, "_SWEEP_SECONDS", 0.001)


class Listening(socket.socket):
    """A listening socket whose ``accept`` raises these errors first."""

    def __init__(self, errors: Iterable[int]) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)
        self.errors = iter(errors)

    def accept(self) -> tuple[socket.socket, Any]:
        for number in self.errors:
            raise OSError(number, errno.errorcode[number])
        return super().accept()


class Streams(trio.abc.Listener[trio.SocketStream]):
    """The same as a listener of streams."""

    def __init__(self, sock: Listening) -> None:
        self.sock = sock
        self.waiting = trio.socket.fromfd(sock.fileno(), sock.family, sock.type)

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.wait_readable(self.sock)
        for number in self.sock.errors:
            raise OSError(number, errno.errorcode[number])
        return trio.SocketStream((await self.waiting.accept())[0])

    async def aclose(self) -> None:
        self.sock.close()
        self.waiting.close()
        await trio.lowlevel.checkpoint()


Serve = Callable[[Lane, list[Listening]], Reactor | StreamServer]


def as_reactor(lane: Lane, listeners: list[Listening]) -> Reactor:
    return Reactor(lane, listeners, lambda sock, _data: sock.close(), TIMEOUTS, 10)


def as_streams(lane: Lane, listeners: list[Listening]) -> StreamServer:
    async def hand_over(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    return StreamServer(lane, [Streams(sock) for sock in listeners], hand_over, StreamOptions(TIMEOUTS, 10))


BOTH = pytest.mark.parametrize("make", [as_reactor, as_streams])


@asynccontextmanager
async def serving(make: Serve, *listeners: Listening) -> AsyncIterator[Reactor | StreamServer]:
    def handle(_head: Head, _body: bytes) -> Response:
        return Response(202, b"{}")

    route = Route("/events", lambda _head: None, handle, lambda _head: b"", 1000)
    server = make(Lane(Heads({("POST", "/events"): route}), BodyBudget(1000)), list(listeners))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        yield server
        nursery.cancel_scope.cancel()


async def asked(listener: Listening) -> int:
    async with await trio.open_tcp_stream(*listener.getsockname()) as client:
        return (await Client(client).ask(post(b"{}"))).status


@BOTH
async def test_a_client_is_served_after_any_error_that_is_not_ours(make: Serve) -> None:
    listener = Listening(SURVIVED)
    async with serving(make, listener):
        assert await asked(listener) == 202
    assert not [*listener.errors]


@BOTH
@pytest.mark.parametrize("number", sorted(MISUSE), ids=lambda number: errno.errorcode[number])
async def test_a_listener_that_is_none_ends_the_service(make: Serve, number: int) -> None:
    listener = Listening([number])
    with pytest.RaisesGroup(OSError, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(make, listener), await trio.open_tcp_stream(*listener.getsockname()):
            await trio.sleep(5)


@BOTH
@pytest.mark.parametrize("number", [errno.EPERM, errno.EMFILE], ids=["EPERM", "EMFILE"])
async def test_an_error_without_end_holds_up_no_client_of_another_listener(make: Serve, number: int) -> None:
    def for_ever() -> Iterator[int]:
        while True:
            yield number

    broken, whole = Listening(for_ever()), Listening([])
    async with serving(make, broken, whole), await trio.open_tcp_stream(*broken.getsockname()):
        for _ in range(3):
            assert await asked(whole) == 202


class Watching:
    """An epoll that has no room for the next ``refused`` sockets."""

    def __init__(self, epoll: select.epoll, refused: int) -> None:
        self._epoll = epoll
        self.refused = refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, fd: int, events: int) -> None:
        if events and self.refused:
            self.refused -= 1
            raise OSError(errno.ENOSPC, "max_user_watches")
        self._epoll.register(fd, events)


async def test_without_room_for_another_watch_one_client_is_sent_away_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener, watching = Listening([]), Watching(select.epoll(), 1)
    monkeypatch.setattr(select, "epoll", lambda: watching)
    async with serving(as_reactor, listener):
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await asked(listener)
        assert await asked(listener) == 202
    assert not watching.refused
