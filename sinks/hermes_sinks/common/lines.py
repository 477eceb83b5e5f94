"""Encodes events as lines of JSON, the payload as the client's own bytes: the NDJSON that POST /events takes.

Invariant: one event is one line, for any payload; an event with invalid text is refused by its index. Pure, except for
the checkpoints of `encode_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import trio

from hermes import Batch, Event
from hermes_sinks.common.reasons import no_text
from hermes_sinks.common.slices import slice_events

# Events encoded between two checkpoints, and fewer of large payloads: about 0.3 ms of the loop.
SLICE = 1000

_encoder = msgspec.json.Encoder()


async def encode_batch(batch: Batch) -> tuple[list[bytes], dict[int, str]]:
    """Return the lines of a batch, in blocks of whole lines, and the reasons of events without a line, by index.

    ::

        blocks, refused = await encode_batch(batch)
    """
    # Blocks and not one text: joining the lines of a large batch would hold the loop.
    blocks = []
    refused: dict[int, str] = {}
    for start, stop in slice_events(batch, SLICE):
        events = batch[start:stop]
        try:
            blocks.append(encode_lines(events))
        except UnicodeEncodeError:
            blocks.append(encode_the_good(events, start, refused))
        await trio.lowlevel.checkpoint()
    # A block is empty if each of its events was refused.
    return [block for block in blocks if block], refused


def encode_lines(events: Sequence[Event]) -> bytes:
    """Return one line of JSON for each event. Raises UnicodeEncodeError for invalid Unicode.

    >>> encode_lines([Event("1", "u", "t", 0)]).count(b"\\n")
    1
    """
    lines = _encoder.encode_lines(events)
    if lines.count(b"\n") == len(events):
        return lines
    # A payload has a line break. In valid JSON it stands between tokens, where a space means the same.
    # A CR too: some readers end a line there.
    return b"".join([_encoder.encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for event in events])


def encode_the_good(events: Sequence[Event], first: int, refused: dict[int, str]) -> bytes:
    """Return the lines of the good events; add the reasons of the others to ``refused``, indexed from ``first``.

    >>> refused = {}
    >>> encode_the_good([Event("\\ud800", "u", "t", 0)], 5, refused), refused
    (b'', {5: 'no valid Unicode in id'})
    """
    lines = []
    for index, event in enumerate(events, first):
        try:
            lines.append(encode_lines([event]))
        except UnicodeEncodeError:
            refused[index] = no_text(event)
    return b"".join(lines)
