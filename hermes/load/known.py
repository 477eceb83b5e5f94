"""Recognises an answer that looks like an earlier one, in a few tenths of a microsecond and without parsing it.

A server sends the same answer over and over, except for a date and a request id. The end of an answer depends only on
its status line and its framing fields. So an answer with the same status line, the same framing fields and the same
field names, complete in one read, ends where the earlier one ended.

Invariant: a status given here is the status that a fresh `ResponseReader` would give.
"""

from __future__ import annotations

import re

MAX_SHAPES = 16
"""Servers have few shapes of answers. Once 16 are known, further shapes are parsed, so that a server whose field names
vary cannot slow the look-up down."""

# A longer answer costs more to match than to parse, and is kept in memory as a pattern.
_MAX_BYTES = 4096
_FRAMING_FIELDS = (b"content-length", b"connection")


class KnownAnswers:
    r"""The status of answers of known shape, each complete, alone in its read, on a connection that stays usable.

    >>> known = KnownAnswers()
    >>> known.learn(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\ndate: now\r\n\r\n", 202)
    >>> known.status(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\ndate: later\r\n\r\n")
    202
    """

    __slots__ = ("_exact", "_shapes")

    def __init__(self) -> None:
        self._exact: dict[bytes, int] = {}
        self._shapes: list[tuple[re.Pattern[bytes], int]] = []

    def status(self, data: bytes) -> int | None:
        """Return the status of ``data`` as one whole answer, or None if ``data`` has to be parsed."""
        # An answer without a date and a request id repeats byte for byte; one dict look-up finds it.
        status = self._exact.get(data)
        if status is not None:
            return status
        for shape, status in self._shapes:
            if shape.fullmatch(data):
                return status
        return None

    def learn(self, data: bytes, status: int) -> None:
        """Remember the shape of an answer that a `ResponseReader` found complete in ``data``, and reusable."""
        if len(self._shapes) >= MAX_SHAPES or len(data) > _MAX_BYTES:
            return
        head, _, body = data.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        names = [line.partition(b":")[0].lower() for line in lines]
        # A chunked body is framed by its own bytes; an interim answer is followed by the head that counts.
        if b"transfer-encoding" in names or b" 1" in status_line[:10]:
            return
        pattern = [re.escape(status_line)]
        for name, line in zip(names, lines, strict=True):
            # A framing field must match with its value; of another field only the name must.
            kept = line if name in _FRAMING_FIELDS else line[: len(name)]
            # The possessive `*+` never backtracks, so a long answer cannot make the match slow.
            pattern.append(re.escape(kept) + (b"" if kept is line else rb":[^\r\n]*+"))
        shape = rb"\r\n".join(pattern) + rb"\r\n\r\n(?s:.{%d})" % len(body)
        self._shapes.append((re.compile(shape), status))
        self._exact[data] = status
