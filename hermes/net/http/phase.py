"""The phases of a connection of the fast lane, as one table.

Invariant: `hermes.net.http.connection.Connection` alone moves a connection from one phase to another, by `TRANSITIONS`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hermes.net.http.lane import Timeouts


class Phase(Enum):
    """The present step of a connection. The phase decides how long the client may take."""

    IDLE = "between two requests"
    HEAD = "a request's head has begun to come, or requests wait for the next turn"
    BODY = "a request's head is here, its body is not yet whole"
    CLOSING = "no further request is read; the connection ends after its last answers"
    HANDOVER = "the next request is for the control lane; the connection leaves after its last answers"


class PhaseEvent(Enum):
    """The events that move a connection."""

    LEFT_UNREAD = "a head is incomplete, or the requests behind it wait for the next turn"
    BODY_BEGUN = "the head of a request with more body to come was read"
    REQUEST_READ = "a request was read to its end"
    NOT_OURS = "the head of a request without a data route was read, or HTTP/2 was agreed on"
    LAST_ANSWER = "an answer says that it is the last of its connection"
    ENDED = "the client or the owner of the socket ended the connection, or the client took too long"


_IDLE, _HEAD, _BODY, _CLOSING, _HANDOVER = Phase

TRANSITIONS: dict[tuple[Phase, PhaseEvent], Phase] = {
    (_IDLE, PhaseEvent.LEFT_UNREAD): _HEAD,
    (_IDLE, PhaseEvent.BODY_BEGUN): _BODY,
    (_IDLE, PhaseEvent.REQUEST_READ): _IDLE,
    (_IDLE, PhaseEvent.NOT_OURS): _HANDOVER,
    (_IDLE, PhaseEvent.LAST_ANSWER): _CLOSING,
    (_IDLE, PhaseEvent.ENDED): _CLOSING,
    (_HEAD, PhaseEvent.LEFT_UNREAD): _HEAD,
    (_HEAD, PhaseEvent.BODY_BEGUN): _BODY,
    (_HEAD, PhaseEvent.REQUEST_READ): _IDLE,
    (_HEAD, PhaseEvent.NOT_OURS): _HANDOVER,
    (_HEAD, PhaseEvent.LAST_ANSWER): _CLOSING,
    (_HEAD, PhaseEvent.ENDED): _CLOSING,
    # No further head is read before the body is whole, so a body neither begins nor hands over.
    (_BODY, PhaseEvent.REQUEST_READ): _IDLE,
    # The answer to an earlier request of the connection, or the refusal of this one.
    (_BODY, PhaseEvent.LAST_ANSWER): _CLOSING,
    (_BODY, PhaseEvent.ENDED): _CLOSING,
    # Answers that were owed before the end.
    (_CLOSING, PhaseEvent.LAST_ANSWER): _CLOSING,
    (_CLOSING, PhaseEvent.ENDED): _CLOSING,
    # The control lane answers the request that waits, and decides then about the connection.
    (_HANDOVER, PhaseEvent.LAST_ANSWER): _HANDOVER,
    (_HANDOVER, PhaseEvent.ENDED): _CLOSING,
}
"""Every transition. A pair that is missing cannot happen: `Connection` would raise KeyError."""


def allowance(phase: Phase, timeouts: Timeouts) -> float:
    """Return how long a connection may stay in a phase, in seconds."""
    # A closing connection has the time between two requests: its client may still read the answers.
    if phase is _HEAD:
        return timeouts.header
    return timeouts.body if phase is _BODY else timeouts.idle
