"""The dead letters over HTTP: listed, shown, replayed through the service's own deliveries, and purged.

    GET    /dead-letters?part=&source=&sink=&type=&reason=&since=&numbers=&after=&limit=
    GET    /dead-letters/<number>
    POST   /dead-letters/replay   the same selection, rate, dry_run; as a JSON object or in the query
    DELETE /dead-letters?…        the same selection, or all=true; dry_run

Invariants: a request is bounded in letters and bytes, whatever the store holds, and says how many it left; one replay
runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import trio

from hermes.base.errors import LogUnavailable
from hermes.dead_letters.contract import MAX_NUMBER, Selection
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.dead_letters.notation import summarize
from hermes.dead_letters.parameters import Listing, Purging, Replaying, WrongValue, from_body, from_query, merge, read
from hermes.dead_letters.replay import replay
from hermes.net.control.endpoint import Answer, Endpoint, Handler, Request
from hermes.net.http.response import Response, problem

if TYPE_CHECKING:
    from hermes.net.control.openapi.operation import Operation

MOST_REPLAYED = 1000
"""The most letters that one request replays. The answer says how many are left."""

REPLAY_SECONDS = 30.0
"""With a rate, a request replays the letters of this time: a client does not wait for hours."""

_PATH = "/dead-letters"


def dead_letter_endpoints(desk: DeadLetterDesk) -> tuple[Endpoint, ...]:
    """The four endpoints over a store and its targets."""
    store = desk.store
    # Two replays at once would take the same letters, and write each twice.
    replaying = trio.Lock()

    async def list_letters(request: Request) -> Answer:
        asked = read(Listing, from_query(request))
        selection = asked.selection()
        letters = await store.page(selection, after=asked.after, limit=asked.limit)
        # Asked for, not guessed from a full page: `next` leads to a page that has letters.
        more = letters and await store.page(selection, after=letters[-1].number, limit=1)
        after = b"%d" % letters[-1].number if more else b"null"
        counts = await store.count(selection)
        sources = [{"part": part, "source": name, "letters": count} for (part, name), count in counts.items()]
        # Joined from ready bytes: to decode the payloads could change their numbers.
        return Response(
            200,
            b'{"letters":[%b],"next":%b,"total":%d,"sources":%b}'
            % (b",".join(map(desk.encode, letters)), after, sum(counts.values()), msgspec.json.encode(sources)),
        )

    async def show_letter(request: Request) -> Answer:
        number = request.parameters["number"]
        # A larger number fits no store; the stores' drivers would fail at it.
        letters = await store.page(Selection(numbers=[number]), limit=1) if number <= MAX_NUMBER else ()
        return Response(200, desk.encode(letters[0])) if letters else problem(404, f"there is no dead letter {number}")

    async def replay_letters(request: Request) -> Answer:
        asked = read(Replaying, merge(from_query(request), await from_body(request)))
        selection = asked.selection()
        most = MOST_REPLAYED
        if asked.rate is not None:
            # At least one, or a rate below one letter in `REPLAY_SECONDS` would replay nothing, however often it is
            # asked for.
            most = min(most, max(1, int(asked.rate * REPLAY_SECONDS)))
        try:
            # Refused at once, not put in a line: with a rate the other replay takes up to `REPLAY_SECONDS`.
            replaying.acquire_nowait()
        except trio.WouldBlock:
            return problem(409, "another replay is under way: wait for its end", {"Retry-After": "1"})
        try:
            outcomes = await replay(store, selection, desk.targets, rate=asked.rate, most=most, dry_run=asked.dry_run)
        finally:
            replaying.release()
        return Response(200, msgspec.json.encode(summarize(outcomes) | {"dry_run": asked.dry_run}))

    async def purge_letters(request: Request) -> Answer:
        # From the query alone: the body of a DELETE has no meaning that all servers on the way share (RFC 9110 §9.3.5).
        asked = read(Purging, from_query(request))
        selection = asked.selection()
        # An operator who forgets the filter must not empty the store, and with both the filter might be the mistake.
        if asked.all == (selection != Selection()):
            raise WrongValue("all", "say which: a filter such as sink, or all=true (and not both)")
        # Letters that come while the purge goes on are not those that the operator has counted.
        selection = replace(selection, up_to=await store.last())
        matched = sum((await store.count(selection)).values())
        removed = 0 if asked.dry_run else await store.remove(selection)
        return Response(200, msgspec.json.encode({"matched": matched, "removed": removed, "dry_run": asked.dry_run}))

    @cache
    def describe() -> Mapping[str, Operation]:
        # Imported when a document is first asked for: its types cost some milliseconds of a start.
        from hermes.dead_letters.openapi import describe_operations

        return describe_operations(desk.views.values())

    def declare(method: str, path: str, handler: Handler, name: str) -> Endpoint:
        return Endpoint(method, _PATH + path, _explain(handler), lambda: [describe()[name]], "ADMIN_ADDR", "before")

    return (
        declare("GET", "", list_letters, "list"),
        declare("GET", "/{number:int}", show_letter, "letter"),
        declare("POST", "/replay", replay_letters, "replay"),
        declare("DELETE", "", purge_letters, "purge"),
    )


def _explain(handler: Handler) -> Handler:
    async def answer(request: Request) -> Answer:
        try:
            return await handler(request)
        except WrongValue as error:
            return problem(400, str(error), parameter=error.parameter)
        except LogUnavailable as error:
            return problem(503, f"{error}: try again", {"Retry-After": "1"})

    return answer
