"""Encodes a batch as one line of JSON for each event, for sinks that send events singly or in parts.

Invariant: a line is valid JSON text in UTF-8, and has the place of its event in the batch.
"""

from __future__ import annotations

import trio

from hermes import Batch
from hermes_sinks.common.lines import SLICE, encode_lines, encode_the_good
from hermes_sinks.common.reasons import no_text
from hermes_sinks.common.slices import slice_events


async def encode_each(batch: Batch) -> tuple[list[bytes], dict[int, str]]:
    """Return the line of each event, without its line break, and the reasons of events without a line, by index.

    An event that cannot be encoded has an empty line::

        lines, refused = await encode_each(batch)
        good = [line for line in lines if line]
    """
    lines: list[bytes] = []
    refused: dict[int, str] = {}
    for start, stop in slice_events(batch, SLICE):
        events = batch[start:stop]
        try:
            # Each line ends with a line break, so the last part of the split is empty.
            found = encode_lines(events).split(b"\n")[:-1]
        except UnicodeEncodeError:
            found = [encode_the_good([event], index, refused)[:-1] for index, event in enumerate(events, start)]
        for place, line in enumerate(found):
            # The encoder copies payloads unchecked, since they are the client's own bytes.
            if not line.isascii():
                try:
                    line.decode()
                except UnicodeDecodeError:
                    refused[start + place] = no_text(events[place])
                    found[place] = b""
        lines += found
        await trio.lowlevel.checkpoint()
    return lines, refused
