"""Hides the values of events in the reasons for their refusal. Pure, except for the checkpoints of `hide_values`.

A reason is counted by its text and shown in logs, in ``hermes top`` and on the dashboard. So a reason names columns and
never their values: equal faults have equal reasons, and no reason shows the data of people. Invariant: each value of
the event (its id, its user, any text or number of its payload) of `_LEAST` characters or more is replaced in the reason
by the name of its column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec
import trio

from hermes import Batch, Event

LEFT_OUT = "refused; its words may quote the event, which is too large to look through"

# A shorter value may stand in any word.
_LEAST = 3
# Bytes of a payload that are searched for values.
_MOST_PAYLOAD = 64 * 2**10
# Values of one event that are looked for: some milliseconds of the loop at most.
_MOST_VALUES = 1000
# Bytes of payload between two checkpoints.
_SLICE = 16 * 2**10
# Bytes of payload that take as long as a reason does by itself.
_REASON = 256
# A number is looked for as the client wrote it: Python's form of a float may differ.
_decoder = msgspec.json.Decoder(float_hook=str)


def no_text(event: Event) -> str:
    """Return the reason for invalid Unicode in an event, with the name of the column.

    >>> no_text(Event("1", "u", "\\ud800", 0))
    'no valid Unicode in type'
    """
    for column in ("id", "user_id", "type"):
        try:
            getattr(event, column).encode()
        except UnicodeError:
            return f"no valid Unicode in {column}"
    return "no valid Unicode in payload"


async def hide_values(refused: Mapping[int, str], batch: Batch) -> dict[int, str]:
    """Return the reasons, by index, without the values of the events.

    ::

        raise BatchRejected(await hide_values({0: "duplicate key alice-1"}, batch))
    """
    hidden = {}
    size = _SLICE
    for index, reason in refused.items():
        event = batch[index]
        size += _REASON + min(len(event.payload), _MOST_PAYLOAD)
        # Without a pause 64 large events would take hundreds of milliseconds in one step.
        if size > _SLICE:
            size = 0
            await trio.lowlevel.checkpoint()
        hidden[index] = without_values(reason, event)
    return hidden


def without_values(words: str, event: Event) -> str:
    """Return the words with the name of its column in the place of each value of the event.

    >>> without_values("duplicate key alice-1", Event("alice-1", "u", "t", 0))
    'duplicate key <id>'
    """
    if len(event.payload) > _MOST_PAYLOAD:
        return LEFT_OUT
    values = list(islice(_values(event), _MOST_VALUES + 1))
    if len(values) > _MOST_VALUES:
        return LEFT_OUT
    found = {value: column for column, value in values if len(value) >= _LEAST}
    # Longest first, or a short value would break a longer one that holds it.
    for value in sorted((value for value in found if value in words), key=len, reverse=True):
        # A value that begins or ends with a letter or a digit has to stand alone: "ann" is not in "cannot".
        before = r"(?<!\w)" if value[0].isalnum() else ""
        after = r"(?!\w)" if value[-1].isalnum() else ""
        # The column in the place of the value: equal faults have equal reasons, which are counted together.
        words = re.sub(f"{before}{re.escape(value)}{after}", f"<{found[value]}>", words)
    # Cut off, perhaps inside a value.
    if words.endswith("…"):
        for value, column in found.items():
            # First the cheap question: of few values the beginning is in the words at all.
            if value[:_LEAST] not in words:
                continue
            for length in range(min(len(value), len(words)) - 1, _LEAST - 1, -1):
                if words.endswith(value[:length] + "…"):
                    return f"{words[: -length - 1]}<{column}>"
    return words


def _values(event: Event) -> Iterator[tuple[str, str]]:
    yield "id", event.id
    yield "user_id", event.user_id
    try:
        waiting = [_decoder.decode(event.payload)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif value is not None and not isinstance(value, bool):
            yield "payload", str(value)
