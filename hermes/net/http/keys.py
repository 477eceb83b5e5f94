"""The keys of clients: a client has to know one of them. Pure.

Invariant: the time of a comparison tells nothing about a key.
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
    """The body of a request has no configured key. The client acts: the message is the detail of its 401."""


class Keys:
    """The configured keys. Without a key the service is open to all.

    >>> keys = Keys(["secret"])
    >>> keys.admit({"authorization": "Bearer secret"}), keys.admit({"x-api-key": "other"})
    (True, False)
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.replace(keys)

    def replace(self, keys: Iterable[str]) -> None:
        """Take these keys from now on."""
        # As bytes: `compare_digest` takes text only if it is ASCII, and raises for the rest.
        self._keys = [key.encode() for key in keys]

    @property
    def configured(self) -> bool:
        """Whether a client has to know a key."""
        return bool(self._keys)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, their names in lower case, may pass."""
        # Read for each head and not kept: the keys can change while the service runs.
        return not self._keys or self._admit(_find_key(headers))

    def admit_key(self, key: str) -> bool:
        """Whether this is one of the keys."""
        return self._admit(key.encode())

    def _admit(self, offered: bytes) -> bool:
        # A list and not a generator, so that every key is compared: the time must not tell which key was right.
        return any([hmac.compare_digest(offered, key) for key in self._keys])  # noqa: C419


def offers_key(headers: Mapping[str, str]) -> bool:
    """Whether a head has a key, right or wrong."""
    return "authorization" in headers or "x-api-key" in headers


def refuse_key(headers: Mapping[str, str]) -> Response:
    """Return the answer to a head without a configured key."""
    return _UNAUTHORIZED[refusal_of(headers)]


def refusal_of(headers: Mapping[str, str]) -> str:
    """Return the detail of the 401: the head has no key that can be read, or an unknown key."""
    return UNKNOWN if _find_key(headers) else WANTED


def _find_key(headers: Mapping[str, str]) -> bytes:
    """Return the key in a head. Empty: the head has no key that can be read."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    scheme, token = scheme.lower(), rest.strip().encode("latin-1")
    if scheme == "bearer":
        return token
    # A Basic value that is not a name without a password (RFC 7617) does not hide the other header: a proxy may have
    # set it for itself.
    name = _decode_name(token) if scheme == "basic" else None
    return headers.get("x-api-key", "").encode("latin-1") if name is None else name


def _decode_name(token: bytes) -> bytes | None:
    try:
        name = binascii.a2b_base64(token, strict_mode=True)
    except binascii.Error:
        return None
    return name[:-1] if name.endswith(b":") else None
