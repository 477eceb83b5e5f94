"""The states of a message for one group, as one table.

The machine keeps no state of each message, so that a poll of a million costs no more than one of a thousand. It keeps
the few that are leased, delayed, returned or behind others, the ranges that are done, and a cursor at the fresh ones
(`leases`, `waiting`, `behind`, `done`). Invariant: each message of a topic is, for each group, in exactly one of these
states, and moves by `TRANSITIONS` alone.
"""

from __future__ import annotations

from enum import Enum


class MessageState(Enum):
    """The state of a message for one group."""

    FRESH = "never delivered"
    LEASED = "delivered, and neither acknowledged nor given back; its deadline may have passed"
    DELAYED = "given back, and to be delivered again at a time of its own"
    BEHIND = "behind an older message of its key that is not done"
    RETURNED = "to be delivered again, or at last: the one before it is done"
    DONE = "never delivered again"


class MessageEvent(Enum):
    """The events that move a message."""

    TAKEN = "a poll took it"
    TAKEN_AUTO = "an automatic poll took it"
    ACKED = "its lease was acknowledged"
    NACKED = "its lease was given back"
    PUT_OFF = "its lease was given back with a delay"
    EXPIRED = "a poll came after its deadline, or the end of its delay"
    SPENT = "an attempt at it failed, and there is no other one: it is a dead letter"
    HELD_UP = "a poll met it behind an older message of its key"
    FREED = "the message before it is done"
    LATE = "a lease that it no longer has was acknowledged or given back"
    PASSED_OVER = "a commit or the retention went beyond it"


_FRESH, _LEASED, _DELAYED, _BEHIND, _RETURNED, _DONE = MessageState

# For readers, and for the test that drives a machine through every pair.
TRANSITIONS: dict[tuple[MessageState, MessageEvent], MessageState] = {
    (_FRESH, MessageEvent.TAKEN): _LEASED,
    (_FRESH, MessageEvent.TAKEN_AUTO): _DONE,
    (_FRESH, MessageEvent.HELD_UP): _BEHIND,
    (_FRESH, MessageEvent.PASSED_OVER): _DONE,
    (_LEASED, MessageEvent.ACKED): _DONE,
    (_LEASED, MessageEvent.NACKED): _RETURNED,
    (_LEASED, MessageEvent.PUT_OFF): _DELAYED,
    (_LEASED, MessageEvent.EXPIRED): _RETURNED,
    (_LEASED, MessageEvent.SPENT): _DONE,
    # The lease that counts is the last one.
    (_LEASED, MessageEvent.LATE): _LEASED,
    (_LEASED, MessageEvent.PASSED_OVER): _DONE,
    (_DELAYED, MessageEvent.ACKED): _DONE,
    (_DELAYED, MessageEvent.NACKED): _RETURNED,
    (_DELAYED, MessageEvent.PUT_OFF): _DELAYED,
    (_DELAYED, MessageEvent.EXPIRED): _RETURNED,
    (_DELAYED, MessageEvent.LATE): _DELAYED,
    (_DELAYED, MessageEvent.PASSED_OVER): _DONE,
    (_BEHIND, MessageEvent.FREED): _RETURNED,
    (_BEHIND, MessageEvent.LATE): _BEHIND,
    (_BEHIND, MessageEvent.PASSED_OVER): _DONE,
    (_RETURNED, MessageEvent.TAKEN): _LEASED,
    (_RETURNED, MessageEvent.TAKEN_AUTO): _DONE,
    (_RETURNED, MessageEvent.LATE): _RETURNED,
    (_RETURNED, MessageEvent.PASSED_OVER): _DONE,
    (_DONE, MessageEvent.LATE): _DONE,
    (_DONE, MessageEvent.PASSED_OVER): _DONE,
}
"""Every transition. A pair that is missing cannot happen."""
