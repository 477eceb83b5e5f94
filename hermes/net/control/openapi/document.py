"""Makes the OpenAPI 3.1 document of an address from its endpoints.

Invariant: the document has the operations of exactly the endpoints that the address serves. HEAD is on every path with
GET and OPTIONS on every path, so neither is listed. Pure. Called when the document is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hermes.net.control.endpoint import Endpoint
from hermes.net.control.openapi.operation import (
    Answer,
    Content,
    Header,
    Operation,
    Parameter,
    problem,
)
from hermes.net.control.openapi.schemas import make_schemas, without_null

_REQUEST_ID = Header("The id of the request: the client's own, if it sent one, or a new one.")

EVERYWHERE = (
    problem(400, "The request is malformed."),
    problem(408, "The request came too slowly."),
    problem(431, "The headers of the request are larger than 64 KiB."),
)
"""The answers that every request may get."""

# Every form in which a client may send its key (`hermes.net.http.keys`).
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "`Authorization: Basic …`, with the key as the name and an empty password",
    },
}


@dataclass(frozen=True)
class About:
    """The head of the document of an address. ``keyed``: keys are configured, and endpoints ask for one.

    Beside `EVERYWHERE`, any request may get the answers ``everywhere``, and an operation that requires a key the
    answers ``secured``.
    """

    title: str
    version: str
    words: str
    keyed: bool
    everywhere: Sequence[Answer] = ()
    secured: Sequence[Answer] = ()

    @property
    def shared(self) -> Sequence[Answer]:
        """All answers that stand once in the document and to which operations refer."""
        return (*EVERYWHERE, *self.everywhere, *self.secured)

    def shared_by(self, endpoint: Endpoint) -> Sequence[Answer]:
        """The answers that an endpoint shares with others."""
        secured = self.secured if endpoint.key != "none" else ()
        return (*EVERYWHERE, *self.everywhere, *secured)


def make_document(about: About, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document of an address that serves these endpoints.

    >>> make_document(About("Hermes", "1.0", "An example.", keyed=False), [])["openapi"]
    '3.1.0'
    """
    described = [(endpoint, operation) for endpoint in endpoints for operation in endpoint.describe()]
    operations = [operation for _, operation in described]
    # All schemas in one go: msgspec names each component once, and two calls could give two types one name.
    schemas = _Schemas(operations, about.shared)
    paths: dict[str, Any] = {}
    # HEAD is answered wherever GET is, and OPTIONS everywhere, so neither is listed.
    for endpoint, operation in described:
        path = operation.path or endpoint.plain_path
        paths.setdefault(path, {})[endpoint.method.lower()] = _show(path, endpoint, operation, about, schemas)
    # A dict: many operations have one tag, and the document has each once, in the order of the endpoints.
    tags = dict(operation.tag for operation in operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": about.words,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative: each address serves its own document, under whatever name it is reached.
        "servers": [{"url": "/", "description": "This address."}],
        "tags": [{"name": name, "description": words} for name, words in tags.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {_name(answer): schemas.answer(answer) for answer in about.shared},
            "headers": {"X-Request-Id": schemas.header(_REQUEST_ID)},
            "securitySchemes": _SECURITY,
        },
    }


class _Schemas:
    """The schemas of all types that the operations name, made in one go, so that each component is there once."""

    def __init__(self, operations: Iterable[Operation], shared: Iterable[Answer]) -> None:
        kinds: list[Any] = [
            _REQUEST_ID.kind,
            *[content.kind for answer in shared for content in answer.contents],
            *[header.kind for answer in shared for header in answer.headers.values()],
        ]
        for operation in operations:
            kinds += [parameter.kind for parameter in operation.parameters]
            kinds += [content.kind for content in operation.bodies]
            for answer in operation.answers:
                kinds += [content.kind for content in answer.contents]
                kinds += [header.kind for header in answer.headers.values()]
        kinds = [kind for kind in kinds if kind is not None]
        schemas, self.components = make_schemas(kinds)
        self._by_id = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}

    def of(self, kind: Any) -> dict[str, Any]:
        return self._by_id[id(kind)]

    def answer(self, answer: Answer) -> dict[str, Any]:
        headers = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
        headers |= {name: self.header(header) for name, header in answer.headers.items()}
        shown: dict[str, Any] = {"description": answer.words, "headers": headers}
        if answer.contents:
            shown["content"] = self.contents(answer.contents)
        return shown

    def contents(self, contents: Sequence[Content]) -> dict[str, Any]:
        return {content.media_type: self._content(content) for content in contents}

    def _content(self, content: Content) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        if content.kind is not None:
            shown["schema"] = self.of(content.kind)
            if content.words:
                # A copy, because every content of a type shares one schema. Beside a `$ref` too, as OpenAPI 3.1 allows.
                shown["schema"] = {**shown["schema"], "description": content.words}
        if content.examples:
            shown["examples"] = {
                _slug(example.summary): {"summary": example.summary, "value": example.value}
                for example in content.examples
            }
        return shown

    def header(self, header: Header) -> dict[str, Any]:
        return {"description": header.words, "required": header.required, "schema": self.of(header.kind)}

    def parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = without_null(self.of(parameter.kind))
        shown = {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.words,
            "required": parameter.required,
            "schema": schema,
        }
        # "a,b", as the handlers split it. OpenAPI's default repeats the name for each value.
        if schema.get("type") == "array":
            shown |= {"style": "form", "explode": False}
        return shown if parameter.example is None else shown | {"example": parameter.example}


def _show(path: str, endpoint: Endpoint, operation: Operation, about: About, schemas: _Schemas) -> dict[str, Any]:
    own = {answer.status for answer in operation.answers}
    shared = {
        str(answer.status): {"$ref": f"#/components/responses/{_name(answer)}"}
        for answer in about.shared_by(endpoint)
        # An endpoint's own description of a status says more than the shared one.
        if answer.status not in own
    }
    answers = {str(answer.status): schemas.answer(answer) for answer in operation.answers}
    shown: dict[str, Any] = {
        # Method and path are unique together, as OpenAPI requires of the id.
        "operationId": _slug(f"{endpoint.method} {path}"),
        "tags": [operation.tag.name],
        "summary": operation.summary,
        "responses": dict(sorted((answers | shared).items())),
    }
    if operation.words:
        shown["description"] = operation.words
    if operation.parameters:
        shown["parameters"] = [schemas.parameter(each) for each in operation.parameters]
    if operation.bodies:
        shown["requestBody"] = {"required": operation.body_required, "content": schemas.contents(operation.bodies)}
    if endpoint.key != "none":
        # The empty requirement says that a request passes without a key.
        shown["security"] = [*([] if about.keyed else [{}]), *({name: []} for name in _SECURITY)]
    if operation.endless:
        # Read by the page, whose curl then shows the stream as it comes, and by the tests.
        shown["x-endless"] = True
    if operation.same_as:
        shown["x-same-as"] = operation.same_as
    return shown


def _name(answer: Answer) -> str:
    return f"Any{answer.status}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "root"
