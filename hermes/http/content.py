"""Content codings of a request body: gzip, deflate and zstd, decoded without ever passing the limit.

A bomb stops at the limit, for each decoder is asked for no more than is still allowed. Pure. Called by the ingest
route.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import zstandard

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
_ZSTD_MAX_WINDOW = 8 * 2**20  # what RFC 8878 asks every decoder to take


class ContentError(Exception):
    """The body is not what its Content-Encoding says."""


class ContentTooLarge(Exception):
    """The decoded body passes the limit."""


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, bytes]:
    """One member: what it decodes to, and what comes after it."""
    decoder = zlib.decompressobj(window)
    out = decoder.decompress(body, limit + 1)
    if len(out) > limit:
        raise ContentTooLarge
    if not decoder.eof:
        raise ContentError("it ends too early")
    return out, decoder.unused_data


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body or not parts:  # RFC 1952 lets a file be several members in a row
        part, body = _inflate(body, _GZIP_WINDOW, limit - size)
        parts.append(part)
        size += len(part)
        if not part and len(parts) > 64:
            raise ContentError("too many empty members")
    return b"".join(parts)


def _undeflate(body: bytes, limit: int) -> bytes:
    # "deflate" means zlib's wrapper (RFC 9110 §8.4.1.2), but clients that send it bare are common enough to be read.
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    out, rest = _inflate(body, _ZLIB_WINDOW if wrapped else _RAW_WINDOW, limit)
    if rest:
        raise ContentError("there are bytes after its end")
    return out


def _unzstd(body: bytes, limit: int) -> bytes:
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    with decoder.stream_reader(body, read_across_frames=True) as reader:
        out: bytes = reader.read(limit + 1)
    if len(out) > limit:
        raise ContentTooLarge
    # The reader takes a torn frame for the end of its input. Its size is known to be harmless now: walk the frames.
    while body:
        frame = decoder.decompressobj()
        frame.decompress(body)
        if not frame.eof:
            raise ContentError("it ends too early")
        body = frame.unused_data
    return out


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
