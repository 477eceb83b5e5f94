"""The vocabulary in which an endpoint is described: an operation, its parameters, bodies and answers.

Data alone. Invariant: an operation names types, examples and words; answers that all operations of an address share are
not repeated. Read by ``document``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from hermes.decode import Rejection

JSON = "application/json"
PROBLEM = "application/problem+json"
HTML_TYPE = "text/html"


class Problem(msgspec.Struct):
    """What went wrong, as problem details (RFC 9457). ``detail`` says what to do about it."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str


class WrongParameter(Problem):
    """A parameter is wrong. ``parameter`` names it."""

    parameter: str | msgspec.UnsetType = msgspec.UNSET


class NothingTaken(Problem):
    """No event of the request was taken; ``rejected`` says why, where the events could be told apart."""

    accepted: Literal[0] | msgspec.UnsetType = msgspec.UNSET
    rejected: list[Rejection] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Example:
    """A value as it goes over the wire: text as it is, anything else as JSON."""

    summary: str
    value: Any


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``kind`` is a type that msgspec knows; ``example`` is shown unless None."""

    name: str
    words: str
    kind: Any
    place: Literal["query", "path", "header"] = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True)
class Content:
    """A body of one media type. ``kind`` is a type that msgspec knows, or None if the media type is enough."""

    media_type: str
    kind: Any = None
    examples: Sequence[Example] = ()
    words: str = ""


@dataclass(frozen=True)
class Header:
    """A header of an answer."""

    words: str
    kind: Any = str
    required: bool = True


RETRY_AFTER = {"Retry-After": Header("Whole seconds after which to try again.", int)}
CHALLENGE = {"WWW-Authenticate": Header("`Bearer`, the kind of key that is wanted.")}


@dataclass(frozen=True)
class Answer:
    """One answer: its status, the case in which an endpoint gives it, its bodies and its headers."""

    status: int
    words: str
    contents: Sequence[Content] = ()
    headers: Mapping[str, Header] = field(default_factory=dict)


class Tag(NamedTuple):
    """A group of operations, described by ``words`` in the document."""

    name: str
    words: str


UNCHANGED = Answer(304, "It is still the one that `If-None-Match` names.")


STATUS = Tag("Status", "How the service is, for people and for dashboards.")
SERVICE = Tag("Service", "How the service is, for machines.")
DEBUGGING = Tag(
    "Debugging", "Accounts and profiles: on the admin address, and where events come in with DEBUG_ENDPOINTS=true."
)


@dataclass(frozen=True)
class Operation:
    """Describes an endpoint in the document; method, address and key are the endpoint's own.

    ``path`` is one of several that the endpoint serves; empty: the endpoint's. ``endless``: a good answer goes on until
    the client or the service ends the stream. ``same_as``: the path of another operation with the same effect.
    """

    tag: Tag
    summary: str
    words: str = ""
    parameters: Sequence[Parameter] = ()
    bodies: Sequence[Content] = ()
    body_required: bool = True
    answers: Sequence[Answer] = ()
    path: str = ""
    endless: bool = False
    same_as: str = ""


def problem(
    status: int, words: str, headers: Mapping[str, Header] | None = None, *, kind: type[Problem] = Problem
) -> Answer:
    """An answer that is an error."""
    return Answer(status, words, (Content(PROBLEM, kind),), headers or {})


def query_of(
    kind: type[msgspec.Struct], words: Mapping[str, str], examples: Mapping[str, Any]
) -> tuple[Parameter, ...]:
    """The parameters of a query that is read as a struct. Raises `KeyError` for a field without words."""
    found = []
    for each in msgspec.structs.fields(kind):
        shown: Any = each.type
        if each.default not in (None, msgspec.NODEFAULT):
            shown = Annotated[shown, Meta(extra_json_schema={"default": each.default})]
        found.append(Parameter(each.encode_name, words[each.name], shown, example=examples.get(each.name)))
    return tuple(found)
