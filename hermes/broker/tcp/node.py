"""The node that connections talk to: whether it leads, what it tells of itself, and how its cluster is formed.

Invariant: a request that needs the leader is refused before it reaches the sequencer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hermes.broker.command_queue import Answer, ignore
from hermes.broker.machine.commands import Bootstrap, Lead, SetCaps
from hermes.broker.sequencer import Sequencer
from hermes.broker.wire.hermesmq_pb2 import StatsResult


@dataclass(frozen=True)
class Bounds:
    """What a client may ask for. Sizes in bytes, times in milliseconds."""

    max_frame: int
    max_name_bytes: int
    max_visibility_ms: int
    token: bytes


class Node:
    """One node, with the number ``id`` in its cluster. ::

    node = Node(1, sequencer, SetCaps(10_000, 1_000, 604_800_000))
    node.form([(1, "127.0.0.1:7700")], answer)
    """

    def __init__(self, id: int, sequencer: Sequencer, caps: SetCaps) -> None:  # noqa: A002 - the protocol's word
        self.id = id
        self.sequencer = sequencer
        self._caps = caps
        self._forming = False

    @property
    def leads(self) -> bool:
        """Whether this node serves requests about topics."""
        return self.sequencer.machine.leader == self.id

    @property
    def leader_address(self) -> str:
        """The peer address of the leader, as the bootstrap gave it; empty if no leader is known."""
        machine = self.sequencer.machine
        return machine.nodes.get(machine.leader, "")

    @property
    def is_formed(self) -> bool:
        """Whether the cluster has been formed, or is about to be."""
        return self._forming or bool(self.sequencer.machine.nodes)

    def form(self, nodes: Sequence[tuple[int, str]], answer: Answer) -> None:
        """Form a cluster of these nodes, and lead it. Called once: see `is_formed`."""
        self._forming = True
        self.sequencer.submit(Bootstrap(tuple(nodes)))
        self.lead(answer)

    def lead(self, answer: Answer = ignore) -> None:
        """Begin a term as the leader of the cluster, with the caps of this node."""
        self.sequencer.submit(self._caps)
        self.sequencer.submit(Lead(self.id), answer)

    def form_alone(self, address: str) -> None:
        """Form a cluster of this node."""
        self.form([(self.id, address)], ignore)

    def stats(self) -> StatsResult:
        """What the node knows of itself. Indexes count from 1, and 0 means none."""
        machine = self.sequencer.machine
        return StatsResult(
            last_applied=machine.next_index,
            current_leader=machine.leader,
            current_term=machine.term,
            last_log_index=machine.next_index,
            is_leader=self.leads,
            topics=len(machine.topics),
            messages=machine.retained,
            in_flight=machine.in_flight,
        )
