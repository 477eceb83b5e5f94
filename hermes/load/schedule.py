"""When requests are due in the open loop: a constant rate that no slow answer delays.

Latency is counted from the due time, not from the time of sending. A client that waits for a slow answer before it
sends the next request would otherwise leave out just the requests that a stall hurts: "coordinated omission", named by
Gil Tene; wrk2 corrects it in the same way.

Invariant: pure; times are nanoseconds of one monotonic clock. The client asks it at every wake-up.
"""

from __future__ import annotations

import msgspec

SECOND = 1_000_000_000


class Schedule(msgspec.Struct, frozen=True):
    """Request n, counted from 0, is due at ``start + n / rate``; ``rate`` is in requests a second."""

    start: int
    rate: float

    def due_at(self, number: int) -> int:
        """When this request is due, in nanoseconds."""
        return self.start + int(number * SECOND / self.rate)

    def due_by(self, now: int) -> int:
        """How many requests are due at this moment or were before it."""
        if now < self.start:
            return 0
        number = int((now - self.start) * self.rate / SECOND)
        # The division may round across a due time; the answer has to agree with `due_at`.
        while self.due_at(number) <= now:
            number += 1
        while number and self.due_at(number - 1) > now:
            number -= 1
        return number
