"""Answers that need no parsing, since one like them was parsed before: a few tenths of a microsecond for each.

A server says the same thing over and over, but for a date and a request id. Where an answer ends depends on its status
line and its framing fields alone; so another one with that line, those fields and the same names around them, that is
complete in one read, ends where this one did.

Invariant: what is said here is what a fresh `ResponseReader` would say, or nothing. The client's loop asks first.
"""

from __future__ import annotations

import re

MAX_SHAPES = 16
"""Servers have few; beyond it, nothing more is learned."""

_MAX_BYTES = 4096
_FRAMING_FIELDS = (b"content-length", b"connection")


class KnownAnswers:
    """The status of answers of known shape, each complete, alone in its read and followed by a usable connection."""

    __slots__ = ("_exact", "_shapes")

    def __init__(self) -> None:
        self._exact: dict[bytes, int] = {}
        self._shapes: list[tuple[re.Pattern[bytes], int]] = []

    def status(self, data: bytes) -> int | None:
        """The status of these bytes as one whole answer; None if they have to be parsed."""
        status = self._exact.get(data)
        if status is not None:
            return status
        for shape, status in self._shapes:
            if shape.fullmatch(data):
                return status
        return None

    def learn(self, data: bytes, status: int) -> None:
        """Remember the shape of an answer that a `ResponseReader` found complete in these bytes, and reusable."""
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
            kept = line if name in _FRAMING_FIELDS else line[: len(name)]
            pattern.append(re.escape(kept) + (b"" if kept is line else rb":[^\r\n]*+"))
        shape = rb"\r\n".join(pattern) + rb"\r\n\r\n(?s:.{%d})" % len(body)
        self._shapes.append((re.compile(shape), status))
        self._exact[data] = status
