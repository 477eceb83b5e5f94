"""JSON messages to events, one by one, so that a message in which something is wrong spoils no other.

The rules are those of `hermes.decode`: UTF-8, no U+0000, bounded nesting, bounded lists of what was refused. Called by
the decoders of CloudEvents and of Segment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from hermes.decode import SHALLOW, Decoded, check_text, explain, find_elements, is_clean, is_deep, without_mark
from hermes.event import Event
from hermes.protocols.mapping import size_of

Message = TypeVar("Message")
Context = TypeVar("Context")


class MessageDecoder(Generic[Message, Context]):
    """Reads messages of one shape, a `msgspec.Struct`, and has ``convert`` make an event of each.

    ``convert(context, index, message, text)`` gets the request's context and the message's place in it, from 0, and
    raises `msgspec.ValidationError` for one that breaks a rule. What it gives may hold no string that is not in the
    message, unless it has checked that one itself. ``several`` is the advice for more than one value where one is
    expected, ``partial`` that of `explain`.
    """

    def __init__(
        self,
        shape: type[Message],
        convert: Callable[[Context, int, Message, Raw], Event],
        several: str,
        *,
        partial: bool = False,
    ) -> None:
        self._one: msgspec.json.Decoder[Message] = msgspec.json.Decoder(shape)
        self._convert = convert
        self._several = several
        self._partial = partial

    def decode_one(self, body: bytes, context: Context) -> Decoded:
        """The event of one message. Raises `BadBody`."""
        text = without_mark(body).strip()
        check = partial(self._check, context, is_clean(text))
        return _with_size(explain([Raw(text)], check, self._several, alone=True), len(body))

    def decode_list(self, body: bytes, context: Context) -> Decoded:
        """The events of an array of messages. Raises `BadBody`."""
        body = without_mark(body)
        check = partial(self._check, context, is_clean(body))
        return _with_size(explain(find_elements(body), check, self._several, partial=self._partial), len(body))

    def _check(self, context: Context, clean: bool, index: int, text: Raw) -> Event:
        event = self._convert(context, index, self._one.decode(text), text)
        if not clean:
            check_text(bytes(text))
        if len(text) >= SHALLOW and is_deep(text):
            raise RecursionError
        return event


def _with_size(decoded: Decoded, body: int) -> Decoded:
    return Decoded(decoded.events, decoded.rejected, size_of(decoded.events, body))
