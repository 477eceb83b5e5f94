"""`RepeatedEvent`: an event that happens again and again; `set` wakes every task that waits at that moment.

The idea is trio-util's `RepeatedEvent`. Invariant: a call of `set` is not remembered, so a task checks its condition
first and waits after that, with no ``await`` between the two:

    while not self._items:
        await self._changed.wait()
"""

from __future__ import annotations

import trio


class RepeatedEvent:
    """Wakes the waiting tasks each time it is set.

    ::

        changed = RepeatedEvent()
        nursery.start_soon(changed.wait)
        await trio.testing.wait_all_tasks_blocked()
        changed.set()  # the task goes on
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: trio.Event | None = None

    def set(self) -> None:
        """Wake the tasks that wait now. Does nothing without a waiting task, so a hot path may call `set` each time."""
        if self._next is not None:
            # Cleared first, so that a task which waits again from now on waits for the next call.
            event, self._next = self._next, None
            event.set()

    async def wait(self) -> None:
        """Wait for the next call of `set`."""
        # Made by the first waiting task only: a `set` without waiters then costs one comparison.
        if self._next is None:
            self._next = trio.Event()
        await self._next.wait()
