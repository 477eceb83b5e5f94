"""Calls on threads, without threads: each is made on the loop, at a moment of the virtual clock that the seed decides.

What happens before and after that moment, happens while the call is under way: its caller is cancelled, other tasks go
on, the process dies. Invariants: as with `trio.to_thread.run_sync`, a call that has begun is made, whoever has left it;
it is made at one moment, so no two calls are in SQLite at once. Entered by the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from unittest import mock

import trio

Pause = Callable[[], Awaitable[None]]


class _Call:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._result: Any = None
        self._error: Exception | None = None
        self.done = trio.Event()

    async def make(self, pause: Pause, limiter: trio.CapacityLimiter | None) -> None:
        try:
            await pause()
            try:
                self._result = self._function(*self._args)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self._error = error
            await pause()
        finally:
            if limiter is not None:
                limiter.release_on_behalf_of(self)
            self.done.set()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


@contextmanager
def threads_at_moments(pause: Pause) -> Iterator[None]:
    """While the block runs, a call "on a thread" is made between two ``pause``."""

    async def run_sync(
        function: Callable[..., Any],
        *args: Any,
        thread_name: str | None = None,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(function, args)
        if limiter is not None:
            await limiter.acquire_on_behalf_of(call)
        trio.lowlevel.spawn_system_task(call.make, pause, limiter, context=copy_context())
        with trio.CancelScope(shield=not abandon_on_cancel):
            await call.done.wait()
        return call.result()

    with mock.patch.object(trio.to_thread, "run_sync", run_sync):
        yield
