"""The node that connections talk to: whether it leads, what it tells of itself, and how its cluster is formed.

Invariants: a request that needs the leader is refused before it reaches the sequencer; a node leads from the commit of
its own term on, and not because an earlier run of it led.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.command_queue import Answer, ignore
from hermes.broker.machine.commands import Bootstrap, Lead, SetCaps
from hermes.broker.machine.machine import Reply
from hermes.broker.sequencer import Sequencer
from hermes.broker.wire.hermesmq_pb2 import StatsResult

_log = structlog.get_logger("hermes.broker")

MAX_PAYLOAD_BYTES = 2**20
"""The largest payload of a message."""

_RETRY_SECONDS = 1.0

# A count looks at every topic: at ten thousand of them 18 ms, which a client that asks again and again must not take
# from the others.
_MANY_TOPICS = 500
_COUNT_SECONDS = 1.0


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
        self._forming = self._leading = False
        self._decided = RepeatedEvent()
        self._counts = (0, 0)
        self._counted_at = -math.inf

    @property
    def leads(self) -> bool:
        """Whether this node serves requests about topics."""
        return self._leading and self.sequencer.machine.leader == self.id

    @property
    def leader(self) -> int:
        """The number of the leading node; 0 if none is known."""
        leader = self.sequencer.machine.leader
        return 0 if leader == self.id and not self._leading else leader

    @property
    def leader_address(self) -> str:
        """The peer address of the leader, as the bootstrap gave it; empty if no leader is known."""
        return self.sequencer.machine.nodes.get(self.leader, "")

    @property
    def is_formed(self) -> bool:
        """Whether the cluster has been formed, or is about to be."""
        return self._forming or bool(self.sequencer.machine.nodes)

    def form(self, nodes: Sequence[tuple[int, str]], answer: Answer) -> None:
        """Form a cluster of these nodes, and lead it. Not to be called if `is_formed`."""
        self._forming = True
        self.sequencer.submit(Bootstrap(tuple(nodes)))
        self._lead(answer)

    def _lead(self, answer: Answer) -> None:
        """Begin a term as the leader of the cluster, with the caps of this node."""
        self.sequencer.submit(self._caps)
        self.sequencer.submit(Lead(self.id), partial(self._decide, answer))

    def _decide(self, answer: Answer, outcome: Reply | HermesError) -> None:
        self._forming = False
        self._leading = not isinstance(outcome, HermesError)
        self._decided.set()
        answer(outcome)

    async def begin(self, alone: str | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lead the cluster of an earlier run; without one, form a cluster of this node, if it has an address ``alone``.

        The task has started when the first try is decided. It ends once the node leads, however long the log takes no
        entry, or at once if no cluster is to be formed.
        """
        await self._try_to_lead(alone)
        task_status.started()
        while not self._leading and (self.is_formed or alone is not None):
            _log.warning("this node cannot lead yet, for the broker's log takes no entry", retry_s=_RETRY_SECONDS)
            await trio.sleep(_RETRY_SECONDS)
            await self._try_to_lead(alone)

    async def _try_to_lead(self, alone: str | None) -> None:
        if self.is_formed:
            self._lead(ignore)
        elif alone is not None:
            self.form([(self.id, alone)], ignore)
        else:
            return
        await self._decided.wait()

    def stats(self) -> StatsResult:
        """What the node knows of itself. Indexes count from 1, and 0 means none."""
        machine = self.sequencer.machine
        messages, in_flight = self._count()
        return StatsResult(
            last_applied=machine.next_index,
            current_leader=self.leader,
            current_term=machine.term,
            last_log_index=machine.next_index,
            is_leader=self.leads,
            topics=len(machine.topics),
            messages=messages,
            in_flight=in_flight,
        )

    def _count(self) -> tuple[int, int]:
        """The messages and the leases of all topics; those of the last second where topics are many."""
        machine = self.sequencer.machine
        if len(machine.topics) < _MANY_TOPICS or trio.current_time() - self._counted_at > _COUNT_SECONDS:
            self._counts = machine.retained, machine.in_flight
            self._counted_at = trio.current_time()
        return self._counts
