"""Admission: the one bound on all events in the house, in events and in bytes, and the queue of requests that wait.

An event holds room from the moment it is accepted until its outcome is known in the sinks that the intake waits for, so
a stalled sink fills the house and the next request is refused; memory cannot grow behind the channel. Invariant: the
events of a request come in together or not at all, and first come is first served. Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from hermes.base.rate import Rate
from hermes.events.event import Chunk

# Retry-After has whole seconds (RFC 9110 §10.2.3).
SHORTEST_RETRY = 1
LONGEST_RETRY = 30
MAX_WAITERS = 50_000
"""Requests that may wait for room at once: each holds about 2 KB beside its body."""


class _Waiter:
    __slots__ = ("count", "size", "tell")

    def __init__(self, count: int, size: int, tell: Callable[[bool], None]) -> None:
        self.count = count
        self.size = size
        self.tell = tell


class Admission:
    """Room for ``max_events`` and ``max_bytes``. As many bytes again may belong to requests that wait for room.

    >>> admission = Admission(max_events=2, max_bytes=1000)
    >>> admission.admit(2, 100), admission.admit(1, 50)
    (True, False)
    >>> call_off = admission.wait(1, 50, tell=print)
    >>> admission.leave(2, 100, now=0.0)  # two events have their outcome, so the one that waits comes in
    True
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.events = 0
        self.bytes = 0
        self.accepted = 0
        self.max_events = max_events
        self._max_bytes = max_bytes
        # A dict as an ordered set: in the order of arrival, and each leaves in constant time, for many leave at once.
        self._waiters: dict[_Waiter, None] = {}
        self._waiting_bytes = 0
        self._admitting = False
        self._closed = False
        self._drained = Rate()

    def admit(self, count: int, size: int) -> bool:
        """Let ``count`` events of ``size`` bytes in, or refuse them for want of room."""
        # Each request passes here, so the usual case is decided without a call.
        events, total = self.events + count, self.bytes + size
        # While others wait, this request waits too: it must not overtake them.
        if (events > self.max_events or total > self._max_bytes or self._waiters or self._closed) and (
            self._waiters or not self.has_room(count, size)
        ):
            return False
        self.events = events
        self.bytes = total
        self.accepted += count
        return True

    def wait(self, count: int, size: int, tell: Callable[[bool], None]) -> Callable[[], None]:
        """Let events in as soon as there is room and their turn has come, and then ``tell(True)``.

        ``tell(False)`` comes if it is called off (by the function returned), if the waiters are dismissed, or at
        once if admission is closed or too many wait already.
        """
        # A first waiter may be as large as it likes: a body larger than all the room can only come in when it is empty.
        crowded = self._waiting_bytes + size > self._max_bytes or len(self._waiters) >= MAX_WAITERS
        if self._closed or (self._waiters and crowded):
            tell(False)
            return lambda: None
        waiter = _Waiter(count, size, tell)
        self._waiters[waiter] = None
        self._waiting_bytes += size
        self._admit_waiters()
        return lambda: self._call_off(waiter)

    def leave(self, count: int, size: int, now: float) -> None:
        """Free the room of events that have their outcome."""
        self.events -= count
        self.bytes -= size
        self._drained.record(count, now)
        self._admit_waiters()

    def expel(self, count: int, size: int, now: float) -> None:
        """Free the room of events that were let in and could not be kept: they were never accepted."""
        self.accepted -= count
        self.leave(count, size, now)

    def close(self) -> None:
        """Admit no more events, and refuse the requests that wait."""
        self._closed = True
        self.dismiss_waiters()

    def dismiss_waiters(self) -> None:
        """Refuse the requests that wait."""
        while self._waiters:
            self._dismiss(next(iter(self._waiters)))(False)

    def retry_after(self, now: float) -> int:
        """Whole seconds until there may be room, 1 to 30, by how fast events have left lately."""
        rate = self._drained.per_second(now)
        # Nothing has left lately: either nothing was there, or the sinks stand still.
        if not rate:
            return LONGEST_RETRY if self.events else SHORTEST_RETRY
        return max(SHORTEST_RETRY, min(LONGEST_RETRY, ceil(self.events / rate)))

    def has_room(self, count: int, size: int) -> bool:
        """Whether so many events of so many bytes would be let in now."""
        if self._closed or self.events + count > self.max_events:
            return False
        # A body larger than all the room for bytes is taken when the house is empty: else it never could be.
        return self.bytes + size <= self._max_bytes or not self.events

    def _admit_waiters(self) -> None:
        # Called again from a waiter's callback: the outer loop admits the new waiter. Without this a crowd that waits
        # would come in by calls within calls, as deep as it is long.
        if self._admitting:
            return
        self._admitting = True
        try:
            while self._waiters:
                waiter = next(iter(self._waiters))
                # First come, first served: a small request behind a large one waits, or the large one would starve.
                if not self.has_room(waiter.count, waiter.size):
                    break
                tell = self._dismiss(waiter)
                self.events += waiter.count
                self.bytes += waiter.size
                self.accepted += waiter.count
                tell(True)
        finally:
            self._admitting = False

    def _call_off(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._dismiss(waiter)(False)
            self._admit_waiters()

    def _dismiss(self, waiter: _Waiter) -> Callable[[bool], None]:
        """Take a waiter out of the queue; returns how it is told."""
        del self._waiters[waiter]
        self._waiting_bytes -= waiter.size
        tell = waiter.tell
        # The callback holds the function that calls the wait off, which holds the waiter: with a waiter that holds the
        # callback, the three would keep each other, and the events, until the garbage collector runs.
        del waiter.tell
        return tell


def free_room(admission: Admission, clock: Callable[[], float]) -> Callable[[Sequence[Chunk]], None]:
    """The function that a delivery calls with chunks whose outcome in its sink is known.

    The last sink that a chunk waits for frees its room.
    """

    def free(chunks: Sequence[Chunk]) -> None:
        count = size = 0
        for chunk in chunks:
            chunk.unsettled -= 1
            # Not below 0: where no sink is required, the first one frees the room, and the others come here as well.
            if chunk.unsettled == 0:
                count += len(chunk.events)
                size += chunk.size
        if count:
            admission.leave(count, size, clock())

    return free
