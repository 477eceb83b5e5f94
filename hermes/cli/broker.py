"""``hermes broker``: looks at the topics and groups of a running broker, says why a group gets nothing, pauses it.

Invariant: every name and text of a client is printed without characters that a terminal might obey.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import quote

import click
import msgspec

from hermes.base.quoting import printable
from hermes.broker.http.views import GroupView, LeaseView, MessageView, TopicView
from hermes.console.client import CLIENT_ENVIRONMENT, CLIENT_EXITS, AdminClient, with_client
from hermes.console.manual import Manual, ManualCommand, ManualGroup
from hermes.console.operator import tells_the_operator
from hermes.console.tables import Column, print_table
from hermes.dead_letters.notation import format_time

# The most names that the service puts into one answer (its `MOST_LISTED`), so that a list takes few requests.
_PAGE = 1000


class _Topics(msgspec.Struct):
    topics: list[TopicView]
    next: str | None


class _Groups(msgspec.Struct):
    groups: list[GroupView]
    next: str | None


_PageT = TypeVar("_PageT", _Topics, _Groups)


class _Group(msgspec.Struct):
    # Without the answer's `group`, which is null for a group that does not exist: the sentence says so too.
    why: str
    leases: list[LeaseView]


class _Messages(msgspec.Struct):
    messages: list[MessageView]
    next: int | None


@click.group(
    "broker",
    cls=ManualGroup,
    manual=Manual(
        examples=(
            ("Why a group gets nothing:", "hermes broker why orders billing"),
            ("The topics:", "hermes broker topics"),
            ("How far the groups of one are:", "hermes broker groups orders"),
        ),
        exits=CLIENT_EXITS,
        environment=CLIENT_ENVIRONMENT,
        see_also=("hermes serve", "hermes dlq list"),
    ),
)
def broker_commands() -> None:
    """Look at topics and groups of the broker, and say why one gets nothing.

    The commands ask a running Hermes that has the part broker, at its ADMIN_ADDR.
    """


def _manual(purpose: str, example: str, *others: str) -> Manual:
    return Manual(((purpose, example),), CLIENT_EXITS, CLIENT_ENVIRONMENT, see_also=others or ("hermes broker why",))


@broker_commands.command(
    "why",
    cls=ManualCommand,
    manual=_manual("Say what is in the way:", "hermes broker why orders billing", "hermes broker groups"),
)
@click.argument("topic")
@click.argument("group")
@click.option("--leases", is_flag=True, help="List the leases that end first, and who has them.")
@tells_the_operator
@with_client
def why(client: AdminClient, topic: str, group: str, leases: bool) -> None:
    """Say in one sentence why a group gets no messages, or what it would get.

    TOPIC and GROUP are names; neither has to be there.
    """
    found = client.ask("GET", _path(topic, group), _Group)
    # The sentence repeats names of topics and groups, which clients choose: any text that is short enough.
    click.echo(printable(found.why))
    # A table without rows would be a header that says nothing.
    if leases and found.leases:
        rows = [
            (str(each.lease), str(each.offset), format_time(each.until_ms / 1000), printable(each.holder))
            for each in found.leases
        ]
        print_table((Column("lease", right=True), Column("offset", right=True), "until", "holder"), rows)


@broker_commands.command(
    "topics", cls=ManualCommand, manual=_manual("All topics:", "hermes broker topics", "hermes broker groups")
)
@tells_the_operator
@with_client
def topics(client: AdminClient) -> None:
    """List the topics."""
    rows = [
        (printable(each.topic), f"{each.messages:,}", f"{each.scheduled:,}", str(each.next), f"{each.groups:,}")
        for page in _pages(client, "/topics", _Topics)
        for each in page.topics
    ]
    numbers = [Column(name, right=True) for name in ("messages", "later", "next offset", "groups")]
    print_table(("topic", *numbers), rows)


@broker_commands.command(
    "groups", cls=ManualCommand, manual=_manual("How far the groups are:", "hermes broker groups orders")
)
@click.argument("topic")
@tells_the_operator
@with_client
def groups(client: AdminClient, topic: str) -> None:
    """List the groups of a topic, with the messages that each has not done.

    TOPIC is a name. The lag counts the messages that a group has not done: leased, delayed, behind an older message of
    their key, or ready.
    """
    rows = [
        (
            printable(each.group),
            *(f"{number:,}" for number in (each.lag, each.leased, each.delayed, each.behind, each.consumers)),
            "paused" if each.paused else "",
        )
        for page in _pages(client, f"{_path(topic)}/groups", _Groups)
        for each in page.groups
    ]
    numbers = [Column(name, right=True) for name in ("lag", "leased", "delayed", "behind", "consumers")]
    print_table(("group", *numbers, "state"), rows)


@broker_commands.command(
    "peek", cls=ManualCommand, manual=_manual("The oldest messages:", "hermes broker peek orders --limit 3")
)
@click.argument("topic")
@click.option("--offset", type=click.IntRange(0), default=0, help="The first offset; the oldest message unless told.")
# 100 is the service's own bound (`MOST_PEEKED`): of a larger limit it would leave messages out without a word.
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="The most messages.")
@tells_the_operator
@with_client
def peek(client: AdminClient, topic: str, offset: int, limit: int) -> None:
    """Print messages of a topic, without a lease.

    TOPIC is a name. Whoever has leased or done the messages does not matter, and nothing changes.
    """
    found = client.ask("GET", f"{_path(topic)}/messages", _Messages, offset=offset, limit=limit)
    for message in found.messages:
        # `printable` escapes line breaks too, so that each message is one line.
        click.echo(f"{message.offset}  {format_time(message.time_ms / 1000)}  {printable(_content(message))}")


@broker_commands.command(
    "pause", cls=ManualCommand, manual=_manual("Deliver nothing for now:", "hermes broker pause orders billing")
)
@click.argument("topic")
@click.argument("group")
@tells_the_operator
@with_client
def pause(client: AdminClient, topic: str, group: str) -> None:
    """Deliver no more messages to a group.

    TOPIC and GROUP are names. The messages that are leased stay so, and can be acknowledged.
    """
    _set(client, topic, group, paused=True)


@broker_commands.command(
    "resume", cls=ManualCommand, manual=_manual("Deliver again:", "hermes broker resume orders billing")
)
@click.argument("topic")
@click.argument("group")
@tells_the_operator
@with_client
def resume(client: AdminClient, topic: str, group: str) -> None:
    """Deliver messages to a group again.

    TOPIC and GROUP are names. Consumers that wait get their messages at once.
    """
    _set(client, topic, group, paused=False)


def _pages(client: AdminClient, path: str, kind: type[_PageT]) -> Iterator[_PageT]:
    """Ask for the pages of a list, until one names no next page."""
    page = client.ask("GET", path, kind, limit=_PAGE)
    yield page
    while page.next is not None:
        page = client.ask("GET", path, kind, limit=_PAGE, after=page.next)
        yield page


def _set(client: AdminClient, topic: str, group: str, **settings: object) -> None:
    # A setting that the body lacks stays as it is, such as `max_attempts`.
    found = client.ask("PATCH", _path(topic, group), GroupView, body=settings)
    click.echo(f"{printable(found.group)}: {'paused' if found.paused else 'not paused'}, lag {found.lag:,}")


def _path(topic: str, group: str | None = None) -> str:
    # A name may have a slash, which would end this part of the path: `quote` leaves slashes alone unless told.
    path = f"/topics/{quote(topic, safe='')}"
    return path if group is None else f"{path}/groups/{quote(group, safe='')}"


def _content(message: MessageView) -> str:
    # By type: a member that the answer lacks is UNSET. The bytes of JSON stay as they are, since decoding could change
    # numbers.
    if isinstance(message.payload, msgspec.Raw):
        return bytes(message.payload).decode()
    if isinstance(message.text, str):
        return message.text
    # msgspec decodes base64 of its own accord, and a terminal must not get the bytes.
    return "base64 " + b64encode(message.base64 if isinstance(message.base64, bytes) else b"").decode()
