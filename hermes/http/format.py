"""What a data route has to know about a protocol: where it is spoken, how its bodies are read, how it answers.

Types only, pure. Invariant: a format decides nothing about room, keys or codings, which are the same for all.
Implemented by ``hermes.protocols``; called by the ingest route, for both lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hermes.cut import AT_ONCE, Pieces
from hermes.decode import Decoded
from hermes.event import Event

if TYPE_CHECKING:
    from hermes.http.head import Head
    from hermes.http.response import Response


class Answers(Protocol):
    """How answers look to the clients of a protocol."""

    def taken(self, decoded: Decoded) -> Response:
        """The valid events of a request were taken, and there is at least one."""

    def nothing(self, decoded: Decoded) -> Response:
        """A request held no valid event, or none at all."""

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """An error; ``members`` is more that is known about it, where the protocol has a place for that."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a request's body, and the answers that go with it.

    ``decode(head, body)`` raises `hermes.decode.BadBody`, `hermes.http.content.ContentTooLarge` for events that grow
    past the limit, or `hermes.http.keys.KeyRefused` where it reads the key. ``untaken`` says, where it is not empty,
    why bodies of this kind are not taken: the words of a 415.

    A body of more than ``at_once`` bytes is decoded in pieces: ``cut(head, body)`` cuts it into bodies of the same
    form, each decoded in a few milliseconds. ``most`` is how many bytes the events of all pieces may hold, 0 for no
    bound but the body's. ``partial``: a request with any number of invalid events is answered for the valid ones; the
    first `hermes.decode.MAX_REJECTIONS` are told at most, and the first stands for the others.
    """

    answers: Answers
    decode: Callable[[Head, bytes], Decoded]
    untaken: str = ""
    cut: Callable[[Head, bytes], Pieces] = lambda _head, body: iter((body,))
    at_once: int = AT_ONCE
    most: int = 0
    partial: bool = False


class DataProtocol(Protocol):
    """A protocol on some paths."""

    @property
    def paths(self) -> Sequence[str]:
        """Where it is spoken; each path is a route."""

    @property
    def key_in_body(self) -> bool:
        """Whether a client that sends no key in its head may send one in the body."""

    @property
    def answers(self) -> Answers:
        """The answers to a body that ``decode_one`` reads."""

    @property
    def decode_one(self) -> Callable[[bytes], Event | None] | None:
        """Reads the body of a ``plain`` head, one JSON object. None, from it or for it: `Format.decode` does."""

    def choose(self, head: Head) -> Format:
        """The format that a head announces. It may mark the head as not ``plain``, or as ``unique``."""
