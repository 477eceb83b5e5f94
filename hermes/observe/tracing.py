"""The tracing interface that the engine calls, and its no-op implementation. Pure.

Invariant: without tracing a call costs next to nothing and keeps nothing. `hermes.traces.spans` implements the
interface if TRACES_ENDPOINT is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self

from hermes.observe.traced_request import TracedRequest

MOST_TRACED = 100
"""Traced requests of one commit or write that get a span each. OpenTelemetry keeps at most 128 links a span."""


class TracedItems(Protocol):
    """Items that arrived together, such as a chunk of events, and the traced requests that brought them."""

    @property
    def traced(self) -> Sequence[TracedRequest] | None:
        """The traced requests, or None."""

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits for the outcome of these items."""

    def __len__(self) -> int: ...


class TracedBatch(Protocol):
    """The items of one write: a batch of events."""

    @property
    def chunks(self) -> Sequence[TracedItems]:
        """The items, in the order of their arrival."""

    def __len__(self) -> int: ...


class Work:
    """A piece of work, for the length of a ``with`` block. This class traces nothing.

    >>> with NO_TRACING.write("postgres", [], 1) as work:
    ...     work.note("retried", rows=3)
    """

    # No state: one instance serves every call, so a call without tracing allocates nothing.
    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the work. An exception that leaves the block is the work's failure."""

    def note(self, what: str, **facts: str | int) -> None:
        """Note that something happened during the work."""


class Tracing:
    """Returns a `Work` for each step of the engine. This class traces nothing.

    >>> NO_TRACING.commit([]) is UNTRACED
    True
    """

    __slots__ = ()

    def commit(self, _chunks: Sequence[TracedItems]) -> Work:
        """Return the work of a commit of chunks to the journal."""
        return UNTRACED

    def write(self, _sink: str, _batch: TracedBatch, _attempt: int) -> Work:
        """Return the work of one call of a sink. In its block OpenTelemetry's current span is the call's."""
        return UNTRACED

    def drop(self, _sink: str, _batch: TracedBatch, _reason: str) -> None:
        """Note that a sink will never get a batch."""


UNTRACED = Work()
NO_TRACING = Tracing()


def traced_requests(chunks: Iterable[TracedItems]) -> list[TracedRequest]:
    """Return the traced requests whose events are in the chunks, each once, at most `MOST_TRACED` of them."""
    # A dict and not a set: it keeps the order, and the first request carries the details.
    found: dict[TracedRequest, None] = {}
    for chunk in chunks:
        if chunk.traced:
            # Each once: the events of one request may be in many chunks.
            found.update(dict.fromkeys(chunk.traced))
            # A chunk may bring more than the rest of the room, so the cut at the end is needed too.
            if len(found) >= MOST_TRACED:
                break
    return list(found)[:MOST_TRACED]
