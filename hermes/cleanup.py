"""Clean-up that no cancellation interrupts, and that ends when a stop has to end.

Clean-up is shielded, for a cancelled task still has to end its statement, keep its dead letters or close its file. Each
piece has a bound of its own; a stop sets one end for all of them (`end_by`), or ten pieces of five seconds would
outlast it. Invariant: after that end no clean-up holds a task, not even one that was under way. A thread whose call
hangs is left behind, and `left_behind` tells, so that nothing waits for it when the process ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import trio

from hermes.threads import EXPECTED, run_on_thread

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")


class _Stop:
    """What a run of Trio knows of its stop: when clean-up ends, and which is under way."""

    def __init__(self) -> None:
        self.end = math.inf
        self.end_on_threads = math.inf  # the same by time.monotonic, which threads can read
        self.scopes: set[trio.CancelScope] = set()
        self.left_behind = 0


_stop: trio.lowlevel.RunVar[_Stop] = trio.lowlevel.RunVar("the stop of this run")


def _of_this_run() -> _Stop:
    try:
        return _stop.get()
    except LookupError:
        stop = _Stop()
        _stop.set(stop)
        return stop


class CleanUp:
    """A block that is shielded; see `clean_up`. Entered, it is the scope."""

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
    """Shield a block for at most ``seconds``, and not beyond the end that a stop has set.

    The scope's ``cancelled_caught`` says afterwards that the time was up.

        with clean_up(5) as scope:
            await trio.sleep(0.01)  # such as the rollback of a transaction
        if scope.cancelled_caught:
            print("the connection has to be thrown away")
    """
    return CleanUp(_of_this_run(), seconds)


def end_by(end: float) -> None:
    """All clean-up, also that which is under way, ends by ``end`` on Trio's clock; a later call may give more time."""
    stop = _of_this_run()
    stop.end = end
    stop.end_on_threads = time.monotonic() + end - trio.current_time()
    for scope in stop.scopes:
        scope.deadline = min(scope.deadline, end)


def end_no_later_than(end: float) -> None:
    """As `end_by`, where no earlier end is set."""
    end_by(min(end, _of_this_run().end))


def leave_at_least(seconds: float) -> None:
    """Move the end that a stop has set, if it is nearer than ``seconds`` from now."""
    end_by(max(_of_this_run().end, trio.current_time() + seconds))


def seconds_left() -> float:
    """How long clean-up may still take: infinite before a stop."""
    return max(0.0, _of_this_run().end - trio.current_time())


def time_on_threads() -> Callable[[float], float]:
    """Return a function for threads: of the seconds it is given, how many clean-up may take before a stop ends.

    ::

        left = time_on_threads()
        await trio.to_thread.run_sync(lambda: left(30.0))  # 30.0, or less while a stop is under way
    """
    stop = _of_this_run()
    return lambda seconds: max(0.0, min(seconds, stop.end_on_threads - time.monotonic()))


async def run_to_end(
    function: Callable[[*ArgsT], ResultT],
    *args: *ArgsT,
    limiter: trio.CapacityLimiter,
    expected: tuple[type[Exception], ...] = EXPECTED,
) -> ResultT:
    """Call ``function`` on a thread. Once it has begun it runs to its end, whatever is cancelled meanwhile.

    Only at the end of a stop a thread that hangs is left behind; then nobody gets the limiter's token again, for that
    thread still uses what the token stands for. May be cancelled before it begins. ``expected``: see `run_on_thread`.

        limiter = trio.CapacityLimiter(1)
        await run_to_end(Path(folder, "events").write_bytes, b"whole or not begun", limiter=limiter)
    """
    await limiter.acquire()
    hangs = False
    try:
        with clean_up(math.inf):
            try:
                return await run_on_thread(
                    function, *args, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1), expected=expected
                )
            except trio.Cancelled:
                hangs = True
                raise
    finally:
        if hangs:
            _of_this_run().left_behind += 1
        else:
            limiter.release()
    await trio.lowlevel.checkpoint_if_cancelled()
    raise trio.TooSlowError


def left_behind() -> int:
    """How many calls on threads were left behind."""
    return _of_this_run().left_behind
