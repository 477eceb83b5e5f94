"""Finds the end of an HTTP/1.1 answer: response framing without any I/O (RFC 9112, section 6).

A load generator needs three facts of an answer: its status, its end, and whether the connection stays usable. Bodies
are skipped, never kept.

Invariant: one request is outstanding at a time, so bytes after the end of an answer are an error. The result depends on
the bytes only, never on how the network cut them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from hermes.base.errors import HermesError

MAX_HEAD_BYTES = 64 << 10
"""The longest head, line of a chunk's size and trailer section; longer ones are malformed. Bounds a reader's memory."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?\r\n")
_FRAMING_FIELD = re.compile(
    rb"\n(content-length|transfer-encoding|connection):[ \t]*([^\r\n]*?)[ \t]*\r", re.IGNORECASE
)
# 15 digits, as for a content-length: longer sizes are malformed, and cost nothing.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


class Malformed(HermesError):
    """The received bytes are not an HTTP/1.1 answer to one request. The connection must be closed."""


class Truncated(HermesError):
    """The peer closed the connection before its answer was complete, or (``started`` false) before it began."""

    def __init__(self, *, started: bool) -> None:
        super().__init__("the connection was closed " + ("within an answer" if started else "before an answer"))
        self.started = started


class Answer(NamedTuple):
    """A complete answer: its status code, and whether the connection can take the next request."""

    status: int
    reusable: bool


class ResponseReader:
    r"""Finds the end of each answer on one connection; skips interim 1xx answers.

    >>> reader = ResponseReader()
    >>> reader.receive(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{")
    >>> reader.receive(b"}")
    Answer(status=202, reusable=True)
    """

    __slots__ = ("_buffer", "_left", "_reusable", "_status", "_step")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._status = 0
        self._reusable = True
        # The reader of the current part of the answer. It returns the reader of the next part, `_complete`, or None
        # to wait for more bytes.
        self._step: _Step = self._head

    def receive(self, data: bytes) -> Answer | None:
        """Return the answer that ``data`` completes, or None if more bytes must come. Raises `Malformed`."""
        # Mostly nothing is left from before, and nothing is copied.
        self._buffer = self._buffer + data if self._buffer else data
        while (following := self._step()) is not None:
            self._step = following
            if following == self._complete:
                return self._finish()
        return None

    def receive_eof(self) -> Answer:
        """Return the answer that the end of the connection completes. Raises `Truncated` if the answer needs more
        bytes.
        """
        if self._step == self._until_close:
            self._reusable = False
            return self._finish()
        raise Truncated(started=bool(self._buffer) or self._step != self._head)

    def _finish(self) -> Answer:
        # No request is outstanding for these bytes: the next one would take them for its answer.
        if self._buffer:
            raise Malformed(f"{len(self._buffer)} bytes after the end of an answer")
        self._step = self._head
        return Answer(self._status, self._reusable)

    def _head(self) -> _Step | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            # A peer that speaks another protocol (TLS, say) is told at its first bytes, not after 64 KiB.
            if not b"HTTP/1.".startswith(buffer[:7]) or len(buffer) > MAX_HEAD_BYTES:
                raise Malformed(f"no HTTP/1.1 answer: it starts with {buffer[:20]!r}")
            return None
        line = _STATUS_LINE.match(buffer, 0, end + 2)
        if line is None:
            raise Malformed(f"no HTTP/1.1 status line: {buffer[:60]!r}")
        self._status = int(line[2])
        fields = _FRAMING_FIELD.findall(buffer, line.end() - 1, end + 2)
        self._buffer = buffer[end + 4 :]
        # 101 is final: it switches protocols, and no other answer follows.
        if 100 <= self._status < 200 and self._status != 101:
            return self._head
        return self._body(fields, persistent=line[1] == b"1")

    def _body(self, fields: list[tuple[bytes, bytes]], *, persistent: bool) -> _Step:
        """Return the reader for the body that these header fields frame."""
        lengths, codings, options = set(), b"", b""
        for name, value in fields:
            match name.lower():
                case b"content-length":
                    lengths.add(value)
                case b"transfer-encoding":
                    codings = value.lower()
                case _:
                    options += b"," + value.lower()
        options_given = {option.strip() for option in options.split(b",")}
        self._reusable = b"close" not in options_given and (persistent or b"keep-alive" in options_given)
        # These answers have no body, whatever their fields say (RFC 9112, section 6.3).
        if self._status in (204, 304):
            return self._complete
        # Transfer-Encoding overrides Content-Length (RFC 9112, section 6.3).
        if codings:
            return self._chunk_size if codings.rpartition(b",")[2].strip() == b"chunked" else self._until_close
        if not lengths:
            return self._until_close
        length = lengths.pop()
        # Equal lengths sent twice are one member of the set and allowed; two different ones are an attack or a fault.
        # 15 digits bound the cost of int().
        if lengths or not length.isdigit() or len(length) > 15:
            raise Malformed(f"content-length is not one number: {length[:40]!r}")
        self._left = int(length)
        return self._sized

    def _sized(self) -> _Step | None:
        return self._complete if self._skip() else None

    def _chunk_size(self) -> _Step | None:
        line = self._line()
        if line is None:
            return None
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise Malformed(f"no size of a chunk: {line[:40]!r}")
        self._left = int(size[1], 16)
        return self._chunk if self._left else self._trailer

    def _chunk(self) -> _Step | None:
        return self._chunk_end if self._skip() else None

    def _chunk_end(self) -> _Step | None:
        if len(self._buffer) < 2:
            return None
        if self._buffer[:2] != b"\r\n":
            raise Malformed(f"a chunk is not followed by CRLF but by {self._buffer[:2]!r}")
        self._buffer = self._buffer[2:]
        return self._chunk_size

    def _trailer(self) -> _Step | None:
        line = self._line()
        if line is None:
            return None
        return self._complete if line == b"\r\n" else self._trailer

    def _until_close(self) -> _Step | None:
        # Counted past and not kept: a body may be larger than memory.
        self._buffer = b""
        return None

    def _complete(self) -> _Step | None:
        raise AssertionError("an answer that is complete takes no bytes")

    def _skip(self) -> bool:
        """Skip received bytes of the body. Returns True once the body is complete."""
        taken = min(self._left, len(self._buffer))
        self._left -= taken
        self._buffer = self._buffer[taken:]
        return self._left == 0

    def _line(self) -> bytes | None:
        """Take one line, with its CRLF; None if the line is not complete."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise Malformed("a line of a chunked body does not end")
            return None
        line, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]
        return line


_Step = Callable[[], "_Step | None"]
