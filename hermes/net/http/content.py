"""Content codings of a request body: gzip, deflate, zstd and those of an extra, decoded without ever passing the limit.

A body is decoded a piece at a time. A piece is so small that it grows to a few megabytes at most, so a bomb stops
there.

Invariant: for any bytes, the length of the body and the limit bound the time and the memory. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from hermes.base.json.elements import cut_off
from hermes.net.http.content_error import DAMAGED
from hermes.net.http.content_error import ContentError as ContentError
from hermes.net.http.content_error import ContentTooLarge as ContentTooLarge
from hermes.net.http.extra_codings import EXTRA_DECODERS

# Each member costs a decoder of its own, so a body of empty members would take long for its size.
MAX_MEMBERS = 4096
"""The most gzip members or zstd frames in a row that a body may be made of."""

# zlib's numbers for a window of 32 KiB: 16 more for a gzip header, negative for no header at all.
_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
# RFC 8878 asks every decoder to take windows of 8 MiB, and allows it to refuse larger ones.
_ZSTD_MAX_WINDOW = 8 * 2**20

PARTS_AT_ONCE = 32
"""The parts that are decoded in a few milliseconds, whatever they hold."""

# A byte of deflate grows to 1032 at most, so a part is bounded; four bytes of zstd grow to a block of 128 KiB. A piece
# of deflate that grows to nothing may still take 0.2 ms: it may consist of tables for blocks that are empty.
_ZLIB_PIECE = 2 * 2**10
_MOST_OF_A_PART = 256 * 2**10
_ZSTD_PIECE = 128

Parts = Iterator[bytes]

_TOO_WIDE = "it takes more memory to decode than one body may: compress it with a smaller window"


class _Decoder(Protocol):
    """The decoder of one member, with the names that zlib and zstandard share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: memoryview, /) -> bytes: ...


class _Inflater:
    """zlib's decoder. Each call returns a part of bounded size."""

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
    """Yield the parts of one to ``most`` members in a row. ``begin()`` makes a decoder for each member.

    RFC 1952 and RFC 8878 allow several members.
    """
    view = memoryview(body)
    position = size = 0
    for _ in range(most):
        decoder = begin()
        while not decoder.eof:
            data = view[position : position + piece]
            # Bounded: of zlib by the second argument, of zstd by the size of the piece.
            part = decoder.decompress(data)
            # The decoder wants more bytes, and there are none.
            if not data and not part and not decoder.eof:
                raise ContentError(cut_off(position))
            # zlib leaves input over if the output is as large as it may be: the next round begins there.
            position += len(data) - len(decoder.unconsumed_tail)
            size += len(part)
            if size > limit:
                raise ContentTooLarge
            yield part
        # The end of a member lies inside of a piece: the bytes behind it are the next member's.
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
"""The values of Content-Encoding that are taken."""


def decode_parts(coding: str, body: bytes, limit: int) -> Parts:
    """Yield the body without its coding, at most ``limit`` bytes, in parts of a few milliseconds each.

    Raises `ContentError` or `ContentTooLarge`, maybe after some parts.

    >>> b"".join(decode_parts("deflate", zlib.compress(b"abc"), limit=10))
    b'abc'
    """
    decode = _DECODERS.get(coding)
    if decode is None:
        yield body
        return
    try:
        yield from decode(body, limit)
    except (zlib.error, zstandard.ZstdError) as error:
        raise ContentError(_TOO_WIDE if "memory" in str(error) else DAMAGED) from None
