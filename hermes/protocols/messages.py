"""JSON messages to events: the fast way over a whole body, and the slow one that says which message is wrong and why.

The rules are those of `hermes.decode`: UTF-8, no U+0000, bounded nesting, bounded lists of what was refused. Invariant:
both ways give the same events for a body in which nothing is wrong. Called by the decoders of CloudEvents and of
Segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from hermes.decode import (
    UNDECODABLE,
    BadBody,
    Decoded,
    any_deep,
    check_text,
    describe_error,
    explain,
    is_clean,
    is_deep,
    split_array,
)
from hermes.event import Event
from hermes.protocols.mapping import size_of

Message = TypeVar("Message")
Context = TypeVar("Context")

# A message that says whose it is and what happened has more than this. Those of a short body take little memory anyway.
_BYTES_A_MESSAGE = 24
_FREE_BYTES = 2**20

_decode_raws = msgspec.json.Decoder(list[Raw]).decode


class MessageDecoder(Generic[Message, Context]):
    """Reads messages of one shape, a `msgspec.Struct`, and has ``convert`` make an event of each.

    ``convert(context, index, message, text)`` gets the request's context and the message's place in it, from 0, and
    raises `msgspec.ValidationError` for one that breaks a rule. The payload that it gives has to hold every string
    that the event holds. ``several`` is the advice for more than one value where one is expected.
    """

    def __init__(
        self, shape: type[Message], convert: Callable[[Context, int, Message, Raw], Event], several: str
    ) -> None:
        self._one: msgspec.json.Decoder[Message] = msgspec.json.Decoder(shape)
        self._list: msgspec.json.Decoder[list[Message]] = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]
        self._convert = convert
        self._several = several

    def decode_one(self, body: bytes, context: Context) -> Decoded:
        """The event of one message. Raises `BadBody`."""
        return self._explain([body], context, len(body))

    def decode_list(self, body: bytes, context: Context, *, clean: bool | None = None) -> Decoded:
        """The events of an array of messages. Raises `BadBody`. ``clean``: what `is_clean` said of more than it."""
        first = "a string holds U+0000, or JSON is nested too deeply"
        convert = self._convert
        try:
            messages = self._list.decode(body)
            if len(messages) * _BYTES_A_MESSAGE > len(body) > _FREE_BYTES:
                raise BadBody("the array has too many tiny messages: send it in parts of 1 MiB")
            events = [
                convert(context, index, message, text)
                for index, (message, text) in enumerate(zip(messages, _decode_raws(body), strict=True))
            ]
            if (is_clean(body) if clean is None else clean) and not any_deep([event.payload for event in events]):
                return Decoded(events, (), size_of(events, len(body)))
        except UnicodeDecodeError as error:
            raise BadBody(describe_error(error, body)) from None
        except UNDECODABLE as error:
            first = describe_error(error, body, self._several)
        return self.decode_each(body, context, first)

    def decode_each(self, body: bytes, context: Context, first: str) -> Decoded:
        """The same, one by one from the start. ``first`` is why: it is told where the array is too large for that."""
        return self._explain(split_array(body, first, ""), context, len(body))

    def _explain(self, texts: Iterable[bytes], context: Context, size: int) -> Decoded:
        index = count()

        def check(text: bytes) -> Event:
            place = next(index)
            event = self._convert(context, place, self._one.decode(text), Raw(text.strip()))
            check_text(bytes(event.payload))
            if is_deep(event.payload):
                raise RecursionError
            return event

        decoded = explain(texts, check, self._several)
        return Decoded(decoded.events, decoded.rejected, size_of(decoded.events, size))
