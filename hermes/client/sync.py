"""The client for programs without Trio: the same client, on a thread with a Trio loop of its own.

Invariant: each call runs the asynchronous client's method of that name; nothing of the protocol is here.

::

    from hermes.client.sync import connect

    with connect(["127.0.0.1:7600"]) as client:
        client.produce("orders", {"id": 1})
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import trio

from hermes.client import client as asynchronous
from hermes.client.connection import Dial, dial_tcp
from hermes.client.message import Message, Node, Stats

ResultT = TypeVar("ResultT")


class Client:
    """The calls of `hermes.client.Client`, blocking. May be used from several threads."""

    def __init__(self, client: asynchronous.Client, token: trio.lowlevel.TrioToken) -> None:
        self._client = client
        self._token = token

    def _run(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        # With the token, since Trio did not start the thread of the caller.
        return trio.from_thread.run(call, trio_token=self._token)

    def create_topic(self, topic: str, *, rate_per_second: float | None = None, burst: int = 1) -> None:
        """Create a topic; one that exists stays."""
        self._run(partial(self._client.create_topic, topic, rate_per_second=rate_per_second, burst=burst))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its messages and groups."""
        self._run(partial(self._client.delete_topic, topic))

    def produce(
        self, topic: str, value: object, *, priority: int = 0, producer_id: str = "", seq: int | None = None
    ) -> int:
        """Store a message, and return its offset after the commit."""
        call = partial(self._client.produce, topic, value, priority=priority, producer_id=producer_id, seq=seq)
        return self._run(call)

    def produce_many(
        self, topic: str, values: Iterable[object], *, priority: int = 0, producer_id: str = "", first_seq: int = 0
    ) -> list[int]:
        """Store many messages, pipelined, and return their offsets in the order of ``values``."""
        many = self._client.produce_many
        # A list: an iterator of the caller's must not run on the loop's thread, and block it.
        return self._run(
            partial(many, topic, list(values), priority=priority, producer_id=producer_id, first_seq=first_seq)
        )

    def poll(
        self,
        topic: str,
        group: str,
        *,
        most: int = 16,
        visibility_ms: int = 30_000,
        wait_ms: int = 0,
        auto: bool = False,
    ) -> list[Message]:
        """Lease up to ``most`` messages; wait up to ``wait_ms`` for the first."""
        call = self._client.poll
        return self._run(
            partial(call, topic, group, most=most, visibility_ms=visibility_ms, wait_ms=wait_ms, auto=auto)
        )

    def ack(self, message: Message) -> None:
        """Acknowledge a polled message."""
        self._run(partial(self._client.ack, message))

    def nack(self, message: Message) -> None:
        """Give a polled message back."""
        self._run(partial(self._client.nack, message))

    def commit(self, topic: str, group: str, offset: int) -> None:
        """Move a group forward: ``offset`` is the next one to read."""
        self._run(partial(self._client.commit, topic, group, offset))

    def stats(self) -> Stats:
        """Return the statistics of the node that is presumed to lead."""
        return self._run(self._client.stats)


@contextmanager
def connect(
    nodes: Sequence[str | Node],
    *,
    token: str = "",
    answer_seconds: float = asynchronous.ANSWER_SECONDS,
    dial: Dial = dial_tcp,
) -> Iterator[Client]:
    """Open a client of the broker's ``nodes``; see `hermes.client.connect`."""
    ready: Future[tuple[Client, trio.lowlevel.TrioToken, trio.Event]] = Future()

    async def serve() -> None:
        try:
            async with asynchronous.connect(nodes, token=token, answer_seconds=answer_seconds, dial=dial) as client:
                stop = trio.Event()
                loop = trio.lowlevel.current_trio_token()
                ready.set_result((Client(client, loop), loop, stop))
                await stop.wait()
        # Of every kind: whatever ends the loop before the client is open, the caller waits for `ready`.
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    # An executor and no bare thread: its future brings an error of the loop to the caller.
    with ThreadPoolExecutor(1, "hermes-client") as executor:
        running = executor.submit(trio.run, serve)
        client, loop, stop = ready.result()
        try:
            yield client
        finally:
            # On the loop's thread: Trio's events are not for other threads.
            trio.from_thread.run_sync(stop.set, trio_token=loop)
            # The block ends after the loop has, and with its error.
            running.result()
