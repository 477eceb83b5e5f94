"""The calls of the broker's client, and the tree of tasks below them.

Invariant: no task outlives the ``async with`` that started it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from hermes.base.cleanup import clean_up
from hermes.broker.wire.hermesmq_pb2 import (
    Ack,
    Bootstrap,
    Commit,
    CreateTopic,
    DeleteTopic,
    Nack,
    Poll,
    Produce,
    Request,
    Response,
    SetRateLimit,
    SetRetention,
    Subscribe,
)
from hermes.broker.wire.hermesmq_pb2 import Node as WireNode
from hermes.broker.wire.hermesmq_pb2 import Stats as StatsRequest
from hermes.client.connection import ConnectionLost, Dial, dial_tcp
from hermes.client.errors import BadRequest, BrokerError, Unavailable, error_of
from hermes.client.message import Message, Node, Stats, encode_payload, message_of, stats_of
from hermes.client.pool import Pool
from hermes.client.producing import Producing
from hermes.client.routing import Routing, pause_after
from hermes.client.subscription import DRAIN_SECONDS, Handler, Subscription

# As long as HermesMQ's own client waits.
ANSWER_SECONDS = 10.0
_CLOSE_SECONDS = 1.0


class Client:
    """The calls. `connect` makes one; its methods may be called from many tasks at once."""

    def __init__(self, pool: Pool, routing: Routing, producing: Producing) -> None:
        self._pool = pool
        self._routing = routing
        self._producing = producing

    async def create_topic(
        self,
        topic: str,
        *,
        rate_per_second: float | None = None,
        burst: int = 1,
        retention: tuple[int, int] | None = None,
    ) -> None:
        """Create a topic; one that exists stays. ``retention``: (most messages, most age in ms), 0 for no limit."""
        await self._call(Request(create_topic=CreateTopic(topic=topic)))
        if rate_per_second is not None:
            # As it is: the broker takes a negative rate for no limit.
            limit = SetRateLimit(topic=topic, rate_per_sec=rate_per_second, burst=burst)
            await self._call(Request(set_rate_limit=limit))
        if retention is not None:
            messages, age_ms = retention
            # Negative numbers become 0, as in HermesMQ's client: the protocol's fields hold none, and protobuf would
            # raise.
            kept = SetRetention(topic=topic, max_messages=max(0, messages), max_age_ms=max(0, age_ms))
            await self._call(Request(set_retention=kept))

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic with its messages and groups."""
        await self._call(Request(delete_topic=DeleteTopic(topic=topic)))

    async def produce(
        self, topic: str, value: object, *, priority: int = 0, producer_id: str = "", seq: int | None = None
    ) -> int:
        """Store a message, and return its offset after the commit.

        ``value`` is bytes, a string, or anything that JSON holds. A retry may store a message twice, unless it has a
        ``producer_id`` and a ``seq`` that is the message's own.
        """
        # The broker cannot tell a seq that was forgotten from 0, and would take each message for the first one sent
        # again.
        if (producer_id and seq is None) or (seq is not None and seq < 0):
            raise BadRequest("a producer_id needs a seq of 0 or more, another one for each message")
        payload, content_type = encode_payload(value)
        return await self._producing.produce(
            Produce(
                topic=topic,
                # The broker takes more than 7 as 7. The field holds no negative number.
                priority=min(7, max(0, priority)),
                content_type=content_type,
                payload=payload,
                producer_id=producer_id,
                seq=seq or 0,
            )
        )

    async def produce_many(
        self, topic: str, values: Iterable[object], *, priority: int = 0, producer_id: str = "", first_seq: int = 0
    ) -> list[int]:
        """Store many messages, pipelined, and return their offsets in the order of ``values``.

        With a ``producer_id`` the messages are numbered from ``first_seq``. Raises the first error, after all ended.
        """
        results: list[int | BrokerError] = []
        # ``values`` may be a generator of millions, and each task holds one. More than the connection's 32 unanswered
        # produces, so that the next ones are ready when an answer comes.
        room = trio.Semaphore(64)

        async def one(place: int, value: object) -> None:
            try:
                seq = first_seq + place if producer_id else None
                results[place] = await self.produce(topic, value, priority=priority, producer_id=producer_id, seq=seq)
            # Raised here, an error would cancel the other produces, whose messages may be on their way.
            except BrokerError as error:
                results[place] = error
            finally:
                room.release()

        async with trio.open_nursery() as nursery:
            for place, value in enumerate(values):
                await room.acquire()
                results.append(-1)
                nursery.start_soon(one, place, value)
        offsets = []
        for result in results:
            if isinstance(result, BrokerError):
                raise result
            offsets.append(result)
        return offsets

    async def poll(
        self,
        topic: str,
        group: str,
        *,
        most: int = 16,
        visibility_ms: int = 30_000,
        wait_ms: int = 0,
        auto: bool = False,
    ) -> list[Message]:
        """Lease up to ``most`` messages; wait up to ``wait_ms`` for the first. ``auto`` acknowledges them at once."""
        poll = Poll(
            topic=topic,
            group=group,
            max=most,
            visibility_timeout_ms=max(0, visibility_ms),
            ack_mode="auto" if auto else "manual",
            wait_ms=max(0, wait_ms),
        )
        # The broker answers at the end of the wait at the latest.
        response = await self._call(Request(poll=poll), extra=poll.wait_ms / 1000)
        return [message_of(topic, group, item) for item in response.polled.items]

    async def ack(self, message: Message) -> None:
        """Acknowledge a polled message."""
        # Over any connection: the lease of a poll belongs to its group, unlike the lease of a subscription.
        await self._call(Request(ack=Ack(topic=message.topic, group=message.group, lease_id=message.lease_id)))

    async def nack(self, message: Message) -> None:
        """Give a polled message back, for delivery at once."""
        await self._call(Request(nack=Nack(topic=message.topic, group=message.group, lease_id=message.lease_id)))

    async def commit(self, topic: str, group: str, offset: int) -> None:
        """Move a group forward: ``offset`` is the next one to read."""
        await self._call(Request(commit=Commit(topic=topic, group=group, offset=offset)))

    async def stats(self) -> Stats:
        """Return the statistics of the node that is presumed to lead."""
        return stats_of((await self._call(Request(stats=StatsRequest()))).stats)

    @asynccontextmanager
    async def subscribe(
        self,
        topic: str,
        group: str,
        handler: Handler | None = None,
        *,
        prefetch: int = 1,
        visibility_ms: int = 30_000,
        auto: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Open a subscription; with a ``handler``, up to ``prefetch`` of its calls run at once while the block runs.

        At the block's end the running handlers get 30 s, and their acks are sent before the connection closes.
        """
        # The broker's own bounds: with 0 no handler would start, and with 5,000 most would never get a message.
        prefetch = min(1024, max(1, prefetch))
        request = Subscribe(
            topic=topic,
            group=group,
            prefetch=prefetch,
            visibility_timeout_ms=max(0, visibility_ms),
            ack_mode="auto" if auto else "manual",
        )
        subscription = Subscription(self._pool, self._routing, request)
        stop = trio.CancelScope()
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(subscription.run, stop, nursery.cancel_scope)
                if handler is not None:
                    for _ in range(prefetch):
                        nursery.start_soon(subscription.handle, handler)
                try:
                    yield subscription
                except Exception as error:  # noqa: BLE001 - raised below, bare: the nursery would put it into a group
                    failure = error
                # The reader alone ends at once. Handlers that run get their time below.
                stop.cancel()
                drain = nursery.cancel_scope
                # After a fault of the block there is no time: the broker gives the messages to other consumers at the
                # close.
                drain.deadline = trio.current_time() + (DRAIN_SECONDS if handler and not failure else 0)
        finally:
            # Also when the caller is cancelled while handlers drain: the broker then nacks what is left.
            await subscription.close()
        failure = failure or subscription.failure
        if failure is not None:
            raise failure

    async def _call(self, request: Request, extra: float = 0.0) -> Response:
        reason = ""
        for attempt in range(self._routing.attempts):
            if attempt:
                await trio.sleep(pause_after(attempt))
            # In the loop: during the pause another call may have found the leader.
            node = self._routing.node
            try:
                response = await self._pool.call(node, request, self._pool.answer_seconds + extra)
            except ConnectionLost as error:
                reason = f"{node.address}: {error}"
                self._routing.failed(node)
                continue
            if response.error.code == "not_leader":
                reason = f"{node.address}: it does not lead"
                self._routing.redirect(node, response.error.leader_addr)
                continue
            # Before an error is raised, for a refusal shows as well that the node leads.
            self._routing.answered(node)
            if response.WhichOneof("kind") == "error":
                raise error_of(response.error)
            return response
        raise Unavailable(f"no node took the request ({reason}): check that the broker runs, or try later")


async def _bootstrap(pool: Pool, routing: Routing) -> None:
    """Form the cluster if no node knows of one: a second cluster beside a living one cannot arise."""
    for node in routing.nodes:
        try:
            response = await pool.call(node, Request(stats=StatsRequest()), pool.answer_seconds)
        except ConnectionLost:
            return
        # A node of any cluster knows a term above 0.
        if response.WhichOneof("kind") != "stats" or response.stats.current_term:
            return
    members = [WireNode(id=node.id, peer_addr=node.peer_address or node.address) for node in routing.nodes]
    response = await pool.call(routing.node, Request(bootstrap=Bootstrap(nodes=members)), pool.answer_seconds)
    if response.WhichOneof("kind") == "error":
        raise error_of(response.error)


@asynccontextmanager
async def connect(
    nodes: Sequence[str | Node], *, token: str = "", answer_seconds: float = ANSWER_SECONDS, dial: Dial = dial_tcp
) -> AsyncIterator[Client]:
    """Open a client of the broker's ``nodes`` (``host:port``, or `Node` for redirects among several).

    A broker is bootstrapped if every node answers and none has a cluster. Raises `Unavailable` if no node answers.
    """
    routing = Routing([node if isinstance(node, Node) else Node(node) for node in nodes])
    pool = Pool(dial, token, answer_seconds)
    producing = Producing(pool, routing)
    client = Client(pool, routing, producing)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(producing.run)
        try:
            # Every node answers this, whether it leads or not: a wrong address or token is told here, and not by a
            # later call.
            await client.stats()
            try:
                await _bootstrap(pool, routing)
            except ConnectionLost as error:
                # A `BrokerError`, or a caller would have to catch an error of the inside as well.
                raise Unavailable(f"the node was lost while it was bootstrapped ({error}): try again") from error
            yield client
        except Exception as error:  # noqa: BLE001 - raised below, bare: the nursery would put it into a group
            failure = error
        finally:
            nursery.cancel_scope.cancel()
            # The scope that was cancelled would end the first close, and leave the other connections open.
            with clean_up(_CLOSE_SECONDS):
                await pool.close()
    if failure is not None:
        raise failure
