"""The endpoints of operators, on ADMIN_ADDR under its keys.

GET    /topics?after=&limit=                       the topics
PUT    /topics/{topic}                             make a topic, and set its limits
DELETE /topics/{topic}                             forget a topic with everything in it
GET    /topics/{topic}/messages?offset=&limit=     look at messages
POST   /topics/{topic}/messages                    store a message, or an array of them
GET    /topics/{topic}/groups?after=&limit=        the groups of a topic
GET    /topics/{topic}/groups/{group}              a group, its leases, and why it gets nothing
PATCH  /topics/{topic}/groups/{group}              pause, resume, limit the attempts
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from hermes.broker.http import bodies, views
from hermes.broker.http.bodies import milliseconds, read_body
from hermes.broker.http.calls import Calls
from hermes.broker.http.data import GROUP, TOPIC, DataEndpoints, number_of
from hermes.broker.http.failures import explained
from hermes.broker.machine.commands import CreateTopic, DeleteTopic, SetGroup, SetRateLimit, SetRetention
from hermes.broker.why import Surroundings, why
from hermes.net.control.endpoint import Answer, Endpoint, Request
from hermes.net.http.response import Response

if TYPE_CHECKING:
    from hermes.net.control.openapi.operation import Operation

# A page of a terminal or of the dashboard.
MOST_LISTED = 1000
_LISTED = 100

_DONE = Response(200, b"{}")


class OperatingEndpoints:
    """Answers operators; ``data`` has the endpoints that clients have too. ::

    endpoints = OperatingEndpoints(calls, data).declare()
    """

    def __init__(self, calls: Calls, data: DataEndpoints) -> None:
        self._calls = calls
        self._data = data

    def declare(self) -> Iterable[Endpoint]:
        """The endpoints."""

        @cache
        def describe() -> Mapping[str, Operation]:
            from hermes.broker.http.openapi import describe_operating

            return describe_operating()

        def one(method: str, path: str, handler: Callable[[Request], Awaitable[Answer]], name: str) -> Endpoint:
            answer = explained(self._calls.node, handler)
            return Endpoint(method, path, answer, lambda: [describe()[name]], "ADMIN_ADDR", "before")

        return [
            one("GET", "/topics", self.list_topics, "topics"),
            one("PUT", TOPIC, self.set_topic, "set"),
            one("DELETE", TOPIC, self.delete_topic, "delete"),
            one("GET", TOPIC + "/messages", self._data.peek, "peek"),
            one("POST", TOPIC + "/messages", self._data.produce, "produce"),
            one("GET", TOPIC + "/groups", self.list_groups, "groups"),
            one("GET", GROUP, self.show_group, "group"),
            one("PATCH", GROUP, self.set_group, "set_group"),
        ]

    async def list_topics(self, request: Request) -> Answer:
        """A page of topics."""
        topics = self._calls.node.sequencer.machine.topics
        names, following = _page(topics, request)
        shown = [views.view_topic(name, topics[name]) for name in names]
        return Response(200, msgspec.json.encode({"topics": shown, "next": following, "total": len(topics)}))

    async def set_topic(self, request: Request) -> Answer:
        """Make a topic, and set its limits."""
        name = request.parameters["topic"]
        self._calls.check(name)
        asked = await read_body(request.body, bodies.TopicBody)
        # First, so that the limits that are left out are those of the topic.
        await self._calls.commit(CreateTopic(name))
        limits = self._calls.topic(name).limits
        if asked.rate is not msgspec.UNSET or asked.burst is not msgspec.UNSET:
            # The commands set rate and burst together, so the one that is left out is sent again.
            rate_milli = limits.rate_milli if asked.rate is msgspec.UNSET else round(asked.rate * 1000)
            burst = limits.burst if asked.burst is msgspec.UNSET else asked.burst
            await self._calls.commit(SetRateLimit(name, rate_milli, burst))
        if asked.max_messages is not msgspec.UNSET or asked.max_age is not msgspec.UNSET:
            most = limits.max_messages if asked.max_messages is msgspec.UNSET else asked.max_messages
            await self._calls.commit(SetRetention(name, most, milliseconds(asked.max_age, limits.max_age_ms)))
        return Response(200, msgspec.json.encode(views.view_topic(name, self._calls.topic(name))))

    async def delete_topic(self, request: Request) -> Answer:
        """Forget a topic."""
        name = request.parameters["topic"]
        self._calls.check()
        # The command takes any name; an operator has to learn of a slip.
        self._calls.topic(name)
        await self._calls.commit(DeleteTopic(name))
        return _DONE

    async def list_groups(self, request: Request) -> Answer:
        """A page of the groups of a topic."""
        name = request.parameters["topic"]
        topic = self._calls.topic(name)
        names, following = _page(topic.groups, request)
        shown = [self._view(name, each) for each in names]
        return Response(200, msgspec.json.encode({"groups": shown, "next": following, "total": len(topic.groups)}))

    async def show_group(self, request: Request) -> Answer:
        """A group, its first leases, and why it gets nothing."""
        topic_name, name = request.parameters["topic"], request.parameters["group"]
        node = self._calls.node
        # No error for a topic or a group that is absent: this is what the sentence says.
        topic = node.sequencer.machine.topics.get(topic_name)
        group = None if topic is None else topic.group(name)
        here = Surroundings(
            node.sequencer.now_ms,
            node.leads,
            node.leader_address,
            node.sequencer.demand.count(topic_name, name),
            0 if topic is None else node.sequencer.limited_ms(topic_name),
        )
        shown = {
            "why": why(topic_name, topic, name, here),
            "group": None if group is None else self._view(topic_name, name),
            "leases": [] if group is None else views.view_leases(group),
        }
        return Response(200, msgspec.json.encode(shown))

    async def set_group(self, request: Request) -> Answer:
        """Pause, resume, limit the attempts."""
        topic_name, name = request.parameters["topic"], request.parameters["group"]
        self._calls.check(topic_name, name)
        asked = await read_body(request.body, bodies.GroupBody)
        # The command would make the topic, of which an operator has mistaken the name.
        self._calls.topic(topic_name)
        paused = None if asked.paused is msgspec.UNSET else asked.paused
        attempts = None if asked.max_attempts is msgspec.UNSET else asked.max_attempts
        await self._calls.commit(SetGroup(topic_name, name, paused, attempts))
        return Response(200, msgspec.json.encode(self._view(topic_name, name)))

    def _view(self, topic_name: str, name: str) -> views.GroupView:
        topic, group = self._calls.group(topic_name, name)
        sequencer = self._calls.node.sequencer
        return views.view_group(name, group, topic, sequencer.demand.count(topic_name, name), sequencer.now_ms)


def _page(names: Iterable[str], request: Request) -> tuple[list[str], str | None]:
    """The names of a page, and the last of them if others follow."""
    limit = max(1, min(number_of(request, "limit", _LISTED), MOST_LISTED))
    after = request.query.get("after", [None])[0]
    # One more than the page has: with it another page follows.
    found = views.page(names, after, limit + 1)
    return found[:limit], found[limit - 1] if len(found) > limit else None
