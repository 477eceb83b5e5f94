"""The types with which an endpoint is described: an operation, its parameters, bodies and answers.

Data alone. Invariant: an operation has types, examples and descriptions; the answers that all operations of an address
share are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from hermes.net.http.rejection import Rejection

JSON = "application/json"
PROBLEM = "application/problem+json"
HTML_TYPE = "text/html"


class Problem(msgspec.Struct):
    """An error as problem details (RFC 9457). ``detail`` says what to do."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str


class WrongParameter(Problem):
    """A parameter is wrong; ``parameter`` is its name."""

    # Left out where no single parameter is wrong, such as for a body that is not JSON.
    parameter: str | msgspec.UnsetType = msgspec.UNSET


class NothingTaken(Problem):
    """No event of the request was taken. ``rejected`` has the reasons, if the events could be read one by one."""

    accepted: Literal[0] | msgspec.UnsetType = msgspec.UNSET
    rejected: list[Rejection] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Example:
    """A value in the form in which it is sent: text unchanged, anything else as JSON.

    >>> Example("Two counts", {"ad_clicked:28333333": 3}).summary
    'Two counts'
    """

    summary: str
    value: Any


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``kind`` is a type that msgspec knows; ``example`` is shown unless None.

    >>> Parameter("rate", "The most letters a second.", float, example=100).place
    'query'
    """

    name: str
    words: str
    kind: Any
    place: Literal["query", "path", "header"] = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True)
class Content:
    """A body of one media type. ``kind`` is a type that msgspec knows, or None if the media type is enough.

    >>> Content(JSON, dict[str, int]).media_type
    'application/json'
    """

    media_type: str
    kind: Any = None
    examples: Sequence[Example] = ()
    words: str = ""


@dataclass(frozen=True)
class Header:
    """A header of an answer.

    >>> Header("Whole seconds after which to try again.", int).required
    True
    """

    words: str
    kind: Any = str
    required: bool = True


RETRY_AFTER = {"Retry-After": Header("Whole seconds after which to try again.", int)}
CHALLENGE = {"WWW-Authenticate": Header("`Bearer`, the kind of key that is wanted.")}


@dataclass(frozen=True)
class Answer:
    """One answer: the status, the case in which an endpoint gives this answer, the bodies and the headers.

    >>> Answer(200, "The counts.", (Content(JSON, dict[str, int]),)).status
    200
    """

    status: int
    words: str
    contents: Sequence[Content] = ()
    headers: Mapping[str, Header] = field(default_factory=dict)


class Tag(NamedTuple):
    """A group of operations, described by ``words`` in the document."""

    name: str
    words: str


UNCHANGED = Answer(304, "The content is still that of the ETag in `If-None-Match`.")


STATUS = Tag("Status", "The state of the service, for people and for dashboards.")
SERVICE = Tag("Service", "The state of the service, for machines.")
DEBUGGING = Tag(
    "Debugging", "Accounts and profiles: on the admin address, and where events come in with DEBUG_ENDPOINTS=true."
)


@dataclass(frozen=True)
class Operation:
    """Describes an endpoint in the document; method, address and key are the endpoint's own.

    ``path`` is one of several paths that the endpoint serves; empty: the endpoint's. ``endless``: a good answer goes on
    until the client or the service ends the stream. ``same_as``: the path of another operation with the same effect.

    >>> Operation(SERVICE, "Is the process alive?", answers=(Answer(200, "Yes."),)).tag.name
    'Service'
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
    """An answer that is an error.

    >>> problem(503, "The queue is full.", RETRY_AFTER).contents[0].media_type
    'application/problem+json'
    """
    return Answer(status, words, (Content(PROBLEM, kind),), headers or {})


def query_of(
    kind: type[msgspec.Struct], words: Mapping[str, str], examples: Mapping[str, Any]
) -> tuple[Parameter, ...]:
    """The parameters of a query that is read as a struct. Raises `KeyError` for a field without a description.

    >>> Paging = msgspec.defstruct("Paging", [("after", int, 0)])
    >>> [each.name for each in query_of(Paging, {"after": "Letters with higher numbers."}, {})]
    ['after']
    """
    found = []
    for each in msgspec.structs.fields(kind):
        shown: Any = each.type
        # msgspec gives the schema of a field's type without the field's default.
        if each.default not in (None, msgspec.NODEFAULT):
            shown = Annotated[shown, Meta(extra_json_schema={"default": each.default})]
        found.append(Parameter(each.encode_name, words[each.name], shown, example=examples.get(each.name)))
    return tuple(found)
