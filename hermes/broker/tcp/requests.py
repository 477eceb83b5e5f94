"""Obeys the requests of a connection but Auth and Subscribe: checks each, and makes a command of the request.

Invariant: every request gets exactly one answer, in its slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hermes.broker.machine.commands import (
    AnyCommand,
    Commit,
    CreateTopic,
    DeleteTopic,
    Produce,
    SetRateLimit,
    SetRetention,
)
from hermes.broker.node import MAX_PAYLOAD_BYTES, Bounds, Node
from hermes.broker.parked_poll import DEFAULT_POLL, DEFAULT_VISIBILITY_MS, MAX_POLL, MAX_WAIT_MS, ParkedPoll, PollTerms
from hermes.broker.tcp import replies
from hermes.broker.tcp.slot_outcome import SlotOutcome
from hermes.broker.tcp.slots import Slot, Slots
from hermes.broker.wire import hermesmq_pb2 as pb


class Requests:
    """Obeys requests. ``park(poll)`` is called for each poll that has to wait; ``holder`` gets the messages.

    ::

        requests = Requests(node, bounds, slots, park, "10.0.0.7:53422")
        requests.obey("produce", request.produce, slots.open())
    """

    def __init__(
        self, node: Node, bounds: Bounds, slots: Slots, park: Callable[[ParkedPoll], None], holder: str
    ) -> None:
        self._node = node
        self._bounds = bounds
        self._slots = slots
        self._park = park
        self._holder = holder
        self._handlers: dict[str, Callable[[Any, Slot], None]] = {
            "produce": self._produce,
            "poll": self._poll,
            "ack": self._ack,
            "nack": self._nack,
            "commit": self._commit,
            "create_topic": self._create_topic,
            "delete_topic": self._delete_topic,
            "stats": self._stats,
            "bootstrap": self._bootstrap,
            "set_rate_limit": self._set_rate_limit,
            "set_retention": self._set_retention,
        }

    def obey(self, kind: str, message: Any, slot: Slot) -> None:
        """Obey one request."""
        self._handlers[kind](message, slot)

    # --- checks ---

    def visibility_ms(self, asked: int) -> int:
        """How long a message is leased when a client asks for ``asked`` milliseconds; 0 asks for the default."""
        return min(asked or DEFAULT_VISIBILITY_MS, self._bounds.max_visibility_ms)

    def too_long(self, *names: str) -> bytes | None:
        """The refusal if one of the names is too long."""
        most = self._bounds.max_name_bytes
        # A character has four bytes at most, so a usual name need not be encoded.
        if all(len(name) * 4 <= most or len(name.encode()) <= most for name in names):
            return None
        return replies.bad_request(f"a name has more than {most} bytes: choose a shorter one")

    def not_leader(self) -> bytes | None:
        """The refusal if another node leads, or no node does."""
        if self._node.leads:
            return None
        address = self._node.leader_address
        mend = f"ask the node at {address}" if address else "no leader is known: bootstrap the cluster, or wait"
        return replies.failure("not_leader", f"this node does not lead; {mend}", address)

    def _refused(self, slot: Slot, *names: str) -> bool:
        refusal = self.too_long(*names) or self.not_leader()
        if refusal is not None:
            self._slots.answer(slot, refusal)
        return refusal is not None

    def _submit(self, command: AnyCommand, slot: Slot) -> None:
        self._node.sequencer.submit(
            command,
            lambda outcome: self._slots.answer(slot, replies.of_reply(outcome)),
        )

    # --- messages ---

    def _produce(self, asked: pb.Produce, slot: Slot) -> None:
        payload = asked.payload
        # HermesMQ's order: the payload, the names, the leadership.
        if len(payload) > MAX_PAYLOAD_BYTES:
            message = f"a payload of {len(payload):,} bytes; at most {MAX_PAYLOAD_BYTES:,} are taken"
            self._slots.answer(slot, replies.failure("payload_too_large", message))
            return
        topic, producer = asked.topic, asked.producer_id
        if not self._refused(slot, topic, producer):
            self._submit(
                Produce(topic, payload, asked.priority, asked.content_type, producer, asked.seq if producer else 0),
                slot,
            )

    def _poll(self, asked: pb.Poll, slot: Slot) -> None:
        # HermesMQ's order here: the leadership, the names.
        refusal = self.not_leader() or self.too_long(asked.topic, asked.group)
        if refusal is not None:
            self._slots.answer(slot, refusal)
            return
        terms = PollTerms(
            asked.topic,
            asked.group,
            min(asked.max or DEFAULT_POLL, MAX_POLL),
            self.visibility_ms(asked.visibility_timeout_ms),
            asked.ack_mode == "auto",
            self._holder,
        )
        poll = ParkedPoll(self._node.sequencer, terms, SlotOutcome(self._slots, slot))
        poll.begin(min(asked.wait_ms, MAX_WAIT_MS), self._park)

    def _ack(self, asked: pb.Ack, slot: Slot) -> None:
        if not self._refused(slot, asked.topic, asked.group):
            self._node.sequencer.ack(
                asked.topic,
                asked.group,
                (asked.lease_id,),
                lambda outcome: self._slots.answer(slot, replies.of_reply(outcome)),
            )

    def _nack(self, asked: pb.Nack, slot: Slot) -> None:
        if not self._refused(slot, asked.topic, asked.group):
            self._node.sequencer.nack(
                asked.topic,
                asked.group,
                (asked.lease_id,),
                lambda outcome: self._slots.answer(slot, replies.of_reply(outcome)),
            )

    def _commit(self, asked: pb.Commit, slot: Slot) -> None:
        if not self._refused(slot, asked.topic, asked.group):
            self._submit(Commit(asked.topic, asked.group, asked.offset), slot)

    # --- topics ---

    def _create_topic(self, asked: pb.CreateTopic, slot: Slot) -> None:
        if not self._refused(slot, asked.topic):
            self._submit(CreateTopic(asked.topic), slot)

    def _delete_topic(self, asked: pb.DeleteTopic, slot: Slot) -> None:
        # A name that is too long names no topic, and to delete no topic is no error.
        if not self._refused(slot):
            self._submit(DeleteTopic(asked.topic), slot)

    def _set_rate_limit(self, asked: pb.SetRateLimit, slot: Slot) -> None:
        if not self._refused(slot, asked.topic):
            rate = asked.rate_per_sec
            # Not a number, negative or beyond all use: no limit.
            limited = 0 < rate < math.inf
            self._submit(SetRateLimit(asked.topic, min(round(rate * 1000), 2**62) if limited else 0, asked.burst), slot)

    def _set_retention(self, asked: pb.SetRetention, slot: Slot) -> None:
        if not self._refused(slot, asked.topic):
            self._submit(SetRetention(asked.topic, asked.max_messages, asked.max_age_ms), slot)

    # --- the cluster ---

    def _stats(self, _asked: pb.Stats, slot: Slot) -> None:
        self._slots.answer(slot, replies.stats(self._node.stats()))

    def _bootstrap(self, asked: pb.Bootstrap, slot: Slot) -> None:
        nodes = [(node.id, node.peer_addr) for node in asked.nodes]
        # First, as in HermesMQ: a cluster that is formed answers Ok, whatever the list.
        if self._node.is_formed:
            self._slots.answer(slot, replies.OK)
        elif self._node.id not in {number for number, _ in nodes}:
            message = f"the list of nodes does not name this one, {self._node.id}"
            self._slots.answer(slot, replies.failure("bootstrap_failed", message))
        else:
            self._node.form(nodes, lambda outcome: self._slots.answer(slot, replies.of_reply(outcome)))
