"""Judges and encodes the body of a large CloudEvent in binary mode in steps, and yields a short stand-in for the body.

Invariants: `CloudEventDecoder.decode_binary` turns the stand-in into the same event as the body, once the body is back
in its place; each step takes a few milliseconds at most. Pure.
"""

from __future__ import annotations

import codecs
from base64 import b64encode
from collections.abc import Generator

import msgspec
from msgspec import ValidationError

from hermes.cut import AT_ONCE, Pieces, Refused
from hermes.decode import BadBody, check_text
from hermes.proof import UNKNOWN_TO_CLIENTS, Slim, hide_long_values

_AT_ONCE = 48 * 2**10  # bytes that are encoded in one step; a multiple of three, for base64
_SIZE = 32 * 2**10
_TIMES = 2  # a control character grows to six bytes, a quote or a line break to two
_OPENING, _CLOSING = b'{"data":', b"}"
_TEXT = b"text-" + UNKNOWN_TO_CLIENTS
_OCTETS = b"\xff" + UNKNOWN_TO_CLIENTS


def cut_binary(body: bytes, *, json: bool, begins_as_json: bool, text: bool) -> Pieces:
    """Yield the body as one piece. ``json`` and ``text`` say as which of both to try the body. Raises `BadBody`.

    A body that ``begins_as_json`` and is not JSON is refused; any other body may still be text, or bytes.
    """
    if len(body) <= AT_ONCE:
        yield body
        return
    if json:
        try:
            slim = yield from hide_long_values(_OPENING + body + _CLOSING, _SIZE)
        except BadBody:
            if begins_as_json:
                raise
        else:
            yield Slim(slim.text[len(_OPENING) : -len(_CLOSING)], slim.hidden)
            return
    if text:
        try:
            encoded = yield from _encode_text(body)
        except UnicodeDecodeError:
            pass  # text in another encoding is kept as bytes
        except ValidationError as error:
            yield Refused(str(error))
            return
        else:
            yield Slim(_TEXT, ((b'"%b"' % _TEXT, encoded),))
            return
    encoded = yield from _encode_octets(body)
    yield Slim(_OCTETS, ((b'"%b"' % b64encode(_OCTETS), encoded),))


def _encode_text(body: bytes) -> Generator[None, None, bytes]:
    """A JSON string of the text. Raises `UnicodeDecodeError`, and `ValidationError` for a NUL and for what grows."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts, room = [b'"'], _TIMES * len(body)
    for start in range(0, len(body), _AT_ONCE):
        part = decoder.decode(body[start : start + _AT_ONCE], final=start + _AT_ONCE >= len(body))
        encoded = msgspec.json.encode(part)
        check_text(encoded)
        parts.append(encoded[1:-1])
        room -= len(encoded)
        if room < 0:  # to copy 60 MiB takes 20 ms each time
            raise ValidationError(
                f"a large text may grow to {_TIMES} times its size as a JSON string: send it as bytes"
            )
        yield None
    parts.append(b'"')
    return b"".join(parts)


def _encode_octets(body: bytes) -> Generator[None, None, bytes]:
    parts = [b'"']
    for start in range(0, len(body), _AT_ONCE):
        parts.append(b64encode(body[start : start + _AT_ONCE]))
        yield None
    parts.append(b'"')
    return b"".join(parts)
