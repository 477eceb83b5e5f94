"""Says when requests are due in the open loop: at a constant rate that no slow answer delays.

Invariant: pure; times are nanoseconds of one monotonic clock.
"""

from __future__ import annotations

import msgspec

SECOND = 1_000_000_000


class Schedule(msgspec.Struct, frozen=True):
    """Request n, counted from 0, is due at ``start + n / rate``; ``rate`` is in requests a second.

    Count latency from the due time, not from the time of sending. A client that waits for a slow answer before it sends
    the next request leaves out the requests that a stall hurts: "coordinated omission", named by Gil Tene; wrk2
    corrects it in the same way.

    >>> Schedule(start=0, rate=1000.0).due_at(3)
    3000000
    >>> Schedule(start=0, rate=1000.0).due_by(3_000_000)
    4
    """

    start: int
    rate: float

    def due_at(self, number: int) -> int:
        """Return the moment at which this request is due, in nanoseconds."""
        return self.start + int(number * SECOND / self.rate)

    def due_by(self, now: int) -> int:
        """Return the number of requests that are due at ``now`` or before."""
        if now < self.start:
            return 0
        number = int((now - self.start) * self.rate / SECOND)
        # The product may round across a due time. A count that disagrees with `due_at` would make the loop set an
        # alarm for a moment that is past, and spin.
        while self.due_at(number) <= now:
            number += 1
        while number and self.due_at(number - 1) > now:
            number -= 1
        return number
