"""The states of a message for one group, as one table.

The machine keeps no state of each message, so that a poll of a million costs no more than one of a thousand. It knows
the few that are leased or returned, the ranges that are done, and a cursor at the fresh ones (`leases`, `waiting`,
`done`). Invariant: each message of a topic is, for each group, in exactly one of these states, and moves by
`TRANSITIONS` alone.
"""

from __future__ import annotations

from enum import Enum


class MessageState(Enum):
    """The state of a message for one group."""

    FRESH = "never delivered"
    LEASED = "delivered, and neither acknowledged nor given back; its deadline may have passed"
    RETURNED = "delivered before, and to be delivered again"
    DONE = "never delivered again"


class MessageEvent(Enum):
    """The events that move a message."""

    TAKEN = "a poll took it"
    TAKEN_AUTO = "an automatic poll took it"
    ACKED = "its lease was acknowledged"
    NACKED = "its lease was given back"
    EXPIRED = "a poll came after its deadline"
    LATE = "a lease that it no longer has was acknowledged or given back"
    PASSED_OVER = "a commit or the retention went beyond it"


_FRESH, _LEASED, _RETURNED, _DONE = MessageState

# For readers, and for the test that drives a machine through every pair.
TRANSITIONS: dict[tuple[MessageState, MessageEvent], MessageState] = {
    (_FRESH, MessageEvent.TAKEN): _LEASED,
    (_FRESH, MessageEvent.TAKEN_AUTO): _DONE,
    (_FRESH, MessageEvent.PASSED_OVER): _DONE,
    (_LEASED, MessageEvent.ACKED): _DONE,
    (_LEASED, MessageEvent.NACKED): _RETURNED,
    # By the poll and not by the clock: an acknowledgement after the deadline counts until then.
    (_LEASED, MessageEvent.EXPIRED): _RETURNED,
    # The lease that counts is the last one.
    (_LEASED, MessageEvent.LATE): _LEASED,
    (_LEASED, MessageEvent.PASSED_OVER): _DONE,
    (_RETURNED, MessageEvent.TAKEN): _LEASED,
    (_RETURNED, MessageEvent.TAKEN_AUTO): _DONE,
    (_RETURNED, MessageEvent.LATE): _RETURNED,
    (_RETURNED, MessageEvent.PASSED_OVER): _DONE,
    (_DONE, MessageEvent.LATE): _DONE,
    (_DONE, MessageEvent.PASSED_OVER): _DONE,
}
"""Every transition. A pair that is missing cannot happen."""
