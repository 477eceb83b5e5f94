"""The endpoints of clients, on HTTP_ADDR under its keys.

POST   /topics/{topic}/messages                       store a message, or an array of them
GET    /topics/{topic}/messages?offset=&limit=        look at messages, without a lease
DELETE /topics/{topic}/scheduled/{id}                 cancel a message that waits for its time
POST   /topics/{topic}/groups/{group}/poll            lease messages
POST   /topics/{topic}/groups/{group}/ack             done
POST   /topics/{topic}/groups/{group}/nack            to be delivered again, at once or later
POST   /topics/{topic}/groups/{group}/extend          a lease is to last longer
POST   /topics/{topic}/groups/{group}/forward         done, once another message is stored
POST   /topics/{topic}/groups/{group}/commit          everything below an offset is done
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, cast

import msgspec

from hermes.broker.http import bodies, views
from hermes.broker.http.bodies import WrongBody, milliseconds, read_body
from hermes.broker.http.calls import Calls
from hermes.broker.http.failures import NoSuch, Refused, explained, words_of
from hermes.broker.http.polls import Polls
from hermes.broker.machine.commands import Ack, Cancel, Commit, Extend, Forward, Nack
from hermes.broker.machine.machine import Refusal, Reply, Stored
from hermes.broker.parked_poll import DEFAULT_VISIBILITY_MS, MAX_WAIT_MS, PollTerms
from hermes.net.control.endpoint import Answer, Endpoint, Request
from hermes.net.http.response import Response

if TYPE_CHECKING:
    from hermes.net.control.openapi.operation import Operation

TOPIC = "/topics/{topic}"
GROUP = TOPIC + "/groups/{group}"

MOST_PEEKED = 100
_PEEKED_BYTES = 8 * 2**20

_DONE = Response(200, b"{}")


class StoredView(msgspec.Struct, omit_defaults=True):
    """One message: its ``offset``; its ``id``, if it enters its topic later; or why it was ``refused``."""

    offset: int | msgspec.UnsetType = msgspec.UNSET
    id: int | msgspec.UnsetType = msgspec.UNSET
    refused: str | msgspec.UnsetType = msgspec.UNSET


class DataEndpoints:
    """Answers clients. ::

    endpoints = DataEndpoints(calls, polls).declare()
    """

    def __init__(self, calls: Calls, polls: Polls) -> None:
        self._calls = calls
        self._polls = polls

    def declare(self) -> Iterable[Endpoint]:
        """The endpoints."""

        @cache
        def describe() -> Mapping[str, Operation]:
            # Imported when a document is first asked for: its types cost some milliseconds of a start.
            from hermes.broker.http.openapi import describe_data

            return describe_data()

        def one(method: str, path: str, handler: Callable[[Request], Awaitable[Answer]], name: str) -> Endpoint:
            answer = explained(self._calls.node, handler)
            return Endpoint(method, path, answer, lambda: [describe()[name]], "HTTP_ADDR", "before")

        return [
            one("POST", TOPIC + "/messages", self.produce, "produce"),
            one("GET", TOPIC + "/messages", self.peek, "peek"),
            one("DELETE", TOPIC + "/scheduled/{id:int}", self.cancel, "cancel"),
            one("POST", GROUP + "/poll", self.poll, "poll"),
            one("POST", GROUP + "/ack", self.ack, "ack"),
            one("POST", GROUP + "/nack", self.nack, "nack"),
            one("POST", GROUP + "/extend", self.extend, "extend"),
            one("POST", GROUP + "/forward", self.forward, "forward"),
            one("POST", GROUP + "/commit", self.commit, "commit"),
        ]

    async def produce(self, request: Request) -> Answer:
        """Store messages, all in one commit if they fit."""
        topic = request.parameters["topic"]
        given = await read_body(request.body, bodies.NewMessages)
        messages = given if isinstance(given, list) else [given]
        # All are checked before the first is stored: a wrong one takes nothing of the others back.
        commands = [self._calls.check_produce(message.command(topic)) for message in messages]
        replies = await self._calls.commit_all(commands)
        # A client that sends one object reads one object.
        if not isinstance(given, list):
            return _answer_stored(replies[0])
        stored = [_stored(reply) for reply in replies]
        # With one stored message the request has had an effect, and must not be sent again as a whole.
        status = 409 if all(isinstance(reply, Refusal) for reply in replies) else 201
        return Response(status, msgspec.json.encode({"stored": stored}))

    async def peek(self, request: Request) -> Answer:
        """Messages from an offset on, as they lie there."""
        self._calls.check()
        topic = self._calls.topic(request.parameters["topic"])
        limit = min(number_of(request, "limit", 10), MOST_PEEKED)
        # Messages below have been reclaimed, or the retention has taken them.
        first = max(number_of(request, "offset", 0), topic.messages.first)
        offsets = range(first, min(first + limit, topic.messages.next))
        messages = topic.messages.read(offsets)
        fitting, size = 0, 0
        for message in messages:
            size += message.size
            if fitting and size > _PEEKED_BYTES:
                break
            fitting += 1
        messages = messages[:fitting]
        payloads = self._calls.node.sequencer.payloads
        # The log must not be trimmed while the payloads are read.
        payloads.pin(messages)
        try:
            found = await payloads.load_all(messages)
        finally:
            payloads.unpin(messages)
        shown = list(map(views.view_message, offsets, messages, found))
        last = first + fitting
        following = last if last < topic.messages.next else None
        return Response(200, msgspec.json.encode({"messages": shown, "next": following}))

    async def cancel(self, request: Request) -> Answer:
        """Cancel a message that waits for its time."""
        self._calls.check()
        if not await self._calls.commit(Cancel(request.parameters["topic"], request.parameters["id"])):
            raise NoSuch("no message of this id waits for its time: it has entered its topic, or was cancelled")
        return _DONE

    async def poll(self, request: Request) -> Answer:
        """Lease messages."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.PollBody)
        # 0 means the default, as on the wire.
        visibility_ms = min(
            milliseconds(asked.visibility, DEFAULT_VISIBILITY_MS) or DEFAULT_VISIBILITY_MS,
            self._calls.bounds.max_visibility_ms,
        )
        terms = PollTerms(topic, group, asked.max, visibility_ms, asked.auto, request.client)
        # As on the wire; proxies mostly give up before.
        wait_ms = min(milliseconds(asked.wait, 0), MAX_WAIT_MS)
        deliveries, give_back = await self._polls.poll(terms, wait_ms, request)
        if not deliveries:
            return Response(200, b'{"messages":[]}')
        messages = [delivery.message for delivery in deliveries]
        payloads = self._calls.node.sequencer.payloads
        try:
            found = await payloads.load_all(messages)
        # A cancelled request too: the messages belong to the next poll, not to a client that has gone.
        except BaseException:
            give_back()
            raise
        # Not after an error: `give_back` has unpinned them.
        payloads.unpin(messages)
        shown = [
            views.view_message(delivery.offset, delivery.message, payload, delivery)
            for delivery, payload in zip(deliveries, found, strict=True)
        ]
        return Response(200, msgspec.json.encode({"messages": shown}))

    async def ack(self, request: Request) -> Answer:
        """The messages are done."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.AckBody)
        await self._calls.commit(Ack(topic, group, tuple(asked.leases)))
        return _DONE

    async def nack(self, request: Request) -> Answer:
        """The messages are to be delivered again."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.NackBody)
        delay_ms = milliseconds(asked.delay, 0)
        # Each in a command of its own, so that each new lease is that of its message.
        commands = [Nack(topic, group, (lease,), delay_ms, asked.reason) for lease in asked.leases]
        replies = await self._calls.commit_all(commands)
        if not delay_ms:
            return _DONE
        # A dead letter and a lease that is gone have no new lease.
        leases = [reply[0] if isinstance(reply, list) and reply else None for reply in replies]
        return Response(200, msgspec.json.encode({"leases": leases}))

    async def extend(self, request: Request) -> Answer:
        """The leases are to last longer."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.ExtendBody)
        visibility_ms = min(milliseconds(asked.visibility, 0), self._calls.bounds.max_visibility_ms)
        extended = await self._calls.commit(Extend(topic, group, tuple(asked.leases), visibility_ms))
        return Response(200, msgspec.json.encode({"leases": extended}))

    async def forward(self, request: Request) -> Answer:
        """A message is done once another one is stored."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.ForwardBody)
        produce = self._calls.check_produce(asked.message.command(asked.topic))
        reply = await self._calls.commit(Forward(topic, group, asked.lease, produce))
        return _answer_stored(reply)

    async def commit(self, request: Request) -> Answer:
        """Everything below an offset is done."""
        topic, group = self._group(request)
        asked = await read_body(request.body, bodies.CommitBody)
        await self._calls.commit(Commit(topic, group, asked.offset))
        return _DONE

    def _group(self, request: Request) -> tuple[str, str]:
        topic, group = request.parameters["topic"], request.parameters["group"]
        self._calls.check(topic, group)
        return topic, group


def _stored(reply: Reply) -> StoredView:
    if isinstance(reply, Stored):
        return StoredView(id=reply.id)
    return StoredView(refused=words_of(reply)) if isinstance(reply, Refusal) else StoredView(offset=cast(int, reply))


def _answer_stored(reply: Reply) -> Answer:
    if isinstance(reply, Refusal):
        raise Refused(reply)
    return Response(201, msgspec.json.encode(_stored(reply)))


def number_of(request: Request, name: str, default: int) -> int:
    """A number of the query. Raises `WrongBody`."""
    values = request.query.get(name, [])
    if not values:
        return default
    (text, *others) = values
    # Digits alone: int() would take signs, spaces, underscores and digits of other scripts.
    if others or not text.isascii() or not text.isdigit() or len(text) > 18:
        raise WrongBody(f"{name} has to be one whole number from 0 on")
    return int(text)
