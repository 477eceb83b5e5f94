"""A chunk as the bytes of one record of the event journal, and back. Pure.

A record is a header (big endian: format version, 1 byte; flags, 1 byte; number of events, 4 bytes; number of the first
event since the journal began, 8 bytes; time of arrival in Unix seconds, 8 bytes IEEE 754) and then the events as one
JSON array, each payload in the client's own bytes. Invariant: `decode_chunk` of `encode_chunk` gives the same events,
byte for byte, if a payload has no white space around, as the edge cuts payloads out of a body. The checksum is the
log's; here a record is checked to be one of ours. Called by the journal and by ``hermes log inspect``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from hermes.base.errors import LogDamaged
from hermes.events.event import Chunk, Event
from hermes.store.log import Loss
from hermes.store.log.rows import MAX_RECORD_BYTES

# 22 bytes: the logs keep the first 24 of a record, from which the events of lost records are counted.
_HEADER = struct.Struct(">BBIQd")
_VERSION = 1
_DERIVED = 1
# Bytes of an event without its payload: id, user_id and type, each character escaped.
_MOST_FIELDS = 8 * 1024
_MEASURED_AT_ONCE = 1000

_encode_events = msgspec.json.Encoder().encode
_decode_events = msgspec.json.Decoder(list[Event]).decode


class Head(msgspec.Struct, frozen=True):
    """The header of a record. ``first`` is the number of its first event, of all that the journal ever took."""

    derived: bool
    count: int
    first: int
    received_at: float


def encode_chunk(chunk: Chunk, first: int) -> bytes:
    """The record of a chunk whose first event is number ``first`` of the journal.

    >>> record = encode_chunk(make_chunk([make_event("a"), make_event("b")]), first=40)
    >>> decode_head(record, index=7).count, decode_head(record, index=7).first
    (2, 40)
    >>> chunk, head = decode_chunk(record, index=7)
    >>> [event.id for event in chunk.events], chunk.index
    (['a', 'b'], 7)
    """
    # The count and the first number are in the header, so that the number of missing events is known without the body.
    flags = _DERIVED if chunk.derived else 0
    header = _HEADER.pack(_VERSION, flags, len(chunk.events), first, chunk.received_at)
    return header + _encode_events(chunk.events)


def fits_record(events: Sequence[Event], size: int) -> bool:
    """Whether one record can hold these events, whose request has ``size`` bytes.

    A record can be much larger than its request: a protocol may take id and user_id from the same text, and a control
    character that is one byte of a binary protocol has six in JSON.
    """
    # The usual request is so small that the worst case fits; only a large one is encoded to know.
    if len(events) * _MOST_FIELDS + 2 * size <= MAX_RECORD_BYTES:
        return True
    record = _HEADER.size
    # In parts, and each is thrown away: only the sum of the sizes is wanted.
    for start in range(0, len(events), _MEASURED_AT_ONCE):
        record += len(_encode_events(events[start : start + _MEASURED_AT_ONCE]))
    return record <= MAX_RECORD_BYTES


def decode_head(data: bytes, index: int) -> Head:
    """The head alone. Raises `LogDamaged`."""
    try:
        version, flags, count, first, received_at = _HEADER.unpack_from(data)
    except struct.error as error:
        raise _damaged(index, f"is no record: {error}") from error
    # Not guessed at: an older Hermes that read a newer record would deliver something else.
    if version != _VERSION:
        raise _damaged(index, f"has format {version}, and this Hermes reads {_VERSION}")
    return Head(bool(flags & _DERIVED), count, first, received_at)


def events_with(beginning: bytes) -> int | None:
    """How many events were taken with the record that begins so and before; None: the head cannot be read."""
    try:
        head = decode_head(beginning, 0)
    except LogDamaged:
        return None
    return head.first + head.count


def lost_events(lost: Loss) -> int | None:
    """How many events were in acknowledged records that are gone; None: nobody can know."""
    if not lost.records:
        return 0
    before = 0 if not lost.first else events_with(lost.before)
    last = events_with(lost.last)
    # Each record has one event at least; fewer events than records mean that the two ends do not belong together.
    if before is None or last is None or last - before < lost.records:
        return None
    return last - before


def decode_chunk(data: bytes, index: int) -> tuple[Chunk, Head]:
    """The chunk of the record at ``index``, and its head. Raises `LogDamaged`."""
    head = decode_head(data, index)
    try:
        # A view, so that the payloads are parts of the record and no copies of it.
        events = _decode_events(memoryview(data)[_HEADER.size :])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(index, f"cannot be read: {error}") from error
    # The numbers of all later events follow from the counts.
    if len(events) != head.count:
        raise _damaged(index, f"has {len(events)} events instead of {head.count}")
    chunk = Chunk(events, head.received_at, len(data), derived=head.derived)
    chunk.index = index
    return chunk, head


def _damaged(index: int, what: str) -> LogDamaged:
    return LogDamaged(
        f"record {index} of the event journal {what}, though its checksum is right: another version of Hermes, or "
        "another program, has written it. Start the version that wrote it, or see `hermes log inspect`"
    )
