"""Signs requests by the Standard Webhooks scheme, so that a receiver can verify the sender. Pure.

Invariant: ``webhook-id`` is derived from the content, so a repeated request has the same id.

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
# Bytes of a key, as Standard Webhooks allows.
_SHORTEST, _LONGEST = 24, 64


def parse_keys(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return the keys of SINK_HTTP_SECRET. Raises `ConfigError`, which does not show them.

    >>> len(parse_keys(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])[0])
    24
    """
    keys = []
    for text in texts:
        try:
            # Without ``validate`` wrong characters would be skipped, and the key would be another one.
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
    """Return the id of a request with this body, before compression.

    >>> content_id(b"[]")
    'msg_4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d'
    """
    return "msg_" + hashlib.sha256(body).hexdigest()[:40]


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return ``webhook-signature`` for a body, after compression.

    >>> sign([b"k" * 24], "msg_1", 1700000000, b"[]")[:3]
    'v1,'
    """
    # One signature for each key, so that a receiver may know only the old or only the new key. Of the compressed body,
    # so that a receiver can check the signature before it unpacks anything.
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
