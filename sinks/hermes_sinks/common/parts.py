"""Sends a batch in parts, and finds the events that the receiver refuses.

A refused part is sent again without the events that the answer names. If the answer names no event, the event that the
answer suspects is sent alone, or the part is sent in halves. Invariant: an event counts as refused only if an answer
names the event, if the event was refused alone, or if one write has got `MOST_REFUSALS` refusals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MOST_REFUSALS = 256
"""The bound on refusals in one write: enough for a dozen bad events among ten thousand; 2.6 s at 10 ms each."""


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses a part, or some events of a part.

    ``named`` has the reasons of the events that the answer refuses by name, by their place in the part;
    ``rest_taken``: the receiver took the others. ``suspect`` is the place that an answer without names points at; it
    may be wrong. ``quote`` is the receiver's text, which may quote the events: it becomes part of the reason of an
    event that was refused alone, because then the values of that one event can be hidden.
    """

    reason: str
    named: Mapping[int, str] = field(default_factory=dict)
    rest_taken: bool = False
    suspect: int | None = None
    quote: str = ""


Send = Callable[[Sequence[int]], Awaitable[Refusal | None]]
"""Sends the events with these indexes in one request; returns None if the receiver took all of them."""


async def send_the_good(parts: Sequence[Sequence[int]], send: Send) -> dict[int, str]:
    """Send all parts, in order; return the reasons of the refused events, by index.

    ::

        async def send(part: Sequence[int]) -> Refusal | None:
            return judge(await client.post(b"".join(lines[index] for index in part)))

        refused = await send_the_good([range(len(lines))], send)
    """
    refused: dict[int, str] = {}
    # A stack, the next part on top, so that the halves of a refused part come before the later parts.
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
        # Given up together: a client that sends only bad events must not be able to stop the sink. Parts that were
        # never refused are still sent.
        elif refusals >= MOST_REFUSALS:
            reason = f"one of many events that were refused together: {refusal.reason}"
            refused.update(dict.fromkeys(rest, reason))
        # Some events were named: the others may be good.
        elif len(rest) < len(part):
            waiting.append(rest)
        else:
            waiting += reversed(_divide(rest, refusal.suspect))
    return refused


def _divide(part: Sequence[int], suspect: int | None) -> tuple[Sequence[int], Sequence[int]]:
    # The suspected event alone, and the others in one part: if the suspicion is right, two requests are enough.
    if suspect is not None and 0 <= suspect < len(part):
        return part[suspect : suspect + 1], [*part[:suspect], *part[suspect + 1 :]]
    half = len(part) // 2
    return part[:half], part[half:]


def cut(indexes: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Yield parts of the indexes whose ``sizes`` add up to at most ``most`` bytes; a larger event is a part by itself.

    >>> list(cut([0, 1, 2], [4, 4, 9], 8))
    [[0, 1], [2]]
    """
    start = taken = 0
    for place, index in enumerate(indexes):
        size = sizes[index]
        # ``place > start``: a part has one event at least, however large.
        if taken + size > most and place > start:
            yield indexes[start:place]
            start, taken = place, 0
        taken += size
    if start < len(indexes):
        yield indexes[start:]
