"""The chunked transfer coding (RFC 9112 §7.1), sans-IO and strict.

Strict, because a request can be smuggled if a proxy reads the same bytes differently: sizes are bare hexadecimal
digits, every line ends in CR LF, extensions and trailers are bounded and thrown away.

Invariants: the bytes after the body are never touched, and the same bytes cut at any point decode alike; a feed takes a
bounded number of chunks.
"""

from __future__ import annotations

import re

MAX_LINE = 4096
"""The longest size line with its extensions, and the longest trailer line, in bytes."""

# RFC 9112 sets no bound. A client without an end to its trailers would keep the connection for ever.
MAX_TRAILER_LINES = 64

# A chunk may be as short as six bytes, so that a receive has more than ten thousand of them: more than seven
# milliseconds.
_CHUNKS_AT_ONCE = 2000

# 15 digits: no larger size is taken, and Python reads them without a second look. Spaces before an extension are bad
# whitespace that RFC 9112 §7.1.1 asks a recipient to accept.
_SIZE = rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?"
_SIZE_LINE = re.compile(_SIZE)
_match_size_line = re.compile(_SIZE + rb"\r\n").match
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


class ChunkedError(Exception):
    """The body breaks the coding. No byte behind the body can be trusted, so the connection ends."""


class BodyTooLarge(Exception):
    """The next chunk would pass the limit."""


class ChunkedDecoder:
    """Gathers a ``body`` of at most ``limit`` bytes until the decoder is ``done``.

    >>> decoder = ChunkedDecoder(limit=100)
    >>> decoder.feed(b"3\\r\\nabc\\r\\n0\\r\\n\\r\\nPOST"), decoder.done, bytes(decoder.body)
    (b'POST', True, b'abc')
    """

    __slots__ = ("_pending", "_remaining", "_state", "_trailers", "body", "done", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.body = bytearray()
        self.done = False
        self._pending = b""
        self._remaining = 0
        self._state = self._read_size

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, and return the others: the bytes after its end, or more chunks if not ``done``.

        A feed takes the chunks of a millisecond or two. Raises `ChunkedError`, or `BodyTooLarge` as soon as the size of
        a chunk would pass the limit.
        """
        data = self._pending + data
        position = 0
        paused = False
        while not self.done:
            # First the short way: where it stops, the states below find out why.
            if self._state == self._read_size:
                position, paused = self._read_whole_chunks(data, position)
                if paused:
                    break
            advanced = self._state(data, position)
            if advanced < 0:
                break
            position = advanced
        if self.done or paused:
            self._pending = b""
            return data[position:]
        self._pending = data[position:]
        return b""

    def _read_whole_chunks(self, data: bytes, position: int) -> tuple[int, bool]:
        """Read the chunks that have come whole, the shortest way. Returns their end, and whether there may be more."""
        body, limit = self.body, self.limit
        for _ in range(_CHUNKS_AT_ONCE):
            match = _match_size_line(data, position, position + MAX_LINE + 2)
            if match is None:
                break
            start = match.end()
            size = int(match[1], 16)
            end = start + size
            if not size or len(body) + size > limit or data[end : end + 2] != b"\r\n":
                break
            body += data[start:end]
            position = end + 2
        else:
            return position, True
        return position, False

    def _line(self, data: bytes, position: int) -> bytes | None:
        end = data.find(b"\n", position, position + MAX_LINE + 2)
        if end < 0:
            if len(data) - position >= MAX_LINE + 2:
                raise ChunkedError(f"a line of the chunked body is longer than {MAX_LINE} bytes")
            return None
        # Some servers take a bare LF as an end, others do not: between two such, a request can be smuggled.
        if end == position or data[end - 1] != 0x0D:
            raise ChunkedError("a line of the chunked body ends in a bare LF")
        return data[position : end - 1]

    def _read_size(self, data: bytes, position: int) -> int:
        line = self._line(data, position)
        if line is None:
            return -1
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ChunkedError("a chunk begins without a hexadecimal size")
        self._remaining = int(match[1], 16)
        # Before the bytes of the chunk: a client could announce a terabyte, and send it.
        if len(self.body) + self._remaining > self.limit:
            raise BodyTooLarge
        self._state = self._read_data if self._remaining else self._read_trailer
        self._trailers = 0
        return position + len(line) + 2

    def _read_data(self, data: bytes, position: int) -> int:
        # Added as the bytes come: a chunk of megabytes must not wait in ``_pending``, which is joined at each feed.
        part = data[position : position + self._remaining]
        if not part:
            return -1
        self.body += part
        self._remaining -= len(part)
        if not self._remaining:
            self._state = self._read_end
        return position + len(part)

    def _read_end(self, data: bytes, position: int) -> int:
        end = data[position : position + 2]
        if not b"\r\n".startswith(end):
            raise ChunkedError("a chunk is longer than its size says")
        if len(end) < 2:
            return -1
        self._state = self._read_size
        return position + 2

    def _read_trailer(self, data: bytes, position: int) -> int:
        line = self._line(data, position)
        if line is None:
            return -1
        self._trailers += 1
        if line and (self._trailers > MAX_TRAILER_LINES or not _TRAILER.fullmatch(line)):
            raise ChunkedError("the trailer of the chunked body is malformed or too long")
        self.done = not line
        return position + len(line) + 2
