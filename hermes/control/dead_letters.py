"""The dead letters over HTTP: listed, shown, replayed through the service's own deliveries, and purged.

    GET    /dead-letters?sink=&type=&reason=&since=&numbers=&after=&limit=   {"letters": […], "next": …, "total": …}
    GET    /dead-letters/<number>
    POST   /dead-letters/replay   the same selection, rate, dry_run; as a JSON object or in the query
    DELETE /dead-letters?…        the same selection, or all=true; dry_run

Invariants: a request is bounded in letters and bytes, whatever the store holds, and says what it left; one replay runs
at a time. Added to the admin app, which has judged the request before; the edge lends the store and the deliveries.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Annotated, Any, TypeVar

import msgspec
import trio
from msgspec import Meta
from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio

from hermes.control.reply import keep_connection, to_quart
from hermes.dead_letters import DeadLetters, Selection
from hermes.dead_letters.contract import MAX_NUMBER, PAGE_LETTERS
from hermes.dead_letters.notation import encode_letter, parse_since, summarize
from hermes.dead_letters.replay import Target, replay
from hermes.errors import LogUnavailable
from hermes.http.response import problem

MOST_REPLAYED = 1000
"""The most letters of one request to replay."""

REPLAY_SECONDS = 30.0
"""With a rate, no more letters than go in this time."""

_MOST_LISTED = 1000
_MOST_NUMBERS = 10_000
_ECHOED = 100  # characters of what a client sent that it is shown again
_BODY_BYTES = 256 * 2**10
_PATH = "/dead-letters"
_WHERE = re.compile(r"`\$\.(\w+)|unknown field `(.*)`")

# A filter that is empty by mistake must not widen what is purged; U+0000 is in no letter, and Postgres takes none.
_Text = Annotated[str, Meta(min_length=1, pattern="^[^\0]*$")]
_Number = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]


@dataclass(frozen=True)
class DeadLetterDesk:
    """What the routes work on. ``targets`` are the sinks that letters can be replayed to, by name."""

    store: DeadLetters
    targets: Mapping[str, Target]


class _Wrong(Exception):
    """A parameter is wrong; the client mends it."""

    def __init__(self, parameter: str, words: str) -> None:
        super().__init__(words)
        self.parameter = parameter[:_ECHOED]


class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters that select letters."""

    sink: _Text | None = None
    type: _Text | None = None
    reason: _Text | None = None
    since: str | float | None = None
    numbers: Annotated[list[_Number], Meta(min_length=1, max_length=_MOST_NUMBERS)] | None = None

    def selection(self) -> Selection:
        """The selection that they mean. Raises `_Wrong`."""
        since = self.since
        if isinstance(since, str):
            try:
                since = parse_since(since, time.time())
            except ValueError as error:
                raise _Wrong("since", f"since={str(since)[:_ECHOED]!r}: expected {error}") from None
        return Selection(self.sink, self.type, self.reason, since, self.numbers)


class Listing(_Chosen):
    """The parameters of a page."""

    after: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] = 0
    limit: Annotated[int, Meta(ge=1, le=_MOST_LISTED)] = PAGE_LETTERS


class Replaying(_Chosen):
    """The parameters of a replay."""

    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    dry_run: bool = False


class Purging(_Chosen):
    """The parameters of a purge."""

    all: bool = False
    dry_run: bool = False


_ChosenT = TypeVar("_ChosenT", bound=_Chosen)
_Handler = Callable[..., Awaitable[QuartResponse]]


def add_dead_letters(app: QuartTrio, desk: DeadLetterDesk) -> None:
    """Add the routes to the app."""
    store = desk.store
    replaying = trio.Lock()

    def guarded(handler: _Handler) -> _Handler:
        @wraps(handler)
        async def answer(**arguments: Any) -> QuartResponse:
            try:
                return await handler(**arguments)
            except _Wrong as error:
                return to_quart(problem(400, str(error), parameter=error.parameter))
            except LogUnavailable as error:
                return to_quart(problem(503, f"{error}: try again", {"Retry-After": "1"}))

        return answer

    @app.get(_PATH)
    @guarded
    async def list_dead_letters() -> QuartResponse:
        asked = _read(Listing, _query())
        selection = asked.selection()
        letters = await store.page(selection, after=asked.after, limit=asked.limit)
        more = letters and await store.page(selection, after=letters[-1].number, limit=1)
        after = b"%d" % letters[-1].number if more else b"null"
        total = sum((await store.count(selection)).values())
        return _json(b'{"letters":[%b],"next":%b,"total":%d}' % (b",".join(map(encode_letter, letters)), after, total))

    @app.get(f"{_PATH}/<int(max={MAX_NUMBER}):number>")
    @guarded
    async def show_dead_letter(number: int) -> QuartResponse:
        letters = await store.page(Selection(numbers=[number]), limit=1)
        if not letters:
            return to_quart(problem(404, f"there is no dead letter {number}"))
        return _json(encode_letter(letters[0]))

    @app.post(f"{_PATH}/replay")
    @guarded
    async def replay_dead_letters() -> QuartResponse:
        asked = _read(Replaying, _merge(_query(), await _body()))
        selection = asked.selection()
        most = MOST_REPLAYED
        if asked.rate is not None:
            most = min(most, max(1, int(asked.rate * REPLAY_SECONDS)))
        try:
            replaying.acquire_nowait()
        except trio.WouldBlock:
            return to_quart(problem(409, "another replay is under way: wait for its end", {"Retry-After": "1"}))
        try:
            outcomes = await replay(store, selection, desk.targets, rate=asked.rate, most=most, dry_run=asked.dry_run)
        finally:
            replaying.release()
        return _json(msgspec.json.encode(summarize(outcomes) | {"dry_run": asked.dry_run}))

    @app.delete(_PATH)
    @guarded
    async def purge_dead_letters() -> QuartResponse:
        asked = _read(Purging, _query())
        selection = asked.selection()
        if asked.all == (selection != Selection()):
            raise _Wrong("all", "say which: a filter such as sink, or all=true (and not both)")
        selection = replace(selection, up_to=await store.last())
        matched = sum((await store.count(selection)).values())
        removed = 0 if asked.dry_run else await store.remove(selection)
        return _json(msgspec.json.encode({"matched": matched, "removed": removed, "dry_run": asked.dry_run}))


def _query() -> dict[str, Any]:
    """The parameters of the query, each once."""
    given: dict[str, Any] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise _Wrong(name, f"{name} is given {len(values)} times")
        given[name] = values[0].split(",") if name == "numbers" else values[0]
    return given


async def _body() -> dict[str, Any]:
    """The parameters of the body, a JSON object or nothing."""
    body = b""
    async for part in request.body:
        body += part
        if len(body) > _BODY_BYTES:
            raise _Wrong("numbers", f"the body is larger than {_BODY_BYTES} bytes: name fewer letters, or a filter")
    keep_connection()
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise _Wrong("body", f"the body is no JSON object: {error}") from None


def _merge(query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    for name in query.keys() & body.keys():
        raise _Wrong(name, f"{name} is given in the query and in the body")
    return query | body


def _read(kind: type[_ChosenT], given: dict[str, Any]) -> _ChosenT:
    """The parameters, checked. Raises `_Wrong` for the first that is none, or that has no value it may have."""
    try:
        read = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        found = _WHERE.search(str(error))
        known, unknown = found.groups() if found is not None else ("body", None)
        if unknown is None:
            raise _Wrong(known, f"{known}: {str(error).partition(' - at')[0]}") from None
        fields = ", ".join(kind.__struct_fields__)
        raise _Wrong(unknown, f"{unknown[:_ECHOED]!r} is no parameter here; there are {fields}") from None
    for name, value in given.items():
        # The text "null" would be read as none given, and a filter that is written wrongly must not widen the choice.
        if value is not None and getattr(read, name) is None:
            raise _Wrong(name, f"{name}: expected a value, got {value!r}: leave it out to have none")
    return read


def _json(body: bytes) -> QuartResponse:
    return QuartResponse(body, 200, content_type="application/json")
