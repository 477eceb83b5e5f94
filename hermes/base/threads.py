"""Runs calls on threads whose failures leave nothing in memory.

Invariant: an expected error, and a cancellation that the call itself checks for, cross from the thread as a value,
without a traceback, and are raised again in the task. Any other error is a bug, and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from hermes.base.errors import HermesError

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")

EXPECTED = (OSError, HermesError)
"""The errors of calls that read and write files."""


# Trio carries an error out of a thread through frames that hold it, and the error's traceback holds those frames with
# the call's arguments: a cycle, which stays until the garbage collector runs. The collector runs rarely, so a disk that
# fails for a while would keep every refused batch in memory. A value has no frames.
class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


async def run_on_thread(
    function: Callable[[*ArgsT], ResultT],
    *args: *ArgsT,
    limiter: trio.CapacityLimiter,
    abandon_on_cancel: bool = False,
    expected: tuple[type[Exception], ...] = EXPECTED,
) -> ResultT:
    """Call ``function`` on a thread, as `trio.to_thread.run_sync` does.

    An error of one of the ``expected`` types is raised without its traceback, so that it keeps no argument in memory.

    ::

        limiter = trio.CapacityLimiter(1)
        try:
            text = await run_on_thread(Path(folder, "missing").read_bytes, limiter=limiter)
        except OSError as error:
            # Neither the frames of the thread nor its arguments are kept.
            reason = str(error)
    """

    def call() -> ResultT | _Failed:
        try:
            return function(*args)
        # From `trio.from_thread.check_cancelled`; the task raises the error again.
        except trio.Cancelled as error:
            _forget_frames(error)
            return _Failed(error)
        except expected as error:
            _forget_frames(error)
            return _Failed(error)

    result = await trio.to_thread.run_sync(call, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    if not isinstance(result, _Failed):
        return result
    error = result.error
    try:
        raise error
    finally:
        # The frame of this function would hold the error, whose traceback holds the frame.
        del error, result


def _forget_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error and of the errors that led to it."""
    found = [error]
    # A loop instead of recursion: a chain of causes may be long, or a circle.
    while found:
        each = found.pop()
        each.__traceback__ = None
        found += [other for other in (each.__cause__, each.__context__) if other is not None and other.__traceback__]
