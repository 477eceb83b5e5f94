"""The keys that a client has to know one of. Pure.

Invariant: how long a comparison takes tells nothing about a key. Used by the routes that API_KEYS protects.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Iterable, Mapping

from hermes.base.errors import HermesError
from hermes.net.http.response import Response, problem

WANTED = (
    "this service wants a key: send Authorization: Bearer KEY, or X-API-Key: KEY, or Authorization: Basic with the key "
    "as the name and no password"
)
# Not Basic as well, at which a browser would ask the visitors of a page for a name and a password.
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hermes"'}
UNKNOWN = "the key that was sent is none that this service takes: check it, or ask the service's operator for one"
_UNAUTHORIZED = {words: problem(401, words, CHALLENGE) for words in (WANTED, UNKNOWN)}


class KeyRefused(HermesError):
    """The body of a request has none of the configured keys. The client acts; it is answered 401, with these words."""


class Keys:
    """The configured keys; none: open to all."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.replace(keys)

    def replace(self, keys: Iterable[str]) -> None:
        """From now on these are the keys."""
        self._keys = [key.encode() for key in keys]

    @property
    def configured(self) -> bool:
        """Whether a client has to know a key."""
        return bool(self._keys)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, their names in lower case, may pass."""
        return not self._keys or self._admit(_find_key(headers))

    def admit_key(self, key: str) -> bool:
        """Whether this is one of the keys."""
        return self._admit(key.encode())

    def _admit(self, offered: bytes) -> bool:
        # Every key is compared, whatever the first ones say.
        return any([hmac.compare_digest(offered, key) for key in self._keys])  # noqa: C419


def offers_key(headers: Mapping[str, str]) -> bool:
    """Whether a head has a key, right or wrong."""
    return "authorization" in headers or "x-api-key" in headers


def refuse_key(headers: Mapping[str, str]) -> Response:
    """The answer to a head without one of the keys: no key was read in it, or one that is not known."""
    return _UNAUTHORIZED[refusal_of(headers)]


def refusal_of(headers: Mapping[str, str]) -> str:
    """The words of it."""
    return UNKNOWN if _find_key(headers) else WANTED


def _find_key(headers: Mapping[str, str]) -> bytes:
    """The key in a head; empty where none can be read."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    scheme, token = scheme.lower(), rest.strip().encode("latin-1")
    if scheme == "bearer":
        return token
    # What is no name without a password, as HTTP writes it (RFC 7617), does not hide the other header.
    name = _decode_name(token) if scheme == "basic" else None
    return headers.get("x-api-key", "").encode("latin-1") if name is None else name


def _decode_name(token: bytes) -> bytes | None:
    try:
        name = binascii.a2b_base64(token, strict_mode=True)
    except binascii.Error:
        return None
    return name[:-1] if name.endswith(b":") else None
