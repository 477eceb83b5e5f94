"""The parameters of the endpoints of dead letters: read from the query and the body, and checked.

Invariant: a parameter that is empty, unknown or given twice is an error, so that a mistake never widens a purge. Pure
but for the reading of a body.
"""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from hermes.base.json.wrong_types import in_words
from hermes.dead_letters import Selection
from hermes.dead_letters.contract import MAX_NUMBER, PAGE_LETTERS
from hermes.dead_letters.notation import choose, parse_since
from hermes.net.control.endpoint import Request

_MOST_LISTED = 1000
_MOST_NUMBERS = 10_000
_ECHOED = 100  # characters of a client's own text that an answer repeats
# Room for `_MOST_NUMBERS` numbers of 19 digits, which are the longest that a store gives.
_BODY_BYTES = 256 * 2**10
# msgspec has no error with a field of its own: the name is only in its message.
_WHERE = re.compile(r"`\$\.(\w+)|unknown field `(.*)`")

# A filter that is empty by mistake must not widen what is purged; U+0000 is in no letter, and Postgres takes none.
_Text = Annotated[str, Meta(min_length=1, pattern="^[^\0]*$")]
_Number = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]


class WrongValue(Exception):
    """A parameter is wrong, and the client has to correct the request."""

    def __init__(self, parameter: str, words: str) -> None:
        super().__init__(words)
        self.parameter = parameter[:_ECHOED]


# A misspelt filter must be an error: without it the request would mean all letters.
class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters that select letters."""

    part: _Text | None = None
    source: _Text | None = None
    sink: _Text | None = None
    type: _Text | None = None
    reason: _Text | None = None
    # A number in a body, text in a query; `parse_since` reads the text.
    since: str | float | None = None
    numbers: Annotated[list[_Number], Meta(min_length=1, max_length=_MOST_NUMBERS)] | None = None

    def selection(self) -> Selection:
        """The selection with these parameters. Raises `WrongValue`."""
        since = self.since
        if isinstance(since, str):
            try:
                since = parse_since(since, time.time())
            except ValueError as error:
                raise WrongValue("since", f"since={str(since)[:_ECHOED]!r}: expected {error}") from None
        try:
            return choose(self.part, self.source, self.sink, self.type, self.reason, since, self.numbers)
        except ValueError as error:
            raise WrongValue("sink", f"sink: {error}") from None


class Listing(_Chosen):
    """The parameters of a page."""

    after: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] = 0
    limit: Annotated[int, Meta(ge=1, le=_MOST_LISTED)] = PAGE_LETTERS


class Replaying(_Chosen):
    """The parameters of a replay."""

    # Bounded, so that "inf" in a query is refused: leaving the rate out means no bound already.
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    dry_run: bool = False


class Purging(_Chosen):
    """The parameters of a purge."""

    all: bool = False
    dry_run: bool = False


_ChosenT = TypeVar("_ChosenT", bound=_Chosen)


def from_query(request: Request) -> dict[str, Any]:
    """The parameters of the query, each once."""
    given: dict[str, Any] = {}
    for name, values in request.query.items():
        # Nobody can tell which of them the client meant.
        if len(values) > 1:
            raise WrongValue(name, f"{name} is given {len(values)} times")
        # As the OpenAPI document says of lists: `numbers=17,18`.
        given[name] = values[0].split(",") if name == "numbers" else values[0]
    return given


async def from_body(request: Request) -> dict[str, Any]:
    """The parameters of the body, a JSON object or nothing."""
    body = b""
    async for part in request.body:
        # Counted part by part: a body in chunks tells its length only at its end.
        body += part
        if len(body) > _BODY_BYTES:
            raise WrongValue("numbers", f"the body is larger than {_BODY_BYTES} bytes: name fewer letters, or a filter")
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise WrongValue("body", f"the body is not a JSON object: {error}") from None


def merge(query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Both, each parameter in one of them."""
    # Neither of the two may win: nobody can tell which one the client meant.
    for name in query.keys() & body.keys():
        raise WrongValue(name, f"{name} is given in the query and in the body")
    return query | body


def read(kind: type[_ChosenT], given: dict[str, Any]) -> _ChosenT:
    """The parameters, checked. Raises `WrongValue` for the first one that is unknown or has a wrong value."""
    try:
        # Not strict: in a query every value is text, and "17" has to be a number.
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        place = _WHERE.search(str(error))
        known, unknown = place.groups() if place is not None else ("body", None)
        if unknown is None:
            words = in_words(str(error))
            told = words if words != str(error) else f"{known}: {words.partition(' - at')[0]}"
            raise WrongValue(known, told) from None
        fields = ", ".join(kind.__struct_fields__)
        raise WrongValue(unknown, f"{unknown[:_ECHOED]!r} is not a parameter here; there are {fields}") from None
    for name, value in given.items():
        # The text "null" would be read as none given, and a filter that is written wrongly must not widen the choice.
        if value is not None and getattr(found, name) is None:
            raise WrongValue(name, f"{name}: expected a value, got {value!r}: leave it out instead")
    return found
