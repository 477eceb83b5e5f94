"""The interface of a protocol of events: its paths, how its bodies are read, how it answers. Types only, pure.

Invariant: a format decides nothing about room, keys or codings, because they are the same for all protocols.
`hermes.events.protocols` implements the interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hermes.base.json.cut import AT_ONCE, Pieces
from hermes.events.decode import Decoded
from hermes.events.event import Event

if TYPE_CHECKING:
    from hermes.events.ingest.request import EventRequest
    from hermes.net.http.head import Head
    from hermes.net.http.response import Response

# A browser labels a string text/plain in ``fetch`` and ``sendBeacon``, and asks no permission for that label
# beforehand; ``curl -d`` labels everything as a form.
JSON_TYPES = frozenset({"", "application/json", "application/x-www-form-urlencoded", "text/plain"})
"""Media types that are read as JSON: its own, none, and the labels that ``curl -d`` and browsers give by themselves."""


class Answers(Protocol):
    """The form of a protocol's answers."""

    def taken(self, decoded: Decoded) -> Response:
        """Return the answer to a request whose valid events, one at least, were taken."""

    def nothing(self, decoded: Decoded) -> Response:
        """Return the answer to a request without a valid event."""

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """Return an error. ``members`` are further facts, for protocols whose errors have a place for them."""


@dataclass(frozen=True, slots=True)
class OneEvent:
    """The short way of a body that is one event: how to read it, and the answer once it is taken.

    ``decode(body)`` returns None for a body that needs `Format.decode`.
    """

    decode: Callable[[bytes], Event | None]
    taken: Response


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a request's body, and the answers to such requests.

    ``decode(request, body)`` raises `hermes.events.decode.BadBody`; `hermes.net.http.content.ContentTooLarge` if the
    events grow past the limit; `hermes.net.http.keys.KeyRefused` if the key in the body is wrong. ``untaken`` is the
    detail of a 415 if bodies of this kind are not taken, else empty. ``unique``: no other request has the same head, so
    the lane does not remember the head.

    A body of more than ``at_once`` bytes is decoded in pieces: ``cut(head, body)`` yields bodies of the same
    form, each decoded in a few milliseconds. The events of all pieces hold ``most`` bytes at most; 0: no bound but the
    body's. ``partial``: a request with any number of invalid events is answered for its valid events. Then the answer
    lists the first `hermes.events.decode.MAX_REJECTIONS` at most, and the first stands for the others.

    ::

        form = Format(answers, lambda request, body: decoder.decode_json(body))
        decoded = form.decode(EventRequest(head, form), body)
    """

    answers: Answers
    decode: Callable[[EventRequest, bytes], Decoded]
    untaken: str = ""
    cut: Callable[[Head, bytes], Pieces] = lambda _head, body: iter((body,))
    # A shorter body is decoded in a few milliseconds, so pieces would only cost.
    at_once: int = AT_ONCE
    most: int = 0
    partial: bool = False
    unique: bool = False
    # Only Hermes's own format has it: the other protocols look at more than the body.
    one: OneEvent | None = None


class DataProtocol(Protocol):
    """A protocol on some paths."""

    @property
    def paths(self) -> Sequence[str]:
        """The paths of the protocol. Each is a route."""

    @property
    def key_in_body(self) -> bool:
        """Whether a client that sends no key in its head may send one in the body."""

    def choose(self, head: Head) -> Format:
        """Return the format that a head announces."""
