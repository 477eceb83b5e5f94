"""Decides whether a browser says that a page of another origin sends a request. Pure.

Invariant: as far as browsers say where a request comes from, a foreign page reaches no data and starts no work, by any
method. A foreign page may link to a page of this address, which then requests its own parts. A client that is no
browser sends no such header, and passes.
A gap remains: an old browser, without Fetch Metadata, shows no difference between a visitor who typed the address and a
foreign page that opens or frames this address and sends no Referer.
Source: Fetch standard, "Origin header"; W3C Fetch Metadata Request Headers; RFC 9110 §10.1.3 (Referer).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from hermes.net.http.response import Response, problem

FOREIGN = problem(403, "a page of another origin may not do this: open this address itself, and go on from there")


def refuse_foreign(headers: Mapping[str, str], *, page: bool) -> Response | None:
    """The answer to a request that another origin's page sends, or None if the request may pass.

    ``headers`` have their names in lower case. ``page``: the request reads a page without data, to which
    another site may link.

    >>> headers = {"host": "localhost:9090", "origin": "https://elsewhere.example"}
    >>> refuse_foreign(headers, page=False).status
    403
    """
    if not _is_foreign(headers) or (page and _leads_there(headers)):
        return None
    return FOREIGN


def _is_foreign(headers: Mapping[str, str]) -> bool:
    # A host is the same in capital letters (RFC 9110 §4.2.3).
    host = headers.get("host", "").lower()
    origin = headers.get("origin")
    # First, because browsers send Origin with every method that may change something.
    if origin is not None:
        # `null`, the origin of a sandboxed frame or of a file, has no host, and so is foreign.
        return origin.partition("://")[2].lower() != host
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"none", "same-origin"}  # none: typed, or a bookmark
    # A browser without Fetch Metadata: our own pages have a Referer there (Referrer-Policy), and any other is foreign.
    referer = headers.get("referer")
    if referer is not None:
        return _host_of(referer) != host
    # Neither header nor Referer: a page with no-referrer in an old browser, or no browser at all.
    return _is_part_of_a_page(headers)


def _is_part_of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether an image, a script or a fetch of a page without a Referer sends the request."""
    # Every browser calls itself Mozilla, and for a typed address it accepts HTML.
    return headers.get("user-agent", "").startswith("Mozilla/") and "text/html" not in headers.get("accept", "")


def _leads_there(headers: Mapping[str, str]) -> bool:
    """Whether the visitor follows a link, so that the page is shown on its own and not within the foreign page."""
    # A link has no Origin, as a posted form has.
    if "origin" in headers or ("sec-fetch-dest" not in headers and _is_part_of_a_page(headers)):
        return False
    # Without Fetch Metadata an old browser does not tell a link from a frame: the gap that is named above.
    return headers.get("sec-fetch-mode", "navigate") == "navigate" and (
        headers.get("sec-fetch-dest", "document") == "document"
    )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
