"""Follows the requests of one connection that are being answered, and the moment when the client stops sending.

Hypercorn takes the end of the client's sending side for the client's leaving, and cancels the requests. But a client
may send no more and wait for its answers. Invariant: a client that has sent a whole request is answered, if the answer
comes soon; the service does not work longer than that for a client that has left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper

from hermes.base.repeated_event import RepeatedEvent

WHEN_CLIENT_ENDS = "hermes.when_client_ends"
"""The key of `Answering.when_client_ends` in the state of an ASGI scope."""

# The service does not work longer than this for a client that may have left.
_ENDED_SECONDS = 1.0
# Longer than Hypercorn takes to give the app the last bytes before the end.
_REST_OF_BODY_SECONDS = 0.05


class Answering:
    """The requests of a connection that are being answered.

    ``changed`` is called whenever a request begins, is read whole, waits for the client to read, or ends. If the client
    does not read for ``patience`` seconds, ``give_up`` is called.
    """

    def __init__(self, changed: Callable[[], None], patience: float, give_up: Callable[[], None]) -> None:
        self.requests = 0
        self.bodies_left = 0
        self.unread = 0
        """Requests that were read whole, and whose client has to read before they go on."""
        self._patience = patience
        self._give_up = give_up
        self._tell_change = changed
        self._changed = RepeatedEvent()
        self._client_ended = False
        self._hear_end: set[Callable[[], None]] = set()

    async def answer(
        self,
        app: ASGIWrapper,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        *rest: Any,
    ) -> None:
        """Let the app answer a request."""
        body_left = True

        async def receive_and_look() -> Any:
            nonlocal body_left
            message = await receive()
            if body_left and not message.get("more_body", False):
                body_left = False
                self.bodies_left -= 1
                self._change()
            return message

        async def send_and_look(message: Any) -> None:
            # Else a client that still sends its body would be counted twice, in `bodies_left` and here.
            counted = not body_left
            self.unread += counted
            self._change()
            try:
                # Over HTTP/2 the bytes may wait inside of Hypercorn for a window that the client keeps shut, where no
                # time-out of the stream sees them: a thousand such clients once kept everybody out of the control lane.
                with trio.move_on_after(self._patience) as patience:
                    await send(message)
                if patience.cancelled_caught:
                    self._give_up()
            finally:
                self.unread -= counted
                self._change()

        # `hermes.net.control.reply.from_quart` finds it there.
        if scope["type"] != "lifespan":
            scope["state"][WHEN_CLIENT_ENDS] = self.when_client_ends
        cancelled: trio.Cancelled | None = None
        self.requests += 1
        self.bodies_left += 1
        self._change()
        try:
            await app(scope, receive_and_look, send_and_look, *rest)
        # quart-trio answers each request in a nursery of its own, which raises groups.
        except BaseExceptionGroup as group:
            cancelled = _only_cancelled(group)
            if cancelled is None:
                raise
        finally:
            self.requests -= 1
            # An app that refuses a request may end it before the body has ended.
            self.bodies_left -= body_left
            self._change()

        if cancelled is not None:
            # Hypercorn's task keeps a group in a variable of the frame that the group came through: a reference cycle
            # that holds all the request had. It keeps no bare error; nor do we, and the group is none's context here.
            try:
                raise cancelled
            finally:
                del cancelled

    @contextmanager
    def when_client_ends(self, call: Callable[[], None]) -> Iterator[None]:
        """Within the block, ``call`` is called when the client stops sending, or at once if that has happened."""
        # The end may have come while the request was still being read.
        if self._client_ended:
            call()
        self._hear_end.add(call)
        try:
            yield
        finally:
            self._hear_end.discard(call)

    async def finish(self) -> None:
        """Wait, for a short time, until the requests of a client that sends no more are answered."""
        self._client_ended = True
        for call in tuple(self._hear_end):
            call()
        # Hypercorn has only scheduled the task of a request that has just come: let the task begin and be counted.
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        # A body that is cut off never ends: its request is not waited for below.
        with trio.move_on_after(_REST_OF_BODY_SECONDS):
            while self.bodies_left:
                await self._changed.wait()
        if not self.bodies_left:
            with trio.move_on_after(_ENDED_SECONDS):
                while self.requests:
                    await self._changed.wait()

    def release(self) -> None:
        """Report no change any more: the connection has ended."""
        # The function refers to the owner of this object: a cycle that would keep both in memory.
        self._tell_change = _tell_nobody

    def _change(self) -> None:
        self._changed.set()
        self._tell_change()


def _tell_nobody() -> None:
    pass


def _only_cancelled(group: BaseExceptionGroup[BaseException]) -> trio.Cancelled | None:
    """One of the group's errors, if every error is a cancellation."""
    # Any other error in the group is no cancellation, and must reach the log.
    if group.split(trio.Cancelled)[1] is not None:
        return None
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, trio.Cancelled) else None
