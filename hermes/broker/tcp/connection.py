"""One connection of a client: a task that reads requests, a task that sends answers in their order.

    bytes ─▶ frames ─▶ requests ─▶ sequencer ─▶ slots ─▶ bytes
    after Subscribe:    acks ─────▶ sequencer ─▶ pushes ─▶ bytes

Invariants: nothing that a client does reaches another one; the memory for one client is bounded: `MAX_UNANSWERED`
requests, one frame, and messages only by name until their turn to be sent comes.
"""

from __future__ import annotations

import hmac
import math

import structlog
import trio
from google.protobuf.message import DecodeError

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.node import Bounds, Node
from hermes.broker.parked_poll import ParkedPoll
from hermes.broker.tcp import replies
from hermes.broker.tcp.requests import Requests
from hermes.broker.tcp.slots import Slot, Slots
from hermes.broker.tcp.subscription import Subscription
from hermes.broker.wire import hermesmq_pb2 as pb
from hermes.broker.wire.frames import FrameReader

_log = structlog.get_logger("hermes.broker")

READ_BYTES = 64 * 2**10
FRAME_SECONDS = 30.0
"""So long may the message of a frame take to arrive once its length has."""
_SEND_BYTES = 256 * 2**10
_LAST_ACKS_SECONDS = 0.5


class Connection:
    """Serves one stream. ::

    await Connection(node, bounds, stream, peer="10.0.0.7:53422").serve()

    Attributes: 15, because the reader, the writer, the polls and the subscription of one client end together.
    """

    def __init__(self, node: Node, bounds: Bounds, stream: trio.abc.Stream, peer: str) -> None:
        self._node = node
        self._token = bounds.token
        self._stream = stream
        self._peer = peer
        self._slots = Slots()
        self._frames = FrameReader(bounds.max_frame)
        self._parked: list[ParkedPoll] = []
        self._more_parked = RepeatedEvent()
        self._requests = Requests(node, bounds, self._slots, self._park, peer)
        self._admitted = not bounds.token
        self._waiting: set[ParkedPoll] = set()
        self._subscription: Subscription | None = None
        # The Subscribe that takes the connection over once everything before it is answered.
        self._subscribe: pb.Subscribe | None = None
        self._reading_ended = False
        self._closing = trio.Event()

    async def serve(self) -> None:
        """Serve until the client or the server closes. Never raises for a fault of the client or the network."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, nursery)
                nursery.start_soon(self._wait_for_all, nursery)
                await self._answer()
                if self._subscribe is not None and not self._closing.is_set():
                    await self._run_subscription(self._subscribe)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            # The client has gone, or reads nothing: the ordinary end.
            pass
        finally:
            for poll in (*self._waiting, *self._parked):
                poll.abandon()
            self._slots.abandon()
            if self._subscription is not None:
                self._subscription.end()
            await trio.aclose_forcefully(self._stream)

    # --- reading ---

    async def _read(self, nursery: trio.Nursery) -> None:
        queue = self._node.sequencer.queue
        frame_end = math.inf
        while not self._closing.is_set():
            while queue.full:
                await queue.below_bound.wait()
            with trio.move_on_at(frame_end) as frame_time:
                data = await self._receive()
            if frame_time.cancelled_caught or not data:
                break
            acks: list[int] = []
            frames = self._frames.feed(data)
            # Of the frame and not of the read: a byte now and then gains no time.
            if not self._frames.begun:
                frame_end = math.inf
            elif frames or frame_end == math.inf:
                frame_end = trio.current_time() + FRAME_SECONDS
            for frame in frames:
                if self._subscribe is not None:
                    self._take_ack(frame, acks)
                    continue
                while self._slots.full:
                    await self._slots.changed.wait()
                if self._closing.is_set():
                    break
                self._obey(frame)
            self._flush_acks(acks)
            if self._frames.too_large is not None:
                break
        self._reading_ended = True
        # Whether it has gone or only sends no more: it need not wait for messages that may come.
        self._give_up_polls()
        if self._subscription is not None:
            nursery.cancel_scope.cancel()

    def _give_up_polls(self) -> None:
        for poll in (*self._waiting, *self._parked):
            poll.give_up()
        self._slots.changed.set()

    def stop(self) -> None:
        """The service stops: read no more, answer the requests that were read, and close."""
        self._closing.set()
        self._give_up_polls()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError:
            # A reset: as an end. What arrived before has been read.
            return b""

    def _obey(self, frame: bytes) -> None:
        slot = self._slots.open()
        try:
            request = pb.Request.FromString(frame)
        # The connection goes on, since the end of the frame is known.
        except DecodeError:
            self._slots.answer(slot, replies.bad_request("the frame holds no Request of the protocol"))
            return
        kind = request.WhichOneof("kind")
        if kind is None:
            self._slots.answer(slot, replies.bad_request("the Request has no member that this broker knows"))
        elif kind == "auth":
            self._admit(request.auth, slot)
        elif not self._admitted:
            self._refuse(slot, replies.failure("unauthorized", "this broker has a token: send Auth with it first"))
        elif kind == "subscribe":
            self._begin_subscription(request.subscribe, slot)
        else:
            self._requests.obey(kind, getattr(request, kind), slot)

    def _refuse(self, slot: Slot, frame: bytes) -> None:
        self._slots.answer(slot, frame, last=True)
        self._closing.set()

    def _admit(self, auth: pb.Auth, slot: Slot) -> None:
        # In a time that tells nothing about the token.
        if self._admitted or hmac.compare_digest(auth.token.encode(), self._token):
            self._admitted = True
            self._slots.answer(slot, replies.OK)
        else:
            self._refuse(slot, replies.failure("unauthorized", "the token is not the one of this broker"))

    def _park(self, poll: ParkedPoll) -> None:
        """Let a poll wait for messages, or end it if nobody may wait any more. Called when a poll has found nothing."""
        if self._reading_ended or self._closing.is_set():
            poll.give_up()
        else:
            self._parked.append(poll)
            self._more_parked.set()

    async def _wait_for_all(self, nursery: trio.Nursery) -> None:
        """Give each poll that is parked a task, also if it is parked long after its request."""
        while True:
            while self._parked:
                nursery.start_soon(self._wait_for, self._parked.pop())
            await self._more_parked.wait()

    async def _wait_for(self, poll: ParkedPoll) -> None:
        self._waiting.add(poll)
        await poll.wait()
        self._waiting.discard(poll)

    # --- answering ---

    async def _answer(self) -> None:
        """Send the answers, until a Subscribe takes over or no more can come."""
        while True:
            frames = []
            size = 0
            while size < _SEND_BYTES and (slot := self._slots.next_ready()) is not None:
                frame = slot.frame if slot.frame is not None else await self._read_payloads(slot)
                frames.append(frame)
                size += len(frame)
                if slot.last:
                    self._closing.set()
                    break
            if frames:
                await self._stream.send_all(b"".join(frames))
            elif not len(self._slots) and (
                self._reading_ended or self._closing.is_set() or self._subscribe is not None
            ):
                return
            else:
                await self._slots.changed.wait()

    async def _read_payloads(self, slot: Slot) -> bytes:
        deliveries = slot.deliveries or ()
        messages = [delivery.message for delivery in deliveries]
        payloads = self._node.sequencer.payloads
        try:
            found = await payloads.load_all(messages)
        except HermesError as error:
            _log.error("messages cannot be read", reason=str(error))
            return replies.of_reply(error)
        finally:
            payloads.unpin(messages)
        return replies.polled(deliveries, found)

    # --- a subscription ---

    def _begin_subscription(self, asked: pb.Subscribe, slot: Slot) -> None:
        refusal = self._requests.not_leader() or self._requests.too_long(asked.topic, asked.group)
        if refusal is not None:
            self._refuse(slot, refusal)
            return
        # No answer: the slot goes, and those before it are answered first.
        self._slots.drop(slot)
        self._subscribe = asked
        self._slots.changed.set()

    async def _run_subscription(self, asked: pb.Subscribe) -> None:
        if self._reading_ended:
            return
        visibility_ms = self._requests.visibility_ms(asked.visibility_timeout_ms)
        self._subscription = Subscription(self._node.sequencer, asked, visibility_ms, self._peer)
        self._subscription.begin()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._subscription.push, self._stream.send_all)
                await self._closing.wait()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.TooSlowError):
            # Acks that have arrived count, although nobody reads what is pushed.
            with trio.move_on_after(_LAST_ACKS_SECONDS):
                while not self._reading_ended:
                    await self._slots.changed.wait()

    def _take_ack(self, frame: bytes, acks: list[int]) -> None:
        """Take an ack or a nack of the subscription, and pass over everything else."""
        try:
            request = pb.Request.FromString(frame)
        except DecodeError:
            return
        kind = request.WhichOneof("kind")
        if kind == "ack":
            acks.append(request.ack.lease_id)
        elif kind == "nack":
            # In the order in which the client sent them.
            self._flush_acks(acks)
            if self._subscription is not None:
                self._subscription.take_acks((request.nack.lease_id,), acked=False)

    def _flush_acks(self, acks: list[int]) -> None:
        if acks and self._subscription is not None:
            self._subscription.take_acks(tuple(acks), acked=True)
        acks.clear()
