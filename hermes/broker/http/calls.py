"""The broker's commands, awaited, and the checks before them: what the endpoints do."""

from __future__ import annotations

from collections.abc import Sequence

from hermes.broker.http.bodies import WrongBody
from hermes.broker.http.failures import NoSuch, NotLeader, Refused, TooLarge
from hermes.broker.machine.commands import AnyCommand, Produce
from hermes.broker.machine.group import Group
from hermes.broker.machine.machine import Refusal, Reply
from hermes.broker.machine.topic import Topic
from hermes.broker.node import MAX_PAYLOAD_BYTES, Bounds, Node
from hermes.broker.sequencer import commit_all


class Calls:
    """Asks a node. ::

    reply = await Calls(node, bounds).commit(Commit("orders", "billing", 7))
    """

    def __init__(self, node: Node, bounds: Bounds) -> None:
        self.node = node
        self.bounds = bounds

    def check(self, *names: str) -> None:
        """Raise `NotLeader`, or `WrongBody` for a name that is too long."""
        if not self.node.leads:
            raise NotLeader
        for name in names:
            # In bytes, as the protocol counts them.
            if len(name.encode()) > self.bounds.max_name_bytes:
                raise WrongBody(f"a name has more than {self.bounds.max_name_bytes} bytes: choose a shorter one")

    async def commit(self, command: AnyCommand) -> Reply:
        """The reply to a command once it is durable. Raises `Refused`, `LogUnavailable`."""
        (reply,) = await self.commit_all([command])
        if isinstance(reply, Refusal):
            raise Refused(reply)
        return reply

    async def commit_all(self, commands: Sequence[AnyCommand]) -> list[Reply]:
        """The reply to each command, once all are durable. Raises `LogUnavailable` if one is not."""
        return await commit_all(self.node.sequencer, commands)

    def check_produce(self, command: Produce) -> Produce:
        """The command. Raises `TooLarge`, `WrongBody`."""
        if len(command.payload) > MAX_PAYLOAD_BYTES:
            raise TooLarge(f"a payload of {len(command.payload):,} bytes; at most {MAX_PAYLOAD_BYTES:,} are taken")
        self.check(command.topic, command.producer_id)
        return command

    def topic(self, name: str) -> Topic:
        """The topic. Raises `NoSuch`."""
        topic = self.node.sequencer.machine.topics.get(name)
        if topic is None:
            raise NoSuch("there is no topic of this name: a produce makes one")
        return topic

    def group(self, topic_name: str, name: str) -> tuple[Topic, Group]:
        """The group and its topic. Raises `NoSuch`."""
        topic = self.topic(topic_name)
        group = topic.group(name)
        if group is None:
            raise NoSuch("the topic has no group of this name: its first poll makes one")
        return topic, group
