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

SLICE = 1000  # events encoded between two checkpoints: about 0.3 ms of the loop

_encoder = msgspec.json.Encoder()


async def encode_batch(batch: Batch) -> tuple[bytes, dict[int, str]]:
    """The lines of a batch, and why the events that are not among them cannot be written, by their index."""
    parts = []
    refused: dict[int, str] = {}
    for start in range(0, len(batch), SLICE):
        events = batch[start : start + SLICE]
        try:
            parts.append(encode_lines(events))
        except UnicodeEncodeError:
            parts.append(encode_the_good(events, start, refused))
        await trio.lowlevel.checkpoint()
    return b"".join(parts), refused


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
