"""What the engine says about its work to whoever traces it, and the tracing that traces nothing. Pure.

Invariant: without tracing a call of these costs next to nothing and keeps nothing. The engine calls `commit` and
`write`; ``hermes.traces.spans`` is what answers where TRACES_ENDPOINT is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from hermes.event import Batch, Chunk
from hermes.traced import TracedRequest

MOST_TRACED = 100
"""Traced requests of one commit or write that get a span each; OpenTelemetry's own bound on links is 128."""


class Work:
    """A piece of work, for the length of a ``with`` block; here one that nobody traces."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The work is over; an exception that leaves the block is its failure."""

    def note(self, what: str, **facts: str | int) -> None:
        """Something has happened on the way."""


class Tracing:
    """Makes `Work` of what the engine does; here without tracing any."""

    __slots__ = ()

    def commit(self, _chunks: Sequence[Chunk]) -> Work:
        """A commit of chunks to the journal."""
        return UNTRACED

    def write(self, _sink: str, _batch: Batch, _attempt: int) -> Work:
        """One call of a sink. In its block, in the same task, the span of the call is OpenTelemetry's current one."""
        return UNTRACED

    def drop(self, _sink: str, _batch: Batch, _reason: str) -> None:
        """A sink will never get a batch."""


UNTRACED = Work()
NO_TRACING = Tracing()


def traced_requests(chunks: Iterable[Chunk]) -> list[TracedRequest]:
    """The traced requests whose events are in the chunks, each once, at most `MOST_TRACED` of them."""
    found: dict[TracedRequest, None] = {}
    for chunk in chunks:
        if chunk.traced:
            found.update(dict.fromkeys(chunk.traced))
            if len(found) >= MOST_TRACED:
                break
    return list(found)[:MOST_TRACED]
