"""Makes the responses of the protocol, as frames that are ready to be sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Delivery, Reply, Stored, TooManyTopics
from hermes.broker.wire.frames import encode_frame
from hermes.broker.wire.hermesmq_pb2 import Delivered, Error, Ok, Polled, Produced, Response, StatsResult

_NO_OFFSET = 2**63

OK = encode_frame(Response(ok=Ok()).SerializeToString())
NO_MESSAGES = encode_frame(Response(polled=Polled()).SerializeToString())


def produced(offset: int) -> bytes:
    """The answer to a produce."""
    return encode_frame(Response(produced=Produced(offset=offset)).SerializeToString())


def polled(deliveries: Sequence[Delivery], payloads: Iterable[bytes]) -> bytes:
    """The answer to a poll, and a push."""
    items = [
        Delivered(
            lease_id=lease,
            offset=offset,
            priority=message.priority,
            content_type=message.content_type,
            payload=payload,
            ts_ms=message.time_ms,
        )
        for (lease, offset, message, _), payload in zip(deliveries, payloads, strict=True)
    ]
    return encode_frame(Response(polled=Polled(items=items)).SerializeToString())


def stats(result: StatsResult) -> bytes:
    """The answer to Stats."""
    return encode_frame(Response(stats=result).SerializeToString())


def failure(code: str, message: str, leader_addr: str = "", retry_after_ms: int = 0) -> bytes:
    """A refusal, with one of the codes of the protocol."""
    found = Error(code=code, message=message, leader_addr=leader_addr, retry_after_ms=retry_after_ms)
    return encode_frame(Response(error=found).SerializeToString())


def bad_request(message: str) -> bytes:
    """The request cannot be understood or obeyed, and can be sent again only in another form."""
    return failure("bad_request", message)


def of_reply(reply: Reply | HermesError) -> bytes:
    """The answer to a command other than a poll."""
    if reply is None:
        return OK
    if isinstance(reply, int):
        return produced(reply)
    if isinstance(reply, Stored):
        # The same message was stored over HTTP, to enter its topic later. It has no offset yet, and no other message
        # will have this one.
        return produced(_NO_OFFSET + reply.id)
    if isinstance(reply, TooManyTopics):
        return failure("rejected", f"there are {reply.most:,} topics, and no more may be made: delete one first")
    return failure("internal", f"the broker's log did not take it: {reply}; try again")
