"""Events as lines of JSON, the payload as the client's own bytes: what POST /events takes as NDJSON.

Invariant: one event is one line, whatever its payload holds; what cannot be text is refused by its index. Pure but for
the checkpoints of `encode_batch`. Called by the sinks that write lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import trio

from hermes import Batch, Event
from hermes_sinks.common.reasons import no_text
from hermes_sinks.common.slices import slice_events

SLICE = 1000  # events encoded between two checkpoints, and fewer of large payloads: about 0.3 ms of the loop

_encoder = msgspec.json.Encoder()


async def encode_batch(batch: Batch) -> tuple[list[bytes], dict[int, str]]:
    """The lines of a batch, in blocks of whole lines, and why some events have none, by their index."""
    blocks = []
    refused: dict[int, str] = {}
    for start, stop in slice_events(batch, SLICE):
        events = batch[start:stop]
        try:
            blocks.append(encode_lines(events))
        except UnicodeEncodeError:
            blocks.append(encode_the_good(events, start, refused))
        await trio.lowlevel.checkpoint()
    return [block for block in blocks if block], refused


def encode_lines(events: Sequence[Event]) -> bytes:
    """One line of JSON an event. Raises UnicodeEncodeError for text that is no Unicode.

    Only line breaks change: in JSON text they can stand between tokens alone, and there a space means the same.
    """
    lines = _encoder.encode_lines(events)
    if lines.count(b"\n") == len(events):
        return lines
    return b"".join([_encoder.encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for event in events])


def encode_the_good(events: Sequence[Event], first: int, refused: dict[int, str]) -> bytes:
    """The same, leaving out events that cannot be encoded; ``refused`` learns why, by index counted from ``first``."""
    lines = []
    for index, event in enumerate(events, first):
        try:
            lines.append(encode_lines([event]))
        except UnicodeEncodeError:
            refused[index] = no_text(event)
    return b"".join(lines)
