"""The keys that a client has to know one of. Pure.

Invariant: how long a comparison takes tells nothing about a key. Used by the routes that API_KEYS protects.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from hermes.http.response import problem

UNAUTHORIZED = problem(
    401,
    "this service wants a key: send Authorization: Bearer KEY, or X-API-Key: KEY",
    {"WWW-Authenticate": 'Bearer realm="hermes"'},
)


class Keys:
    """The configured keys; none: open to all."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, their names in lower case, may pass."""
        if not self._keys:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        offered = given.encode("latin-1")
        # Every key is compared, whatever the first ones say.
        return any([hmac.compare_digest(offered, key) for key in self._keys])  # noqa: C419
