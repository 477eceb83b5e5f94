"""Sending a batch in parts, and finding the events that the other side refuses among those that it takes.

A part that is refused is sent again without the events that the answer names; where it names none, the one that it
points at goes alone, or the part in halves. Invariants: an event counts as refused only where an answer names it, it
was refused alone, or `MOST_REFUSALS` answers of one write have been refusals (then what is still refused together is
given up together: a client that sends nothing but bad events must not be able to stop the sink). Called by the sinks
that send over HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MOST_REFUSALS = 256
"""Of one write: enough for a dozen bad events anywhere in ten thousand; at 10 ms each, within any time-out."""


@dataclass(frozen=True)
class Refusal:
    """An answer that does not take a part as it is.

    ``named`` has the events that it refuses by themselves, by their place in the part, and why; ``rest_taken``: it took
    the others. ``suspect`` is the place that an answer without names points at, as far as it can be trusted. ``quote``
    is what the other side said, which may quote the events: it becomes part of the reason for an event that was refused
    alone, where it can be freed of what is in that event.
    """

    reason: str
    named: Mapping[int, str] = field(default_factory=dict)
    rest_taken: bool = False
    suspect: int | None = None
    quote: str = ""


Send = Callable[[Sequence[int]], Awaitable[Refusal | None]]
"""Sends the events with these indexes in one request; None: all of them are taken."""


async def send_the_good(parts: Sequence[Sequence[int]], send: Send) -> dict[int, str]:
    """Send all parts, in order; return why those events that are not taken were refused, by index."""
    refused: dict[int, str] = {}
    waiting = [*reversed(parts)]
    refusals = 0
    while waiting:
        part = waiting.pop()
        refusal = await send(part)
        if refusal is None:
            continue
        refusals += 1
        for place, reason in refusal.named.items():
            refused[part[place]] = reason
        rest = [index for index in part if index not in refused]
        if refusal.rest_taken or not rest:
            continue
        if len(part) == 1:
            refused[part[0]] = f"{refusal.reason}: {refusal.quote}" if refusal.quote else refusal.reason
        elif refusals >= MOST_REFUSALS:
            reason = f"one of many events that were refused together: {refusal.reason}"
            refused.update(dict.fromkeys(rest, reason))
        elif len(rest) < len(part):
            waiting.append(rest)
        else:
            waiting += reversed(_divide(rest, refusal.suspect))
    return refused


def _divide(part: Sequence[int], suspect: int | None) -> tuple[Sequence[int], Sequence[int]]:
    if suspect is not None and 0 <= suspect < len(part):
        return part[suspect : suspect + 1], [*part[:suspect], *part[suspect + 1 :]]
    half = len(part) // 2
    return part[:half], part[half:]


def cut(indexes: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Parts of the indexes whose ``sizes`` (by index, in bytes) add up to ``most`` at most, or a single larger one."""
    start = taken = 0
    for place, index in enumerate(indexes):
        size = sizes[index]
        if taken + size > most and place > start:
            yield indexes[start:place]
            start, taken = place, 0
        taken += size
    if start < len(indexes):
        yield indexes[start:]
