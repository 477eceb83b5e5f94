"""Clean-up that no cancellation interrupts, and that ends when a stop has to end.

Each piece of clean-up is shielded and has a bound of its own; a stop sets one end for all pieces (`end_by`).
Invariant: after that end no clean-up holds a task, not even a piece that was under way. A thread whose call hangs is
left behind; `left_behind` counts such threads, so that the end of the process does not wait for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import trio

from hermes.base.threads import EXPECTED, run_on_thread

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")


class _Stop:
    """The stop of a run of Trio: the end of clean-up, and the pieces that are under way."""

    def __init__(self) -> None:
        self.end = math.inf
        # The same end by time.monotonic, because threads cannot read Trio's clock.
        self.end_on_threads = math.inf
        # `end_by` has to shorten the deadlines of pieces that began before the stop.
        self.scopes: set[trio.CancelScope] = set()
        self.left_behind = 0


# A variable of the run and no argument: clean-up happens deep in drivers and stores, far from the task that stops the
# service. Each test's run has its own.
_stop: trio.lowlevel.RunVar[_Stop] = trio.lowlevel.RunVar("the stop of this run")


def _of_this_run() -> _Stop:
    try:
        return _stop.get()
    except LookupError:
        stop = _Stop()
        _stop.set(stop)
        return stop


class CleanUp:
    """A shielded block; see `clean_up`. The ``with`` statement gives the block's cancel scope."""

    def __init__(self, stop: _Stop, seconds: float) -> None:
        self._stop = stop
        self._scope = trio.CancelScope(shield=True, deadline=min(trio.current_time() + seconds, stop.end))

    def __enter__(self) -> trio.CancelScope:
        self._stop.scopes.add(self._scope)
        return self._scope.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        self._stop.scopes.discard(self._scope)
        return self._scope.__exit__(exc_type, exc_val, exc_tb)


def clean_up(seconds: float) -> CleanUp:
    """Shield a block for at most ``seconds``, but not beyond the end that a stop has set.

    The scope's ``cancelled_caught`` says afterwards that the time was up.

        with clean_up(5) as scope:
            await trio.sleep(0.01)  # such as the rollback of a transaction
        if scope.cancelled_caught:
            print("the connection has to be thrown away")
    """
    # Shielded, because a cancelled task still has to end its statement, keep its dead letters or close its file. And
    # not beyond the stop's end: ten pieces of five seconds would outlast SHUTDOWN_TIMEOUT.
    return CleanUp(_of_this_run(), seconds)


def end_by(end: float) -> None:
    """End all clean-up by ``end`` on Trio's clock, also pieces under way. A later call may give more time."""
    stop = _of_this_run()
    stop.end = end
    stop.end_on_threads = time.monotonic() + end - trio.current_time()
    for scope in stop.scopes:
        # The smaller of both: a piece of clean-up that has less time of its own keeps that.
        scope.deadline = min(scope.deadline, end)


def end_no_later_than(end: float) -> None:
    """End all clean-up by ``end``, unless an earlier end is set."""
    end_by(min(end, _of_this_run().end))


def leave_at_least(seconds: float) -> None:
    """Move the end that a stop has set, if less than ``seconds`` are left."""
    end_by(max(_of_this_run().end, trio.current_time() + seconds))


def seconds_left() -> float:
    """The seconds that clean-up may still take: infinite before a stop."""
    return max(0.0, _of_this_run().end - trio.current_time())


def time_on_threads() -> Callable[[float], float]:
    """Return a function for threads, which shortens a number of seconds to the time before the end of clean-up.

    ::

        left = time_on_threads()
        await trio.to_thread.run_sync(lambda: left(30.0))  # 30.0, or less while a stop is under way
    """
    stop = _of_this_run()
    # Bound above, in Trio's thread: a variable of the run cannot be read from another thread.
    return lambda seconds: max(0.0, min(seconds, stop.end_on_threads - time.monotonic()))


async def run_to_end(
    function: Callable[[*ArgsT], ResultT],
    *args: *ArgsT,
    limiter: trio.CapacityLimiter,
    expected: tuple[type[Exception], ...] = EXPECTED,
) -> ResultT:
    """Call ``function`` on a thread. A call that has begun runs to its end, even if the caller is cancelled meanwhile.

    Only the end of a stop leaves a hanging thread behind. The caller may be cancelled before the call begins.
    ``expected``: see `run_on_thread`.

        limiter = trio.CapacityLimiter(1)
        await run_to_end(Path(folder, "events").write_bytes, b"whole or not begun", limiter=limiter)
    """
    # Outside of the shield: a caller that still waits for its turn may be cancelled.
    await limiter.acquire()
    hangs = False
    try:
        with clean_up(math.inf):
            try:
                # Abandoned only when the shield's own deadline passes. The limiter of one token is a new one: Trio
                # gives an abandoned thread's token back only when the thread ends, and `limiter` is this function's to
                # keep.
                return await run_on_thread(
                    function, *args, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1), expected=expected
                )
            except trio.Cancelled:
                hangs = True
                raise
    finally:
        # The token is kept for good: the thread still uses the connection or the file that the token stands for.
        if hangs:
            _of_this_run().left_behind += 1
        else:
            limiter.release()
    # A caller that was cancelled meanwhile ends as such; any other learns that the call hangs.
    await trio.lowlevel.checkpoint_if_cancelled()
    raise trio.TooSlowError


def left_behind() -> int:
    """The number of calls on threads that were left behind."""
    return _of_this_run().left_behind
