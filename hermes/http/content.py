"""Content codings of a request body: gzip, deflate and zstd, decoded without ever passing the limit.

A body is decoded a piece at a time, so small that it grows to a few megabytes at most: a bomb stops there. Invariant:
time and memory are bounded by the body's length and the limit, whatever the bytes are. Pure. Called by the ingest
route.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

MAX_MEMBERS = 4096
"""The most gzip members or zstd frames in a row that a body may be made of."""

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
_ZSTD_MAX_WINDOW = 8 * 2**20  # what RFC 8878 asks every decoder to take

# A byte of deflate grows to 1032 at most, and four bytes of zstd to a block of 128 KiB.
_ZLIB_PIECE = 4096
_ZSTD_PIECE = 256


class ContentError(Exception):
    """The body is not what its Content-Encoding says."""


class ContentTooLarge(Exception):
    """The decoded body passes the limit, or what is made of it; then the message says so."""


class _Decoder(Protocol):
    """The decoder of one member, as zlib and zstandard have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview, /) -> bytes: ...


def _decode(body: bytes, begin: Callable[[], _Decoder], piece: int, limit: int, most: int = MAX_MEMBERS) -> bytes:
    """One to ``most`` members in a row (RFC 1952 and RFC 8878 allow it), each decoded by what ``begin`` makes."""
    view, parts = memoryview(body), list[bytes]()
    position = size = 0
    for _ in range(most):
        decoder = begin()
        while not decoder.eof:
            if position == len(body):
                raise ContentError("it ends too early")
            part = decoder.decompress(view[position : position + piece])
            position = min(position + piece, len(body))
            size += len(part)
            if size > limit:
                raise ContentTooLarge
            if part:
                parts.append(part)
        position -= len(decoder.unused_data)
        if position == len(body):
            return b"".join(parts)
    raise ContentError("there are bytes after its end" if most == 1 else f"it has more than {most} members")


def _gunzip(body: bytes, limit: int) -> bytes:
    return _decode(body, lambda: zlib.decompressobj(_GZIP_WINDOW), _ZLIB_PIECE, limit)


def _undeflate(body: bytes, limit: int) -> bytes:
    # "deflate" means zlib's wrapper (RFC 9110 §8.4.1.2), but clients that send it bare are common enough to be read.
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    window = _ZLIB_WINDOW if wrapped else _RAW_WINDOW
    return _decode(body, lambda: zlib.decompressobj(window), _ZLIB_PIECE, limit, most=1)


def _unzstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    return _decode(body, decompressor.decompressobj, _ZSTD_PIECE, limit)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "zstd": _unzstd,
}

CODINGS = frozenset({"", "identity", *_DECODERS})
"""What Content-Encoding may say."""


def decode_content(coding: str, body: bytes, limit: int) -> bytes:
    """The body without its coding, of at most ``limit`` bytes. Raises `ContentError` or `ContentTooLarge`."""
    decode = _DECODERS.get(coding)
    if decode is None:
        return body
    try:
        return decode(body, limit)
    except (zlib.error, zstandard.ZstdError) as error:
        raise ContentError(str(error)) from None
