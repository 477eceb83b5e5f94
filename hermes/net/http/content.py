"""Content codings of a request body: gzip, deflate, zstd and those of an extra, decoded without ever passing the limit.

A body is decoded a piece at a time, so small that it grows to a few megabytes at most: a bomb stops there. Invariant:
time and memory are bounded by the body's length and the limit, whatever the bytes are. Pure. Called by the ingest
route.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from hermes.base.json.elements import cut_off
from hermes.net.http.content_error import ContentError as ContentError
from hermes.net.http.content_error import ContentTooLarge as ContentTooLarge
from hermes.net.http.extra_codings import EXTRA_DECODERS

MAX_MEMBERS = 4096
"""The most gzip members or zstd frames in a row that a body may be made of."""

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
_ZSTD_MAX_WINDOW = 8 * 2**20  # what RFC 8878 asks every decoder to take

# A byte of deflate grows to 1032 at most, so a part is bounded; four bytes of zstd grow to a block of 128 KiB.
_ZLIB_PIECE = 64 * 2**10
_MOST_OF_A_PART = 256 * 2**10
_ZSTD_PIECE = 128

Parts = Iterator[bytes]


class _Decoder(Protocol):
    """The decoder of one member, as zlib and zstandard have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: memoryview, /) -> bytes: ...


class _Inflater:
    """zlib's decoder, of which each call gives a bounded part."""

    def __init__(self, window: int) -> None:
        self._decoder = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def unconsumed_tail(self) -> bytes:
        return self._decoder.unconsumed_tail

    def decompress(self, data: memoryview, /) -> bytes:
        return self._decoder.decompress(data, _MOST_OF_A_PART)


def _decode(body: bytes, begin: Callable[[], _Decoder], piece: int, limit: int, most: int = MAX_MEMBERS) -> Parts:
    """One to ``most`` members in a row (RFC 1952 and RFC 8878 allow it), each decoded by what ``begin`` makes."""
    view = memoryview(body)
    position = size = 0
    for _ in range(most):
        decoder = begin()
        while not decoder.eof:
            data = view[position : position + piece]
            part = decoder.decompress(data)
            if not data and not part and not decoder.eof:
                raise ContentError(cut_off(position))
            position += len(data) - len(decoder.unconsumed_tail)
            size += len(part)
            if size > limit:
                raise ContentTooLarge
            yield part
        position -= len(decoder.unused_data)
        if position == len(body):
            return
    raise ContentError("there are bytes after its end" if most == 1 else f"it has more than {most} members")


def _gunzip(body: bytes, limit: int) -> Parts:
    return _decode(body, lambda: _Inflater(_GZIP_WINDOW), _ZLIB_PIECE, limit)


def _undeflate(body: bytes, limit: int) -> Parts:
    # "deflate" means zlib's wrapper (RFC 9110 §8.4.1.2), but clients that send it bare are common enough to be read.
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    window = _ZLIB_WINDOW if wrapped else _RAW_WINDOW
    return _decode(body, lambda: _Inflater(window), _ZLIB_PIECE, limit, most=1)


def _unzstd(body: bytes, limit: int) -> Parts:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    return _decode(body, decompressor.decompressobj, _ZSTD_PIECE, limit)


_DECODERS: dict[str, Callable[[bytes, int], Parts]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "zlib": _undeflate,
    "zstd": _unzstd,
    **EXTRA_DECODERS,
}

CODINGS = frozenset({"", "identity", *_DECODERS})
"""What Content-Encoding may say."""


def decode_parts(coding: str, body: bytes, limit: int) -> Parts:
    """The body without its coding, of at most ``limit`` bytes, in parts each of which takes some milliseconds at most.

    Raises `ContentError` or `ContentTooLarge`, maybe after some.
    """
    decode = _DECODERS.get(coding)
    if decode is None:
        yield body
        return
    try:
        yield from decode(body, limit)
    except (zlib.error, zstandard.ZstdError) as error:
        raise ContentError(str(error)) from None
