"""Turns JSON messages into events one by one, so that an invalid message does not spoil the others.

Invariant: every event keeps the rules of `hermes.events.decode`: UTF-8, no U+0000, bounded nesting, bounded lists of
rejections.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from hermes.base.json.rules import SHALLOW, check_text, find_elements, is_clean, is_deep, without_mark
from hermes.events.decode import Decoded, explain
from hermes.events.event import Event
from hermes.events.protocols.mapping import size_of

Message = TypeVar("Message")
Context = TypeVar("Context")


class MessageDecoder(Generic[Message, Context]):
    """Reads messages of one shape, a `msgspec.Struct`; ``convert`` makes an event of each message.

    ``convert(context, index, message, text)`` gets the context of the request and the message's place in the request,
    from 0. It raises `msgspec.ValidationError` for a message that breaks a rule. Every string of the event must come
    from the message, or ``convert`` must have checked the string. ``several`` is the advice for a client that sends
    more than one value where one is expected; ``partial`` is passed to `explain`. ::

        messages = MessageDecoder(ContextAttributes, convert, "; several events? send an array")
        decoded = messages.decode_one(body, time.time())
    """

    def __init__(
        self,
        shape: type[Message],
        convert: Callable[[Context, int, Message, Raw], Event],
        several: str,
        *,
        partial: bool = False,
    ) -> None:
        # The decoder sees one message at a time, so a wrong one cannot spoil the others.
        self._one: msgspec.json.Decoder[Message] = msgspec.json.Decoder(shape)
        self._convert = convert
        self._several = several
        self._partial = partial

    def decode_one(self, body: bytes, context: Context) -> Decoded:
        """Return the event of one message. Raises `BadBody`."""
        # A byte order mark is no part of JSON, and some clients write one.
        text = without_mark(body).strip()
        check = partial(self._check, context, is_clean(text))
        # ``alone``: this text is the whole body, so broken JSON leaves no event that could be reported.
        return _with_size(explain([Raw(text)], check, self._several, alone=True), len(body))

    def decode_list(self, body: bytes, context: Context) -> Decoded:
        """Return the events of an array of messages. Raises `BadBody`."""
        body = without_mark(body)
        check = partial(self._check, context, is_clean(body))
        return _with_size(explain(find_elements(body), check, self._several, partial=self._partial), len(body))

    def _check(self, context: Context, clean: bool, index: int, text: Raw) -> Event:
        event = self._convert(context, index, self._one.decode(text), text)
        # `is_clean` has judged the whole body at once: only a body with a suspicious byte is checked text by text.
        if not clean:
            check_text(bytes(text))
        # A shorter text has no room for too many levels.
        if len(text) >= SHALLOW and is_deep(text):
            # As msgspec does for deeper nesting, so that `explain` has the same words for both.
            raise RecursionError
        return event


def _with_size(decoded: Decoded, body: int) -> Decoded:
    return Decoded(decoded.events, decoded.rejected, size_of(decoded.events, body))
