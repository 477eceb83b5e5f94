"""Content codings whose libraries are an extra: br, lz4 and snappy.

Each decoder yields the body in parts of bounded size. The libraries are imported here only, when a body needs one.

Invariant: a bomb stops at the limit, also if the library itself has no bound. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec

from hermes.base.json.elements import cut_off
from hermes.net.http.content_error import DAMAGED, ContentError, ContentTooLarge

_PIECE = 16 * 2**10
# A piece may consist of tables for blocks that are empty, and takes 0.1 ms then.
_BROTLI_PIECE = 2**10
# Chunks of snappy that are decoded together: many are as short as a byte, and a call for each would take seconds.
_CHUNKS_AT_ONCE = 256
_MOST_OF_A_PART = 256 * 2**10
_MAX_MEMBERS = 4096

# The framing format of snappy (framing_format.txt): chunks of a kind, a length of three bytes, and at most 64 KiB.
_STREAM_ID = b"\xff\x06\x00\x00sNaPpY"
_COMPRESSED, _PLAIN, _SKIPPABLE = 0x00, 0x01, 0x80


def _unbrotli(body: bytes, limit: int) -> Iterator[bytes]:
    brotli = import_module("brotli")
    decoder = brotli.Decompressor()
    position = size = 0
    try:
        while not decoder.is_finished():
            # The decoder may hold output back; then it refuses input, and an empty call gives the rest.
            data = body[position : position + _BROTLI_PIECE] if decoder.can_accept_more_data() else b""
            position += len(data)
            part = decoder.process(data, output_buffer_limit=_MOST_OF_A_PART)
            if not data and not part and not decoder.is_finished():
                raise ContentError(cut_off(len(body)))
            size += len(part)
            if size > limit:
                raise ContentTooLarge
            yield part
    except brotli.error:
        raise ContentError(DAMAGED) from None
    if position < len(body):
        raise ContentError("there are bytes after its end")


def _unlz4(body: bytes, limit: int) -> Iterator[bytes]:
    frames = import_module("lz4.frame")
    position = size = 0
    for _ in range(_MAX_MEMBERS):
        decoder = frames.LZ4FrameDecompressor()
        while not decoder.eof:
            if decoder.needs_input and position >= len(body):
                raise ContentError(cut_off(len(body)))
            data = body[position : position + _PIECE] if decoder.needs_input else b""
            position += len(data)
            try:
                part = decoder.decompress(data, max_length=_MOST_OF_A_PART)
            except RuntimeError:
                raise ContentError(DAMAGED) from None
            size += len(part)
            if size > limit:
                raise ContentTooLarge
            yield part
        position -= len(decoder.unused_data or b"")
        if position == len(body):
            return
    raise ContentError(f"it has more than {_MAX_MEMBERS} frames")


def _unsnappy(body: bytes, limit: int) -> Iterator[bytes]:
    """Yield the parts of either format: frames, known by their first chunk, or one block."""
    cramjam = import_module("cramjam")
    try:
        if not body:
            # A stream without a chunk is an empty body.
            return
        if body.startswith(_STREAM_ID):
            yield from _unframe(cramjam.snappy, body, limit)
            return
        # A block tells its decoded size in its first bytes, so a bomb is refused before it is decoded.
        if cramjam.snappy.decompress_raw_len(body) > limit:
            raise ContentTooLarge
        yield bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise ContentError(DAMAGED) from None


def _unframe(snappy: object, body: bytes, limit: int) -> Iterator[bytes]:
    position = size = 0
    while position < len(body):
        chunks, position = _gather_chunks(body, position)
        # Empty for skipped chunks: a pause for the caller, because a body may consist of millions of them.
        part = b""
        if chunks:
            # The chunks by themselves are a stream: the library looks at their checksums and bounds them.
            part = bytes(snappy.decompress(_STREAM_ID + b"".join(chunks)))  # type: ignore[attr-defined]
        size += len(part)
        if size > limit:
            raise ContentTooLarge
        yield part


def _gather_chunks(body: bytes, position: int) -> tuple[list[bytes], int]:
    """Return the next chunks that hold data, at most `_PIECE` bytes but for the last, and the place behind them."""
    chunks: list[bytes] = []
    end = position + _PIECE
    for _ in range(_CHUNKS_AT_ONCE):
        if not position < min(end, len(body)):
            break
        kind, length = body[position], int.from_bytes(body[position + 1 : position + 4], "little")
        chunk = body[position : position + 4 + length]
        position += 4 + length
        if len(chunk) < 4 + length:
            raise ContentError(cut_off(len(body)))
        # Padding, the identifier once more, or a kind that the format lets a reader skip.
        if kind >= _SKIPPABLE:
            continue
        if kind not in {_COMPRESSED, _PLAIN}:
            raise ContentError("it has a chunk of an unknown kind")
        chunks.append(chunk)
    return chunks, position


_MODULES: dict[str, tuple[str, Callable[[bytes, int], Iterator[bytes]]]] = {
    "br": ("brotli", _unbrotli),
    "lz4": ("lz4", _unlz4),
    "snappy": ("cramjam", _unsnappy),
    "x-snappy-framed": ("cramjam", _unsnappy),
}

EXTRA_DECODERS = {coding: decode for coding, (module, decode) in _MODULES.items() if find_spec(module) is not None}
"""The decoders of the codings whose library is installed: ``decode(body, limit)`` yields parts.

A decoder raises `ContentError` or `ContentTooLarge`, maybe after some parts.
"""

MISSING_CODINGS = frozenset(_MODULES) - EXTRA_DECODERS.keys()
"""The codings that need the extra ``codings``, which is not installed."""
