"""The endpoints for debugging: the accounts and the profiles, on ADMIN_ADDR and, if asked for, on HTTP_ADDR.

Invariant: no page of another origin starts a profile, on either address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from hermes.net.control.endpoint import AddressName, Answer, Endpoint, Handler, KeyCheck, Request
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.operation import DEBUGGING, HTML_TYPE, JSON, Content, Operation
from hermes.net.control.origin import refuse_foreign
from hermes.net.http.response import Response

Profile = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str, bytes, Mapping[str, str]]]]


class SinkAccount(msgspec.Struct):
    """The sums of one sink, in events.

    accepted = delivered + dead_lettered + evicted + spilled + dropped + in_flight
    """

    sink: str
    accepted: int
    replayed: int
    """Accepted events that an earlier run left in the journal, or that were sent again."""
    delivered: int
    dead_lettered: int
    """Refused for good, and kept as dead letters."""
    evicted: int
    """Refused for good, and the dead letter had to make room for a newer one."""
    spilled: int
    """Kept in the journal for the next start."""
    dropped: dict[str, int]
    """By reason."""
    in_flight: int
    """In memory or on disk, without an outcome."""


class JournalAccount(msgspec.Struct):
    """The contents of the journal. Places are indexes of its records."""

    first: int
    next: int
    bytes: int
    events: int
    commits: int
    failed_commits: int
    cursors: dict[str, int]
    """The place that each sink has reached."""
    failing: str | None
    """Why the storage does not work; null while it works."""


class Accounts(msgspec.Struct):
    """The outcomes of every accepted event."""

    accepted: int
    sinks: list[SinkAccount]
    journal: JournalAccount | None


async def make_profile(path: str, parameters: Mapping[str, str]) -> tuple[int, str, bytes, Mapping[str, str]]:
    """Make a debugging page or a profile: status, content type, body and headers."""
    # Imported at the first request: the module brings tracemalloc and more.
    from hermes.observe.debug import answer

    return await answer(path, parameters)


def debug_endpoints(
    address: AddressName, accounting: Callable[[], Mapping[str, object]], profile: Profile = make_profile
) -> tuple[Endpoint, ...]:
    """``/debug/accounting`` and ``/debug/pprof/`` on an address."""

    async def show_accounts(_request: Request) -> Answer:
        return Response(200, msgspec.json.encode(accounting()))

    async def show_profile(request: Request) -> Answer:
        given = {name: values[0] for name, values in request.query.items()}
        status, content_type, body, headers = await profile(request.path, given)
        return Response(status, body, content_type, headers)

    # On HTTP_ADDR the keys of applications do not open these routes: only DEBUG_ENDPOINTS does.
    key: KeyCheck = "before" if address == "ADMIN_ADDR" else "none"
    return (
        Endpoint("GET", "/debug/accounting", _to_own_pages(show_accounts), _describe_accounts, address, key),
        Endpoint("GET", "/debug/pprof/", _to_own_pages(show_profile), _describe_page, address, key),
        Endpoint("GET", "/debug/pprof/{name:path}", _to_own_pages(show_profile), _describe_profiles, address, key),
    )


def _to_own_pages(handler: Handler) -> Handler:
    # On HTTP_ADDR too, where the other routes may be called by any page: an image of a foreign page could otherwise
    # start the profilers, which took nine tenths of the throughput.
    async def answer(request: Request) -> Answer:
        refusal = refuse_foreign(request.headers, page=False)
        return await handler(request) if refusal is None else refusal

    return answer


def _describe_accounts() -> Iterable[Operation]:
    yield Operation(
        DEBUGGING,
        "Show the accounts",
        "For every sink, at every moment: accepted = delivered + dead-lettered + evicted + spilled + dropped + in "
        "flight.",
        answers=(operation.Answer(200, "The accounts.", (Content(JSON, Accounts),)),),
    )


def _describe_page() -> Iterable[Operation]:
    page = operation.Answer(200, "The page.", (Content(HTML_TYPE, str),))
    yield Operation(DEBUGGING, "List the profiles", "A page with links.", answers=(page,))


def _describe_profiles() -> Iterable[Operation]:
    # Imported with the first document: the module brings tracemalloc and the profilers.
    from hermes.net.control.openapi.profiles import describe_profiles

    return describe_profiles()
