"""Large requests, decoded a few milliseconds at a time by one task, so that no other request waits for a large one.

A request is a generator. Between two yields the request keeps the loop; each yield gives the number of bytes that the
request holds more. A few requests take turns, the others wait in line. Of the clients that have shown no key yet, one
request at a time has a turn.

Invariants: the bytes of the requests are in the body budget until they are decoded; each request is answered once, also
if its client leaves or the service stops; the line is bounded. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

from hermes.net.http.lane import BodyBudget

MOST_WAITING = 256
"""The most large requests that may wait for their turn."""

# Each of them holds its body in several forms. More at once would not end sooner, because one task decodes them all.
_MOST_AT_ONCE = 4

Steps = Generator[int, None, None]


class Job:
    """One large request. ``steps`` decode and answer the request; ``refuse(reason)`` answers if they cannot go on.

    ``keyless``: the client has shown no key yet. ::

        job = Job(decode(body), refuse, keyless=False)
        taken = workshop.take(job, len(body))
    """

    __slots__ = ("_held", "_refuse", "_room", "_steps", "keyless", "over")

    def __init__(self, steps: Steps, refuse: Callable[[str], None], *, keyless: bool) -> None:
        self._steps = steps
        self._refuse = refuse
        self._held = 0
        self._room: BodyBudget
        self.keyless = keyless
        self.over = False

    def begin(self, room: BodyBudget, size: int) -> bool:
        """Hold ``size`` bytes. False: there is no room for them."""
        self._room = room
        return self._hold(size)

    def step(self) -> None:
        """Do a few milliseconds of the work."""
        try:
            size = next(self._steps)
        except StopIteration:
            self._end()
            return
        # Decoded bytes come to the bytes of the body, so the room may end in the midst of the work.
        if not self._hold(size):
            self.stop(CROWDED)

    def stop(self, reason: str) -> None:
        """End the work, unless it is over, and answer with the reason."""
        # The room before the answer: a client that hears of it may come again at once.
        if not self.over:
            self._end()
            # Frees the body and the events, which the generator holds.
            self._steps.close()
            self._refuse(reason)

    def call_off(self) -> None:
        """The client has left, or the service stops."""
        self.stop(CALLED_OFF)

    def _hold(self, size: int) -> bool:
        if not self._room.reserve(size):
            return False
        self._held += size
        return True

    def _end(self) -> None:
        self.over = True
        self._room.release(self._held)


CROWDED = "too many large requests are being read at once"
CALLED_OFF = "the service stops, or the client has ended its side of the connection, before the request was read"


class Workshop:
    """The large requests of all connections. ``wake`` is called when there is one; its task then calls `turn`."""

    def __init__(self, budget: BodyBudget, wake: Callable[[], None] = lambda: None) -> None:
        self._budget = budget
        self._active: deque[Job] = deque()
        self._waiting: deque[Job] = deque()
        self._keyless: deque[Job] = deque()
        self._wake = wake

    def __len__(self) -> int:
        return len(self._active) + len(self._waiting) + len(self._keyless)

    def take(self, job: Job, size: int) -> bool:
        """Let a request of ``size`` bytes have its turns. False: there are too many."""
        # Two lines: a flood of clients without a key must not fill the line of the others.
        line, room = (self._keyless, self._budget.keyless) if job.keyless else (self._waiting, self._budget)
        if len(line) >= MOST_WAITING or not job.begin(room, size):
            return False
        line.append(job)
        self._wake()
        return True

    def turn(self) -> bool:
        """Do a few milliseconds of the work. False: no request waits."""
        self._fill()
        if not self._active:
            return False
        job = self._active.popleft()
        # Asked twice: a job may have been called off since its last turn, and this turn may be its last.
        if not job.over:
            job.step()
        if not job.over:
            self._active.append(job)
        return True

    def _fill(self) -> None:
        # One place for all keyless clients: strangers cannot take the places of clients with a key.
        if self._keyless and not any(job.keyless for job in self._active):
            self._active.append(self._keyless.popleft())
        while self._waiting and len(self._active) < _MOST_AT_ONCE:
            self._active.append(self._waiting.popleft())
