"""The pipelined produces: one task, one connection to the presumed leader, up to 32 unanswered produces.

Invariants: answers go to the produces in the order of sending; after a lost connection all unanswered produces are sent
again, in order, before any newer one; each ends with its offset or an error.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress

import trio

from hermes.broker.wire.hermesmq_pb2 import Produce, Request, Response
from hermes.client.connection import Connection, ConnectionLost
from hermes.client.errors import BrokerError, Unavailable, error_of
from hermes.client.pool import Pool
from hermes.client.routing import Routing, pause_after

# Both as in HermesMQ's own client. The broker reads no further requests beyond 32 unanswered ones.
MOST_QUEUED = 1024
MOST_UNANSWERED = 32


class _Waiting:
    """A produce and its caller, who waits for ``done``."""

    def __init__(self, produce: Produce) -> None:
        self.request = Request(produce=produce)
        self.failures = 0
        self.sent_at = math.inf
        self.done = trio.Event()
        self.result: int | BrokerError = Unavailable("the client is closed: the produce may or may not be stored")

    def end(self, result: int | BrokerError) -> None:
        self.result = result
        self.done.set()


class Producing:
    """Takes produces from many tasks and sends them over one connection. ``run`` is its task."""

    def __init__(self, pool: Pool, routing: Routing) -> None:
        self._pool = pool
        self._routing = routing
        self._send, self._receive = trio.open_memory_channel[_Waiting](MOST_QUEUED)
        # Unanswered produces of a lost connection, oldest first: sent before newer ones.
        self._again: deque[_Waiting] = deque()
        self._unanswered: deque[_Waiting] = deque()
        self._room = trio.Semaphore(MOST_UNANSWERED)
        self._deadline = trio.CancelScope()

    async def produce(self, produce: Produce) -> int:
        """Queue a produce and return its offset. Waits while the queue is full."""
        waiting = _Waiting(produce)
        try:
            await self._send.send(waiting)
        except trio.BrokenResourceError:
            # `run` has ended, and its end of the channel is closed.
            raise Unavailable("the client is closed: call it inside of its `async with` block") from None
        await waiting.done.wait()
        if isinstance(waiting.result, BrokerError):
            raise waiting.result
        return waiting.result

    async def run(self) -> None:
        """Send the queued produces until cancelled; then every waiting caller gets an error."""
        failures = 0
        try:
            while True:
                # Before the connection is opened: a client that never produces has none for produces.
                if not self._again:
                    self._again.append(await self._receive.receive())
                node = self._routing.node
                try:
                    connection = await self._pool.open(node)
                # Such as a wrong token: another try would fail likewise.
                except BrokerError as error:
                    while self._again:
                        self._again.popleft().end(error)
                    continue
                except ConnectionLost as error:
                    lost, moved, answered = error, "", False
                else:
                    lost, moved, answered = await self._serve(connection)
                if moved:
                    self._routing.redirect(node, moved)
                else:
                    self._routing.failed(node)
                # A connection that brought an answer was good, so the pauses begin anew.
                failures = 1 if answered else failures + 1
                self._count_failure(lost)
                await trio.sleep(pause_after(failures))
        finally:
            # Each keeps the result of its beginning: nobody knows whether the message is stored.
            for waiting in (*self._unanswered, *self._again):
                waiting.done.set()
            # Those in the channel wait too. The others, who wait for a place in it, get an error from the close.
            with suppress(trio.WouldBlock):
                while True:
                    self._receive.receive_nowait().done.set()
            self._receive.close()

    def _count_failure(self, lost: ConnectionLost) -> None:
        kept: deque[_Waiting] = deque()
        # The produces in the channel were not tried yet, so this attempt is none of theirs.
        for waiting in self._again:
            waiting.failures += 1
            if waiting.failures < self._routing.attempts:
                kept.append(waiting)
            else:
                waiting.end(Unavailable(f"no node took the message ({lost}): check that the broker runs"))
        self._again = kept

    async def _serve(self, connection: Connection) -> tuple[ConnectionLost, str, bool]:
        """Use a connection until its loss. Returns the reason, the leader that was named, whether any was stored."""
        # A new one: the unanswered produces of the last connection gave no place back.
        self._room = trio.Semaphore(MOST_UNANSWERED)
        moved, answered = "", False
        lost = ConnectionLost("no answer in time")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection)
                try:
                    while True:
                        with trio.CancelScope(deadline=self._oldest_deadline()) as self._deadline:
                            response = await connection.receive()
                        # An answer that no produce waits for is as bad as none: the order no longer tells whose an
                        # answer is.
                        if self._deadline.cancelled_caught:
                            break
                        if not self._unanswered:
                            lost = ConnectionLost("an answer came that no produce waits for")
                            break
                        if response.error.code == "not_leader":
                            moved = response.error.leader_addr
                            lost = ConnectionLost("another node leads")
                            break
                        self._answer(response)
                        answered = True
                except ConnectionLost as error:
                    lost = error
                nursery.cancel_scope.cancel()
        finally:
            # To the front: they are older than produces that no write has taken.
            self._again.extendleft(reversed(self._unanswered))
            self._unanswered.clear()
            await connection.close()
        return lost, moved, answered

    def _oldest_deadline(self) -> float:
        # The oldest is the first to be late, since answers come in the order of the sending.
        return self._unanswered[0].sent_at + self._pool.answer_seconds if self._unanswered else math.inf

    def _answer(self, response: Response) -> None:
        waiting = self._unanswered.popleft()
        kind = response.WhichOneof("kind")
        if kind == "produced":
            waiting.end(response.produced.offset)
        elif kind == "error":
            waiting.end(error_of(response.error))
        else:
            waiting.end(Unavailable(f"the node answered a produce with {kind}"))
        self._room.release()

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._room.acquire()
            if not self._again:
                self._again.append(await self._receive.receive())
            batch = [self._again.popleft()]
            # One write for all that wait already: a frame a write would cost a system call each.
            while len(batch) < MOST_UNANSWERED and self._room.value:
                if not self._again:
                    try:
                        self._again.append(self._receive.receive_nowait())
                    except trio.WouldBlock:
                        break
                self._room.acquire_nowait()
                batch.append(self._again.popleft())
            # All before the send: without a deadline a node that reads nothing would hold the send up for ever, and an
            # answer may come before the send ends.
            now = trio.current_time()
            for waiting in batch:
                waiting.sent_at = now
            self._unanswered.extend(batch)
            self._deadline.deadline = self._oldest_deadline()
            try:
                await connection.send(waiting.request for waiting in batch)
            except ConnectionLost:
                # The reader is on the same connection; the close ends it, with the unanswered produces kept.
                await connection.close()
                return
