"""Where to cut the work on a batch, so that no step of it holds up the loop. Pure.

Invariant: a slice has a number of events and of bytes at most, or is one event. So the time that a step takes does not
grow with the batch, nor with what clients put into their payloads. Called by the sinks, which let others have the loop
after each slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hermes import Event

PIECE = 4 * 2**20
"""Bytes of a slice: to copy, search and cut them takes some milliseconds, whatever they are."""


def slice_events(events: Sequence[Event], most: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each slice of ``events``: at most ``most`` events, and `PIECE` bytes of payload.

    >>> list(slice_events([Event("a", "u", "t", 0), Event("b", "u", "t", 0), Event("c", "u", "t", 0)], 2))
    [(0, 2), (2, 3)]
    """
    for start in range(0, len(events), most):
        sizes = [len(event.payload) for event in events[start : start + most]]
        for first, last in slice_sizes(sizes, most):
            yield start + first, start + last


def slice_sizes(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """As `slice_events`, of things that have these ``sizes`` in bytes."""
    for start in range(0, len(sizes), most):
        stop = min(start + most, len(sizes))
        if sum(sizes[start:stop]) <= PIECE:  # nearly always
            yield start, stop
            continue
        first, size = start, 0
        for place in range(start, stop):
            if size + sizes[place] > PIECE and place > first:
                yield first, place
                first, size = place, 0
            size += sizes[place]
        yield first, stop
