"""The requests of one connection that are being answered, and the end of what its client sends.

Hypercorn takes the end of what a client sends for its leaving, and calls off what it has asked for. But a client may
send no more and wait for its answers. Invariant: whoever has sent a whole request is answered, where the answer comes
soon; a client that has left is not worked for longer than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper

from hermes.repeated_event import RepeatedEvent

WHEN_CLIENT_ENDS = "hermes.when_client_ends"
"""The key in the state of an ASGI scope: `Answering.when_client_ends`, for what waits as long as it takes."""

_ENDED_SECONDS = 1.0
_REST_OF_BODY_SECONDS = 0.05  # what Hypercorn takes to give the app the last bytes before the end, and more


class Answering:
    """The requests that are being answered.

    ``changed`` is called whenever one begins, is read whole, waits for its client to read, or ends. A client that does
    not read for ``patience`` seconds is given up by ``give_up``: over HTTP/2 its bytes may wait in a window of its own
    making, where no stream's time-out sees them.
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
            counted = not body_left
            self.unread += counted
            self._change()
            try:
                with trio.move_on_after(self._patience) as patience:
                    await send(message)
                if patience.cancelled_caught:
                    self._give_up()
            finally:
                self.unread -= counted
                self._change()

        if scope["type"] != "lifespan":
            scope["state"][WHEN_CLIENT_ENDS] = self.when_client_ends
        cancelled: trio.Cancelled | None = None
        self.requests += 1
        self.bodies_left += 1
        self._change()
        try:
            await app(scope, receive_and_look, send_and_look, *rest)
        except BaseExceptionGroup as group:
            cancelled = _only_cancelled(group)
            if cancelled is None:
                raise
        finally:
            self.requests -= 1
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
        """Within, ``call`` is called when the client sends no more, or at once if it already does not."""
        if self._client_ended:
            call()
        self._hear_end.add(call)
        try:
            yield
        finally:
            self._hear_end.discard(call)

    async def finish(self) -> None:
        """The client sends no more: wait until what it has asked for is answered, but not for long."""
        self._client_ended = True
        for call in tuple(self._hear_end):
            call()
        for _ in range(3):  # Hypercorn has but scheduled the task of a request that has just come
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(_REST_OF_BODY_SECONDS):
            while self.bodies_left:
                await self._changed.wait()
        if not self.bodies_left:
            with trio.move_on_after(_ENDED_SECONDS):
                while self.requests:
                    await self._changed.wait()

    def release(self) -> None:
        """The connection is over: tell nobody anything more."""
        self._tell_change = _tell_nobody

    def _change(self) -> None:
        self._changed.set()
        self._tell_change()


def _tell_nobody() -> None:
    pass


def _only_cancelled(group: BaseExceptionGroup[BaseException]) -> trio.Cancelled | None:
    """One of the group's errors, if all of them are that the request was cancelled."""
    if group.split(trio.Cancelled)[1] is not None:
        return None
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, trio.Cancelled) else None
