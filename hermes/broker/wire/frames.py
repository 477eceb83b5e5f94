"""Cuts a stream of bytes into frames: a length of four bytes, big-endian, then so many bytes of one message.

Invariant: memory grows with the bytes that arrive, never with the length that a peer announces. Pure.
"""

from __future__ import annotations

import struct

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size
MAX_FRAME_BYTES = 2 * 2**20
"""The largest message that a server takes; a client takes any."""


class FrameTooLarge(Exception):
    """The peer announces a frame of ``size`` bytes, and at most ``most`` are taken. The stream cannot be read on."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"a frame of {size:,} bytes; at most {most:,} are taken")
        self.size = size
        self.most = most


class FrameReader:
    """Collects bytes and gives the frames that are whole.

    >>> reader = FrameReader(most=100)
    >>> reader.feed(encode_frame(b"one") + encode_frame(b"") + b"\\0\\0")
    [b'one', b'']
    >>> reader.begun
    False
    >>> reader.feed(b"\\0\\3tw"), reader.begun, reader.feed(b"o")
    ([], True, [b'two'])
    """

    __slots__ = ("_bytes", "_most", "too_large")

    def __init__(self, most: int = MAX_FRAME_BYTES) -> None:
        self._most = most
        self._bytes = bytearray()
        self.too_large: FrameTooLarge | None = None
        """Set once a length is larger than ``most``. The frames before that length have been given; none follows."""

    @property
    def begun(self) -> bool:
        """Whether the length of a frame has arrived whole, but its message has not."""
        return len(self._bytes) >= LENGTH_BYTES

    def feed(self, data: bytes) -> list[bytes]:
        """Take ``data`` and return every frame that is whole now, oldest first."""
        if self.too_large is not None:
            return []
        # Usually nothing is left from before, and the frames are cut from `data` without a copy of the whole.
        source: bytes | bytearray = data
        if self._bytes:
            self._bytes += data
            source = self._bytes
        frames: list[bytes] = []
        start, end = 0, len(source)
        while end - start >= LENGTH_BYTES:
            (size,) = _LENGTH.unpack_from(source, start)
            if size > self._most:
                self.too_large = FrameTooLarge(size, self._most)
                self._bytes = bytearray()
                return frames
            after = start + LENGTH_BYTES + size
            if after > end:
                break
            frames.append(bytes(source[start + LENGTH_BYTES : after]))
            start = after
        if source is data:
            if start < end:
                self._bytes += data[start:]
        else:
            del self._bytes[:start]
        return frames


def encode_frame(message: bytes) -> bytes:
    """Return ``message`` behind its length.

    >>> encode_frame(b"hi")
    b'\\x00\\x00\\x00\\x02hi'
    """
    return _LENGTH.pack(len(message)) + message
