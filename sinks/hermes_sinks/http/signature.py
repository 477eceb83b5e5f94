"""Signatures by the Standard Webhooks scheme: who receives a request can tell who sent it, and which it is.

``webhook-id`` is derived from the content, so the same request that comes again has the same. Pure. Called by the http
sink.

Source: the Standard Webhooks specification, scheme ``v1``: HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence

from hermes import ConfigError

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a key


def parse_keys(texts: Iterable[str]) -> tuple[bytes, ...]:
    """The keys that SINK_HTTP_SECRET stands for. Raises `ConfigError`, which does not repeat them."""
    keys = []
    for text in texts:
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise ConfigError(
                f"SINK_HTTP_SECRET=(hidden): expected a comma-separated list of keys, each whsec_ and the base64 of "
                f"{_SHORTEST} to {_LONGEST} random bytes, as `openssl rand -base64 32` makes"
            )
        keys.append(key)
    return tuple(keys)


def content_id(body: bytes) -> str:
    """The id of a request with this body, before compression."""
    return "msg_" + hashlib.sha256(body).hexdigest()[:40]


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """``webhook-signature``: one signature for each key, so that a receiver may know only the old or the new one.

    ``body`` is what is sent, after compression: a receiver can check it before it unpacks anything.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
