"""One declaration of a route: method, path, address, handler and OpenAPI operations in one frozen object.

The app of an address and the OpenAPI document of an address are built from one sequence of endpoints, so that neither
has a route that the other lacks. A handler of the control lane is an async function from a `Request` to an answer:

    async def show_job(request: Request) -> Response:
        return Response(200, jobs.encode(request.parameters["number"]))

    Endpoint("GET", "/jobs/{number:int}", show_job, describe_job, address="ADMIN_ADDR", key="before")

A handler of the fast lane is a `hermes.net.http.head.Route`. Invariant: nothing here imports Quart or Trio, so that a
part can declare its endpoints without loading either.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from hermes.net.http.head import Route
from hermes.net.http.response import Response

if TYPE_CHECKING:
    # For type checkers alone: a part can declare its endpoints without loading the OpenAPI types.
    from hermes.net.control.openapi.operation import Operation

AddressName = Literal["HTTP_ADDR", "ADMIN_ADDR"]
"""The setting with the address at which an endpoint is served."""

KeyCheck = Literal["none", "before", "handler"]
"""Who checks the key, if the address has keys: nobody, the app before it calls the handler, or the handler itself.

A handler checks the key if the client may send the key in the body.
"""

_CONVERTER = re.compile(r":\w+\}")


@dataclass(frozen=True)
class Request:
    """A request to the control lane. Header names are lower case; a repeated header is joined with commas.

    ``query`` has every value of each name, ``parameters`` has the path's. ``origin`` is the address that the client
    asked, such as ``http://localhost:8080``, and ``client`` is the client's own, or empty. ``id`` goes with the
    answer. Within ``when_client_ends(call)`` the function is called once the client sends no more.

    ::

        async def show(request: Request) -> Answer:
            (name,) = request.query.get("name", ["nobody"])
            body = b"".join([part async for part in request.body])
            return Response(200, msgspec.json.encode({"name": name, "bytes": len(body)}))
    """

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    parameters: Mapping[str, Any]
    body: AsyncIterable[bytes]
    query_string: str = ""
    origin: str = ""
    client: str = ""
    id: bytes = b""
    when_client_ends: Callable[[Callable[[], None]], AbstractContextManager[None]] = field(
        default=lambda _call: nullcontext()
    )


class Body(Protocol):
    """The body of a `Streaming`: entered before the first part is sent, left after the last or when the client left."""

    async def __aenter__(self) -> Self:
        """The client is about to be sent the first part."""

    async def __aexit__(self, *_: object) -> None:
        """Nothing more is sent."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The parts."""


@dataclass(frozen=True)
class Streaming:
    """A 200 that goes on until ``body`` ends or the client leaves. HEAD is answered without entering ``body``.

    ::

        return Streaming("application/x-ndjson", lines)  # `lines` is a `Body`
    """

    content_type: str
    body: Body


Answer = Response | Streaming
Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Endpoint:
    """One route. ``path`` may have parameters: ``{name}``, ``{name:int}``, and ``{name:path}``, which takes slashes.

    ``describe()`` gives the operations of the document, mostly one, and is called when the document is first asked for.
    An endpoint without an operation is a part of a page, or answers OPTIONS, which every path does.

    >>> async def show_job(request: Request) -> Response:
    ...     return Response(200, b"%d" % request.parameters["number"])
    >>> Endpoint("GET", "/jobs/{number:int}", show_job, address="ADMIN_ADDR").plain_path
    '/jobs/{number}'
    """

    method: str
    path: str
    handler: Handler | Route
    # A function and not the operations: their types are imported with the first document, and not at the start.
    # `tuple`, called without arguments, gives no operation.
    describe: Callable[[], Iterable[Operation]] = tuple
    address: AddressName = "HTTP_ADDR"
    key: KeyCheck = "none"

    @property
    def lane(self) -> Literal["fast", "control"]:
        """The lane of the endpoint. The control lane serves data routes too, over HTTP/2 and under odd paths."""
        return "fast" if isinstance(self.handler, Route) else "control"

    @property
    def plain_path(self) -> str:
        """The path as OpenAPI writes it, its parameters without their kinds."""
        return _CONVERTER.sub("}", self.path)


def at(address: AddressName, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints of one address, in their order."""
    return tuple(endpoint for endpoint in endpoints if endpoint.address == address)
