"""The body of one request that does not come whole with its head. Sans-IO.

Invariant: the bytes that are held are in the body budget, and they are given back when the body is whole or given up.
"""

from __future__ import annotations

from hermes.net.http.chunked import BodyTooLarge, ChunkedDecoder, ChunkedError
from hermes.net.http.head import Head, too_large
from hermes.net.http.lane import BodyBudget
from hermes.net.http.response import Response, crowded, problem

_CROWDED = crowded(close=True)


class BodyRefused(Exception):
    """The body breaks HTTP, is too large, or finds no room. ``response`` is the answer, the last of its connection."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.detail)
        self.response = response


class SizedDecoder:
    """Gathers a body of ``size`` bytes. ``skip``: the bytes are counted and thrown away.

    >>> decoder = SizedDecoder(3)
    >>> decoder.feed(b"ab"), decoder.done, decoder.feed(b"cd"), bytes(decoder.body), decoder.done
    (b'', False, b'd', b'abc', True)
    """

    __slots__ = ("_skip", "body", "missing")

    def __init__(self, size: int, *, skip: bool = False) -> None:
        self.body = bytearray()
        self.missing = size
        self._skip = skip

    @property
    def done(self) -> bool:
        """Whether the body is whole."""
        return not self.missing

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, and return the bytes that come after its end."""
        # The bytes behind the body are the next request of a client that pipelines.
        taken = data[: self.missing]
        self.missing -= len(taken)
        if not self._skip:
            self.body += taken
        return data[len(taken) :]


class IncomingBody:
    """The body of the request with this ``head``. While the body comes, its bytes take room of ``budget``.

    ::

        body = IncomingBody(head, limit, budget)
        rest = body.feed(data)  # raises BodyRefused
        if body.done:
            body.release()
            response = head.handle(head, bytes(body.gathered))
    """

    __slots__ = ("_budget", "_decoder", "_limit", "_reserved", "head")

    def __init__(self, head: Head, limit: int, budget: BodyBudget) -> None:
        self.head = head
        self._budget = budget
        self._limit = limit
        self._reserved = 0
        self._decoder: ChunkedDecoder | SizedDecoder
        if head.chunked:
            self._decoder = ChunkedDecoder(limit)
        else:
            # A refused body of known size is read past, so that the connection can go on with the next request.
            self._decoder = SizedDecoder(head.content_length, skip=head.refusal is not None)

    @property
    def done(self) -> bool:
        """Whether the body is whole."""
        return self._decoder.done

    @property
    def gathered(self) -> bytearray:
        """The bytes so far."""
        return self._decoder.body

    @property
    def missing(self) -> int:
        """The bytes that have not come yet; 0 in a chunked body, whose size is not known."""
        return self._decoder.missing if isinstance(self._decoder, SizedDecoder) else 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, and return the others: the bytes after its end, or more chunks if not `done`.

        Raises `BodyRefused`.
        """
        decoder = self._decoder
        before = len(decoder.body)
        try:
            rest = decoder.feed(data)
        except ChunkedError as error:
            raise BodyRefused(problem(400, f"the request is malformed: {error}", close=True)) from None
        except BodyTooLarge:
            raise BodyRefused(too_large(self._limit)) from None
        # After the bytes were taken: chunks tell their size only as they are decoded. The excess is bounded, because
        # one receive is.
        size = len(decoder.body) - before
        if not self._budget.reserve(size):
            raise BodyRefused(_CROWDED)
        self._reserved += size
        return rest

    def release(self) -> None:
        """Give the room back."""
        # Zero: the connection may end after the body was whole, and must not give the room back twice.
        self._budget.release(self._reserved)
        self._reserved = 0
