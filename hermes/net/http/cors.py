"""The pages of other origins that may post, as response header lines (Fetch standard §3.2: the CORS protocol).

Invariants: an origin that is not configured is never named, and ``*`` never goes together with credentials. An echoed
value has the form of header names, so that no value ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hermes.net.http.head import Head

# A script of another origin sees only the simplest headers, unless the others are named here.
_EXPOSED = b"x-request-id, retry-after"
# Authorization is named, since ``*`` does not stand for it.
_USUAL_HEADERS = "Authorization, Content-Encoding, Content-Type, X-API-Key, X-Request-Id, *"
_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
# In bytes. A preflight without an end must not become an answer without an end.
_LONGEST_NAMES = 2048
# A day is the most for which any browser keeps the answer.
_PREFLIGHT_SECONDS = 86_400


class Origins:
    """The origins that may post. Empty: no origin may. ``("*",)``: all may, without credentials.

    A page of an origin that is named may also send credentials. ``sendBeacon`` always sends them, and then a browser
    takes ``*`` neither for the origin nor for the names of headers: both are echoed.

    >>> Origins(["https://a.example"]).response_lines(Head("POST", "/events", {"origin": "https://b.example"}))
    b'\\r\\nvary: origin'
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._any = "*" in names
        self._named = frozenset(names) - {"*"}

    def response_lines(self, head: Head) -> bytes:
        """Return the header lines of the response to a request, each begun by a line break."""
        if not self._any and not self._named:
            return b""
        origin = head.headers.get("origin", "")
        # Browsers send the origin in lower case and without a path, so a plain comparison does.
        named = origin in self._named
        # Also for other origins: a cache must not give the answer to one origin to another.
        vary = b"\r\nvary: origin" if self._named else b""
        if not named and not self._any:
            return vary
        allowed = b"%b\r\naccess-control-allow-credentials: true" % origin.encode("latin-1") if named else b"*"
        shown = b"" if head.method == "OPTIONS" else b"\r\naccess-control-expose-headers: " + _EXPOSED
        preflight = _preflight_lines(head) if "access-control-request-method" in head.headers else b""
        return b"\r\naccess-control-allow-origin: %b%b%b%b" % (allowed, shown, preflight, vary)


def _preflight_lines(head: Head) -> bytes:
    asked = head.headers.get("access-control-request-headers", "").strip()
    # The attributes of a CloudEvent are headers of any name.
    names = asked if len(asked) <= _LONGEST_NAMES and _HEADER_NAMES.fullmatch(asked) else _USUAL_HEADERS
    return (
        b"\r\naccess-control-allow-methods: POST\r\naccess-control-allow-headers: %b\r\naccess-control-max-age: %d"
    ) % (names.encode("latin-1"), _PREFLIGHT_SECONDS)
