"""Whether a browser says that a page of another origin sends a request. Pure.

Invariant: a foreign page gets at nothing that costs or tells something, by any method, as far as browsers say where a
request comes from. What it may do is lead a visitor to a page, which then asks for its own parts. A client that is no
browser sends none of these headers, and passes.
What remains: a browser without Fetch Metadata cannot be told from a visitor who typed the address, where a foreign page
opens or frames this one and sends no Referer.
Source: Fetch standard, "Origin header"; W3C Fetch Metadata Request Headers; RFC 9110 §10.1.3 (Referer).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from hermes.http.response import Response, problem

FOREIGN = problem(403, "a page of another origin may not do this: open this address itself, and go on from there")


def refuse_foreign(headers: Mapping[str, str], *, page: bool) -> Response | None:
    """The answer to a request that another origin's page sends; None: it may pass.

    ``headers`` have their names in lower case. ``page``: the request reads a page that costs nothing and tells nothing,
    so that a link on another site may lead there.
    """
    if not _is_foreign(headers) or (page and _leads_there(headers)):
        return None
    return FOREIGN


def _is_foreign(headers: Mapping[str, str]) -> bool:
    host = headers.get("host", "").lower()
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() != host
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"none", "same-origin"}  # none: typed, or a bookmark
    # A browser without Fetch Metadata: our own pages have a Referer there (Referrer-Policy), and any other is foreign.
    referer = headers.get("referer")
    if referer is not None:
        return _host_of(referer) != host
    return _is_part_of_a_page(headers)


def _is_part_of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether an image, a script or a fetch of a page that hides where it is; a typed address asks for HTML."""
    return headers.get("user-agent", "").startswith("Mozilla/") and "text/html" not in headers.get("accept", "")


def _leads_there(headers: Mapping[str, str]) -> bool:
    """Whether the visitor follows a link: the page is then shown on its own, not within the other."""
    if "origin" in headers or ("sec-fetch-dest" not in headers and _is_part_of_a_page(headers)):
        return False
    return headers.get("sec-fetch-mode", "navigate") == "navigate" and (
        headers.get("sec-fetch-dest", "document") == "document"
    )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
