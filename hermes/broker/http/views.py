"""The JSON of messages, topics, groups and leases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import islice

import msgspec
from msgspec import UNSET, UnsetType

from hermes.broker.http.bodies import JSON, TEXT
from hermes.broker.machine.group import Group
from hermes.broker.machine.machine import Delivery
from hermes.broker.machine.messages import Message
from hermes.broker.machine.topic import Topic

# A group may have a million leases, and a page has room for few.
MOST_LEASES = 100
"""Leases of a group that are shown."""


class MessageView(msgspec.Struct, omit_defaults=True):
    """A message. Its content is in ``payload`` if it is JSON, in ``text`` if it is text, else in ``base64``."""

    offset: int
    priority: int
    time_ms: int
    lease: int | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    payload: msgspec.Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


class TopicView(msgspec.Struct):
    """A topic: its retained messages, from ``first`` on, and its limits; 0 is no limit. Ages in milliseconds."""

    topic: str
    messages: int
    first: int
    next: int
    scheduled: int
    groups: int
    rate: float
    burst: int
    max_messages: int
    max_age_ms: int


class GroupView(msgspec.Struct):
    """A group: how many messages are not done, and in which states they are."""

    group: str
    lag: int
    """Messages that are not done."""
    leased: int
    delayed: int
    behind: int
    """Messages that stand behind an older one of their key."""
    waiting: int
    """Messages that could be delivered now."""
    oldest_ms: int
    """Age of the oldest message that is not done; 0 if there is none."""
    consumers: int
    """Polls and subscriptions that wait for messages."""
    paused: bool
    max_attempts: int


class LeaseView(msgspec.Struct):
    """A message that is leased: to whom, and until when (Unix milliseconds)."""

    lease: int
    offset: int
    until_ms: int
    holder: str


def view_message(offset: int, message: Message, payload: bytes, delivery: Delivery | None = None) -> MessageView:
    """A message, with its lease if it was delivered.

    >>> bytes(view_message(7, Message(1000, 0, 0, 2, 0, 2), b"{}").payload)
    b'{}'
    """
    view = MessageView(offset, message.priority, message.time_ms)
    if delivery is not None:
        view.lease, view.attempt = delivery.lease_id, delivery.attempt
    # The content type is the producer's word; over TCP nobody has checked the payload.
    if message.content_type == JSON and _is_json(payload):
        view.payload = msgspec.Raw(payload)
    # What claims to be JSON and is none may be readable text at least.
    elif message.content_type in {JSON, TEXT} and (text := _text(payload)) is not None:
        view.text = text
    else:
        view.base64 = payload
    return view


def _is_json(payload: bytes) -> bool:
    """Whether a client of another protocol has kept its word."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    # msgspec does not look into the strings of a raw value, and an answer has to be UTF-8.
    return _text(payload) is not None


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def view_topic(name: str, topic: Topic) -> TopicView:
    """A topic."""
    messages, limits = topic.messages, topic.limits
    return TopicView(
        name,
        len(messages),
        messages.first,
        messages.next,
        len(topic.scheduled),
        len(topic.groups),
        limits.rate_milli / 1000,
        limits.burst,
        limits.most_messages,
        limits.max_age_ms,
    )


def view_group(name: str, group: Group, topic: Topic, consumers: int, now_ms: int) -> GroupView:
    """A group of a topic, at ``now_ms`` of the log's time."""
    lag = group.lag(topic.messages)
    leased, delayed, behind = len(group.leases), len(group.delays), len(group.behind)
    oldest_ms = max(0, now_ms - topic.messages.at(group.done.watermark).time_ms) if lag else 0
    # The rest: a message is in one state, so the counts need no walk over the messages.
    waiting = lag - leased - delayed - behind
    options = group.options
    return GroupView(
        name, lag, leased, delayed, behind, waiting, oldest_ms, consumers, options.paused, options.max_attempts
    )


def view_leases(group: Group) -> list[LeaseView]:
    """The first leases of a group to end."""
    offsets = group.leases.by_id()

    def every() -> Iterator[LeaseView]:
        for run in group.leases.runs():
            for lease in run.ids:
                if lease in offsets:
                    yield LeaseView(lease, offsets[lease], run.deadline_ms, run.holder)

    return list(islice(every(), MOST_LEASES))


def page(names: Iterable[str], after: str | None, limit: int) -> list[str]:
    """The first names beyond ``after``, in their order.

    >>> page(["b", "a", "c"], "a", 1)
    ['b']
    """
    # Not the whole list sorted: a broker may have ten thousand topics.
    return nsmallest(limit, (name for name in names if after is None or name > after))
