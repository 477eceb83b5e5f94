"""The driver's waiting, on real sockets: what Trio can only show with descriptors."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Generator, Iterator

import psycopg
import pytest
import trio
import trio.testing
from psycopg.waiting import Ready, Wait

from hermes.store.postgres.waiting import SocketWaiter, drive, drive_connecting

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


@pytest.fixture
async def waiter(pair: Pair) -> AsyncIterator[SocketWaiter]:
    waiter = SocketWaiter(pair[0].fileno())
    yield waiter
    if not waiter.closed:
        waiter.close(pair[0].fileno())


def fill(sender: socket.socket) -> None:
    while True:
        try:
            sender.send(b"x" * 65536)
        except BlockingIOError:
            return


def ask(*wanted: Wait) -> Generator[Wait, int, list[int]]:
    """Wait for each in turn and return what was ready."""
    ready = []
    for one in wanted:
        ready.append((yield one))  # noqa: PERF401  # a comprehension cannot yield
    return ready


async def test_a_socket_is_asked_what_it_is_ready_for(pair: Pair, waiter: SocketWaiter) -> None:
    assert waiter.poll() == Ready.W
    pair[1].send(b"x")
    assert waiter.poll() == Ready.RW
    fill(pair[0])
    assert waiter.poll() == Ready.R


async def test_waiting_for_either_ends_with_the_first(pair: Pair, waiter: SocketWaiter) -> None:
    fill(pair[0])
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def expect_readable() -> None:
                assert await waiter.wait(Wait.RW) == Ready.R

            nursery.start_soon(expect_readable)
            await trio.testing.wait_all_tasks_blocked()
            pair[1].send(b"x")


async def test_a_generator_is_told_only_what_it_waits_for(pair: Pair, waiter: SocketWaiter) -> None:
    pair[1].send(b"x")
    assert await drive(ask(Wait.W, Wait.R, Wait.RW), waiter) == [Ready.W, Ready.R, Ready.RW]


async def test_a_hung_up_peer_counts_as_ready(pair: Pair, waiter: SocketWaiter) -> None:
    pair[1].close()
    assert waiter.poll() == Ready.RW


@pytest.mark.parametrize("wanted", list(Wait))
async def test_closing_wakes_up_who_waits(pair: Pair, waiter: SocketWaiter, wanted: Wait) -> None:
    fill(pair[0])

    async def expect_the_error() -> None:
        with pytest.raises(psycopg.OperationalError, match="closed while in use"):
            await drive(ask(wanted), waiter)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_the_error)
            await trio.testing.wait_all_tasks_blocked()
            waiter.close(pair[0].fileno())


async def test_a_generator_that_is_always_ready_lets_others_run(waiter: SocketWaiter) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    def write_until_others_had_turns() -> Generator[Wait, int, None]:
        while turns < 3:
            yield Wait.W

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await drive(write_until_others_had_turns(), waiter)
            nursery.cancel_scope.cancel()


async def test_a_generator_that_never_waits_still_lets_others_run(waiter: SocketWaiter) -> None:
    ran = False

    async def run() -> None:
        nonlocal ran
        ran = True

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while not ran:
                assert await drive(ask(), waiter) == []


async def test_a_cancelled_attempt_to_connect_closes_its_generator(pair: Pair) -> None:
    closed = False

    def connect() -> Generator[tuple[int, Wait], int, None]:
        nonlocal closed
        try:
            yield pair[0].fileno(), Wait.R
        finally:
            closed = True

    with trio.move_on_after(0.01):
        await drive_connecting(connect())
    assert closed
