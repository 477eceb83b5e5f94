"""Large requests, decoded a few milliseconds at a time by one task, so that no other request waits for one of them.

A request is a generator: what it does between two yields keeps the loop, and it yields how many bytes it holds more.
A few take turns, the others wait in line. Of clients that have shown no key yet one request at a time has a turn.
Invariants: what the requests hold is in the body budget until they are decoded; each is answered once, also when its
client leaves or the service stops; the line is bounded. Pure. Filled by the ingest routes; the edge has the task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

from hermes.net.http.lane import BodyBudget

MOST_WAITING = 256
"""Large requests that may wait for their turn."""

_MOST_AT_ONCE = 4

Steps = Generator[int, None, None]


class Job:
    """One large request. ``steps`` decode and answer it; ``refuse(reason)`` answers it where they cannot go on.

    ``keyless``: its client has shown no key yet.
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
        if not self._hold(size):
            self.stop(CROWDED)

    def stop(self, reason: str) -> None:
        """Do no more of it, unless it is over, and answer why."""
        if not self.over:
            self._end()
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
        line, room = (self._keyless, self._budget.keyless) if job.keyless else (self._waiting, self._budget)
        if len(line) >= MOST_WAITING or not job.begin(room, size):
            return False
        line.append(job)
        self._wake()
        return True

    def turn(self) -> bool:
        """Do a few milliseconds of the work. False: there is none."""
        self._fill()
        if not self._active:
            return False
        job = self._active.popleft()
        if not job.over:
            job.step()
        if not job.over:
            self._active.append(job)
        return True

    def _fill(self) -> None:
        if self._keyless and not any(job.keyless for job in self._active):
            self._active.append(self._keyless.popleft())
        while self._waiting and len(self._active) < _MOST_AT_ONCE:
            self._active.append(self._waiting.popleft())
