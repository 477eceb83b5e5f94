"""Cuts the work on a batch into slices, so that no step holds the loop for long. Pure.

Invariant: a slice has a bounded number of events and of bytes, or is one event. So the time of a step grows neither
with the batch nor with the payloads. The sinks make a checkpoint after each slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hermes import Event

PIECE = 4 * 2**20
"""Bytes of a slice: to copy, search and cut them takes a few milliseconds, for any content."""


def slice_events(events: Sequence[Event], most: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each slice of ``events``: at most ``most`` events and `PIECE` bytes of payload.

    >>> list(slice_events([Event("a", "u", "t", 0), Event("b", "u", "t", 0), Event("c", "u", "t", 0)], 2))
    [(0, 2), (2, 3)]
    """
    for start in range(0, len(events), most):
        sizes = [len(event.payload) for event in events[start : start + most]]
        for first, last in slice_sizes(sizes, most):
            yield start + first, start + last


def slice_sizes(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield slices as `slice_events` does, for items with these ``sizes`` in bytes.

    >>> list(slice_sizes([3 * 2**20, 3 * 2**20], 1000))
    [(0, 1), (1, 2)]
    """
    for start in range(0, len(sizes), most):
        stop = min(start + most, len(sizes))
        # Nearly always.
        if sum(sizes[start:stop]) <= PIECE:
            yield start, stop
            continue
        first, size = start, 0
        for place in range(start, stop):
            if size + sizes[place] > PIECE and place > first:
                yield first, place
                first, size = place, 0
            size += sizes[place]
        yield first, stop
