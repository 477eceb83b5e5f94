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

from hermes.base.json.cut import AT_ONCE, Pieces, Refused
from hermes.base.json.long_values import UNKNOWN_TO_CLIENTS, Slim, hide_long_values
from hermes.base.json.rules import BadBody, check_text

# Bytes that are encoded in one step. A multiple of three: base64 of any other part would end in padding.
_AT_ONCE = 48 * 2**10
_SIZE = 32 * 2**10
# A control character grows to six bytes, a quote or a line break to two.
_TIMES = 2
_OPENING, _CLOSING = b'{"data":', b"}"
# Stand-ins that no client knows: the body is put back where a stand-in is found, so none may be sent by a client.
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
            # Within an object, because long values are hidden in the members of an object.
            slim = yield from hide_long_values(b"".join((_OPENING, body, _CLOSING)), _SIZE)
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
            # Text in another encoding is kept as bytes.
            pass
        except ValidationError as error:
            yield Refused(str(error))
            return
        else:
            yield Slim(_TEXT, ((b'"%b"' % _TEXT, encoded),))
            return
    # The stand-in is no UTF-8, so `decode_binary` takes it for bytes too.
    encoded = yield from _encode_octets(body)
    yield Slim(_OCTETS, ((b'"%b"' % b64encode(_OCTETS), encoded),))


def _encode_text(body: bytes) -> Generator[None, None, bytes]:
    """Return a JSON string of the text. Raises `UnicodeDecodeError`; `ValidationError` for a NUL or a large growth."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts, room = [b'"'], _TIMES * len(body)
    for start in range(0, len(body), _AT_ONCE):
        # Incremental: a character may be cut by the end of a part.
        part = decoder.decode(body[start : start + _AT_ONCE], final=start + _AT_ONCE >= len(body))
        encoded = msgspec.json.encode(part)
        check_text(encoded)
        parts.append(encoded[1:-1])
        room -= len(encoded)
        # Six times 10 MiB of control characters are 60 MiB, and each copy of 60 MiB takes 20 ms.
        if room < 0:
            raise ValidationError(
                f"a large text may grow to {_TIMES} times its size as a JSON string: send it as bytes"
            )
        yield None
    return (yield from _join(parts))


def _encode_octets(body: bytes) -> Generator[None, None, bytes]:
    parts = [b'"']
    for start in range(0, len(body), _AT_ONCE):
        parts.append(b64encode(body[start : start + _AT_ONCE]))
        yield None
    return (yield from _join(parts))


def _join(parts: list[bytes]) -> Generator[None, None, bytes]:
    """Return the JSON string of these parts, whose first one is the opening quote."""
    parts.append(b'"')
    text = b"".join(parts)
    # The copy into the event takes as long again: 7 ms for 14 MiB.
    yield None
    return text
