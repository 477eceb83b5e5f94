"""Judges the requests to the admin address. Pure.

Invariant: a request passes only with one of the admin keys or, if no admin key is set, under a name of this machine. So
no web page that the operator visits can reach the address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from hermes.net.control.endpoint import Endpoint
from hermes.net.control.origin import refuse_foreign
from hermes.net.http.keys import Keys, refuse_key
from hermes.net.http.response import Response, problem


def judge_admin(keys: Keys, endpoints: Sequence[Endpoint]) -> Callable[[str, Mapping[str, str]], Response | None]:
    """Return the judge of an admin app, a function that gives the answer to a request that must not pass.

    ``keys`` may be empty: then this machine needs no key. ``endpoints`` that want no key are pages without data. ::

        judge = judge_admin(keys, endpoints)
        refusal = judge("/status", {"host": "hermes.example"})  # None lets the request pass
    """
    # A browser has to load a page before its user can give the key, so pages without data are open.
    open_paths = frozenset(endpoint.path for endpoint in endpoints if endpoint.key == "none")
    wanted = keys if keys.configured else None
    return lambda path, headers: _refuse(wanted, headers, is_open=path in open_paths)


def _refuse(keys: Keys | None, headers: Mapping[str, str], *, is_open: bool) -> Response | None:
    """The answer to a request that must not pass."""
    # DNS rebinding: the owner of a web page can point its name at this machine, and the browser then sends the page's
    # requests here as requests of one origin. The Host still has the page's name.
    if keys is None and not _names_this_machine(headers.get("host", "")):
        return problem(
            421,
            "the admin address answers to localhost or to an IP address: use one, or set ADMIN_KEYS for other names",
        )
    # With keys too: a browser that knows a key as Basic credentials sends it with a foreign page's requests.
    if (refusal := refuse_foreign(headers, page=is_open)) is not None:
        return refusal
    if keys is not None and not is_open and not keys.admit(headers):
        return refuse_key(headers)
    return None


def _names_this_machine(host: str) -> bool:
    try:
        # urlsplit looks for a host behind two slashes, and takes the port and the brackets of IPv6 away.
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    # No name server decides where one of these names, or an IP address, leads.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
