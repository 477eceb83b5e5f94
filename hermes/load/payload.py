"""Makes request bodies full of events, cheaply enough that the generator spends its time on sending them.

A body is built once as a template in which a marker stands for the serial number; the next body is one
``bytes.replace`` of equal length. Random ids, each put into its own place, take no longer: some 50 µs for 500 events
either way, so that a comparison of the two measures the server. The HTTP head is part of the template, since the length
of a body never changes.

Invariant: every body of one `Bodies` has the same number of events. With ``unique_ids`` no id repeats, neither in this
process nor (by a random run name of 40 bits) in another one.
"""

from __future__ import annotations

import gzip
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from struct import Struct

DEFAULT_TYPES = ("trip_started", "song_played", "ad_clicked", "location_update")
"""The event types that Hermes accepts unless it is configured otherwise."""

DEFAULT_PAYLOAD_BYTES = 36
"""Makes an event about 150 bytes in all."""

MAX_BODY_BYTES = 64 << 20
"""The largest body that is built. Hermes itself takes 10 MiB unless it is configured otherwise."""

# Neither JSON text nor an HTTP head contains a NUL, so the marker cannot occur by chance.
_SERIAL = b"\x00\x00SERIAL\x00\x00\x00\x00"
# As wide as the marker: a replacement of equal length leaves the Content-Length true.
_SERIAL_FORMAT = b"%012d"
# Bytes of a random id, as many as of a UUID.
_RANDOM_BYTES = 16
_RANDOM = b"\x00RANDOM".ljust(2 * _RANDOM_BYTES, b"\x00")
# Seconds before now. Several minutes, so that the aggregates get several buckets.
_TIMESTAMP_SPREAD = 300
# Several templates differ in users, types and timestamps, so that a server cannot profit from one repeated body; 4 MiB
# keep them in the processor's cache.
_POOL_BYTES = 4 << 20
_POOL_SIZE = 16
# Enough users for an aggregate by user to have many groups, few enough for each to get many events.
_USERS = 1000


class Bodies(Iterator[bytes]):
    r"""An endless iterator of request bodies.

    ``events``: events a body; one is a single JSON object, more are NDJSON. ``payload_bytes``: bytes of each event's
    JSON payload, from 2 (``{}``). ``unique_ids=False`` gives every event of every body the same id; ``random_ids``
    gives each event an id of 32 random digits, as a UUID of version 4 has, instead of an ascending id. ``gzip_level``
    compresses each body, 1 to 9; with unique ids each body is compressed anew. ``frame`` maps a finished body to the
    bytes to send, its head included; ``frame`` may depend on the length of the body only. ``now`` is in Unix seconds;
    the timestamps are spread over the five minutes before ``now``. ``seed`` makes users, types and payloads repeatable.

    Raises ValueError for a number out of range.

    Parameters: 9, because each is an option of `hermes load` with a default, and callers give few of them, by name.

    >>> bodies = Bodies(events=2)
    >>> next(bodies).count(b"\n")
    1
    >>> bodies.content_type
    'application/x-ndjson'
    """

    def __init__(
        self,
        events: int = 1,
        *,
        payload_bytes: int = DEFAULT_PAYLOAD_BYTES,
        types: Sequence[str] = DEFAULT_TYPES,
        unique_ids: bool = True,
        random_ids: bool = False,
        gzip_level: int | None = None,
        frame: Callable[[bytes], bytes] | None = None,
        now: float | None = None,
        seed: int = 0,
    ) -> None:
        check_body(events, payload_bytes, types)
        self.events = events
        self.content_type = "application/json" if events == 1 else "application/x-ndjson"
        self.content_encoding = None if gzip_level is None else "gzip"
        choose = random.Random(seed)  # noqa: S311 - test data, no secret
        written_at = int(time.time() if now is None else now)
        # The serial number stands before the index: ids ascend, as the ids of real producers roughly do. A store
        # with an index on the id writes ascending ids faster than random ones.
        run = secrets.token_hex(5).encode()
        serial = _SERIAL if unique_ids else _SERIAL_FORMAT % 0
        width = len(str(events - 1))

        def event(index: int) -> bytes:
            name = _RANDOM if random_ids else b"%b-%b-%0*d" % (run, serial, width, index if unique_ids else 0)
            return b'{"id":"%b","user_id":"user-%d","type":"%b","timestamp":%d,"payload":%b}' % (
                name,
                choose.randrange(_USERS),
                choose.choice(types).encode(),
                written_at - choose.randrange(_TIMESTAMP_SPREAD),
                _payload(payload_bytes, choose),
            )

        def template() -> bytes:
            return b"\n".join([event(index) for index in range(events)])

        first = template()
        self.body_bytes = len(first)
        """Bytes of a body before compression; the bodies differ by a few percent, as the names of types do."""
        templates = [first, *(template() for _ in range(min(_POOL_SIZE, _POOL_BYTES // len(first)) - 1))]
        framed = frame or (lambda body: body)
        if random_ids:
            self._bodies = _with_random_ids(templates, gzip_level, framed)
        else:
            self._bodies = _numbered(templates, unique_ids, gzip_level, framed)

    def __next__(self) -> bytes:
        return next(self._bodies)

    def __iter__(self) -> Iterator[bytes]:
        # Return the generator itself: a loop over it saves the call of `__next__` for each body.
        return self._bodies


def _numbered(
    templates: list[bytes], unique_ids: bool, gzip_level: int | None, frame: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """Return the templates in turn, each with the next serial number in its ids."""

    def compress(body: bytes) -> bytes:
        # mtime=0 keeps the time out of the bytes: with one id for all, the same seed gives the same bytes.
        return body if gzip_level is None else gzip.compress(body, gzip_level, mtime=0)

    if not unique_ids:
        return cycle([frame(compress(body)) for body in templates])
    serials = map(_SERIAL_FORMAT.__mod__, count(1))
    if gzip_level is not None:
        return (
            frame(compress(body.replace(_SERIAL, serial)))
            for body, serial in zip(cycle(templates), serials, strict=False)
        )
    # Without compression the length of a body is fixed, so each template gets its HTTP head once.
    framed = [frame(body) for body in templates]
    return (body.replace(_SERIAL, serial) for body, serial in zip(cycle(framed), serials, strict=False))


def _with_random_ids(
    templates: list[bytes], gzip_level: int | None, frame: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """Yield the templates in turn, with a new random id in each event."""
    whole = [template if gzip_level is not None else frame(template) for template in templates]
    events = whole[0].count(_RANDOM)
    # Cuts all ids in one call. A slice for each takes three times as long.
    ids = Struct(f"{len(_RANDOM)}s" * events)
    parts = [b""] * (2 * events + 1)
    for pieces in cycle([template.split(_RANDOM) for template in whole]):
        parts[0::2] = pieces
        # One call of urandom for all ids of a body; a call of uuid4 for each event takes longer than the rest of the
        # body.
        parts[1::2] = ids.unpack(os.urandom(_RANDOM_BYTES * events).hex().encode())
        body = b"".join(parts)
        yield body if gzip_level is None else frame(gzip.compress(body, gzip_level, mtime=0))


def _payload(size: int, choose: random.Random) -> bytes:
    """Return a JSON object of exactly ``size`` bytes that gzip cannot shrink to nothing."""
    if size < len(b'{"d":""}'):
        # Too short for a member, but white space is JSON as well.
        return b"{%b}" % (b" " * (size - 2))
    filler = choose.randbytes(size // 2).hex().encode()
    # Random hexadecimal digits, which gzip shrinks by half at most.
    return b'{"d":"%b"}' % filler[: size - 8].ljust(size - 8, b"0")


def check_body(events: int, payload_bytes: int, types: Sequence[str]) -> None:
    """Raise ValueError for a body that cannot be made, or would be too large.

    >>> check_body(events=0, payload_bytes=100, types=("login",))
    Traceback (most recent call last):
        ...
    ValueError: ...
    """
    if events < 1:
        raise ValueError(f"a body holds at least 1 event, not {events}")
    if payload_bytes < 2:
        raise ValueError(f"a payload is a JSON object of at least 2 bytes, not {payload_bytes}")
    if not types:
        raise ValueError("at least one event type is needed")
    for name in types:
        if not name.isascii() or not name.isprintable() or '"' in name or "\\" in name:
            raise ValueError(f"event type {name!r} is not plain ASCII without quotes and backslashes")
    # 128 bytes bound an event without its payload, but for type names of unusual length.
    if events * (payload_bytes + 128) > MAX_BODY_BYTES:
        raise ValueError(
            f"{events} events with {payload_bytes} bytes of payload make a body over {MAX_BODY_BYTES >> 20} MiB"
        )
