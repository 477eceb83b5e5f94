"""The messages that a subscription has out: which are pushed, which are refreshed in silence, which an ack means.

A message that expires while its handler works is leased to the same subscription again, under another id. The client
need not know: the window keeps the new lease in silence, twice, and takes an ack of an older one for the newest.

Invariants: at most ``prefetch`` messages are out whose lease is live; each offset is out once; the memory of an offset
ends one visibility time after its deadline. Pure: times are Unix milliseconds and arguments.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from enum import Enum

from hermes.broker.machine.machine import Delivery

# This number and the two below are HermesMQ's.
SILENT_REFRESHES = 2
"""Leases of one message that are renewed without a push; the next one is pushed."""

MAX_ALIASES = 8
"""Lease ids of one message that an ack may name."""

LATE_ACK_MS = 5_000
"""So long after its ack a message that is leased again is acknowledged at once, and not pushed."""


class Fate(Enum):
    """The treatment of a delivery."""

    PUSH = "push"
    KEEP = "keep"
    """The client has the message already: only the lease is new."""
    ACK = "ack"
    """The client has acknowledged the message already."""


class _Out:
    """A message that the client has, or had: its leases, the newest last, and until when the newest is live."""

    __slots__ = ("acked_ms", "deadline_ms", "leases", "refreshes")

    def __init__(self, lease: int, deadline_ms: int) -> None:
        self.leases = deque((lease,), MAX_ALIASES)
        self.deadline_ms = deadline_ms
        self.refreshes = 0
        self.acked_ms: int | None = None


class Window:
    """The window of one subscription with acknowledgements.

    >>> from hermes.broker.machine.messages import Message
    >>> window = Window(prefetch=1, visibility_ms=300)
    >>> delivery = Delivery(7, 0, Message(0, 0, 0, 1, 0, 0))
    >>> window.wanted(0), window.take(delivery, 0), window.wanted(0)
    (1, <Fate.PUSH: 'push'>, 0)
    >>> window.wanted(300), window.take(delivery._replace(lease_id=8), 300)
    (1, <Fate.KEEP: 'keep'>)
    >>> window.close_lease(7, 350, acked=True), window.wanted(350)
    (8, 1)
    """

    def __init__(self, prefetch: int, visibility_ms: int) -> None:
        self._prefetch = prefetch
        self._visibility_ms = visibility_ms
        # By offset, in the order of their newest leases, and so of their deadlines.
        self._out: OrderedDict[int, _Out] = OrderedDict()
        self._offsets: dict[int, int] = {}
        self._live = 0
        # The offsets whose lease is live, in the order of the deadlines.
        self._deadlines: deque[tuple[int, int]] = deque()

    def wanted(self, now_ms: int) -> int:
        """How many more messages may be out."""
        self._expire(now_ms)
        return self._prefetch - self._live

    def take(self, delivery: Delivery, now_ms: int) -> Fate:
        """Note a delivery, and return its fate."""
        self._expire(now_ms)
        offset, lease = delivery.offset, delivery.lease_id
        out = self._out.get(offset)
        if out is not None and out.acked_ms is not None:
            if now_ms - out.acked_ms <= LATE_ACK_MS:
                return Fate.ACK
            self._forget(offset)
            out = None
        deadline_ms = now_ms + self._visibility_ms
        # A lease that is kept in silence takes a place as well: the message is out.
        self._live += 1
        self._deadlines.append((deadline_ms, offset))
        if out is None:
            self._out[offset] = _Out(lease, deadline_ms)
            self._offsets[lease] = offset
            return Fate.PUSH
        # The deque drops the oldest by itself, but not its entry here.
        if len(out.leases) == MAX_ALIASES:
            del self._offsets[out.leases[0]]
        out.leases.append(lease)
        self._offsets[lease] = offset
        out.deadline_ms = deadline_ms
        self._out.move_to_end(offset)
        if out.refreshes < SILENT_REFRESHES:
            out.refreshes += 1
            return Fate.KEEP
        out.refreshes = 0
        return Fate.PUSH

    def close_lease(self, lease: int, now_ms: int, *, acked: bool) -> int:
        """The client is done with the message of this lease; return the message's newest lease.

        An unknown lease is returned unchanged.
        """
        self._expire(now_ms)
        offset = self._offsets.get(lease)
        if offset is None:
            # HermesMQ's rule: an id that is not known is passed on as it is, and frees no place.
            return lease
        out = self._out[offset]
        newest = out.leases[-1]
        # Once: a second ack of a message must not free the place of another.
        if out.acked_ms is None and out.deadline_ms > now_ms:
            self._live -= 1
        out.deadline_ms = min(out.deadline_ms, now_ms)
        if acked:
            # The memory stays for a while: the lease may have expired before the ack is applied.
            out.acked_ms = now_ms if out.acked_ms is None else out.acked_ms
        else:
            self._forget(offset)
        return newest

    def _expire(self, now_ms: int) -> None:
        """Free the places of leases that have expired, and forget the messages that are too old to be acknowledged."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline_ms, offset = self._deadlines.popleft()
            out = self._out.get(offset)
            # Otherwise the message was acknowledged, or has a newer lease.
            if out is not None and out.deadline_ms == deadline_ms and out.acked_ms is None:
                self._live -= 1
        while self._out:
            offset, out = next(iter(self._out.items()))
            until = out.deadline_ms + self._visibility_ms
            if out.acked_ms is not None:
                until = max(until, out.acked_ms + LATE_ACK_MS)
            if until > now_ms:
                break
            self._forget(offset)

    def _forget(self, offset: int) -> None:
        for lease in self._out.pop(offset).leases:
            del self._offsets[lease]

    def leases(self) -> Sequence[int]:
        """The newest lease of every message that the client has not acknowledged."""
        return [out.leases[-1] for out in self._out.values() if out.acked_ms is None]
