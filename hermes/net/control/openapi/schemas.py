"""JSON Schemas of the types that really decode and encode, with the docstrings of their members.

Invariant: a schema is msgspec's own, but for the end of a pattern, which JSON Schema writes in another way, and the
name of a type that is private to its module. Pure.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any

import msgspec

_REF = "#/components/schemas/{name}"


def make_schemas(kinds: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A schema for each type, and the components to which these schemas refer, by name.

    >>> make_schemas([int, list[str]])[0]
    [{'type': 'integer'}, {'type': 'array', 'items': {'type': 'string'}}]
    """
    listed = list(kinds)
    found, components = msgspec.json.schema_components(listed, ref_template=_REF)
    words = _collect_words(listed)
    for name, schema in components.items():
        if "description" in schema:
            schema["description"] = to_markdown(schema["description"])
        for member, text in words.get(name, {}).items():
            schema["properties"][member] = _describe(schema["properties"][member], text)
    return [_mend(schema) for schema in found], {name.lstrip("_"): _mend(each) for name, each in components.items()}


def restate(kind: type[msgspec.Struct], name: str, words: str, **members: tuple[Any, ...]) -> Any:
    """The struct ``kind`` with other types, and maybe defaults, for members that ``kind`` keeps as raw JSON.

    >>> Shown = restate(msgspec.defstruct("Event", [("payload", msgspec.Raw)]), "Shown", "", payload=(dict[str, Any],))
    >>> make_schemas([Shown])[1]["Shown"]["properties"]["payload"]
    {'type': 'object'}
    """
    fields: list[Any] = [(member, *given) for member, given in members.items()]
    return msgspec.defstruct(name, fields, bases=(kind,), namespace={"__doc__": words})


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which is left out where a member of JSON would be null."""
    kept = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    others = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return kept | (others[0] if len(others) == 1 else {"anyOf": others} if others else {})


def to_markdown(text: str) -> str:
    """A docstring as CommonMark: paragraphs on one line each, names in single backticks.

    >>> to_markdown("The name in ``SINKS``.")
    'The name in `SINKS`.'
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("``", "`")


def _describe(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return schema if "description" in schema else {**schema, "description": to_markdown(text)}


def _mend(value: Any) -> Any:
    """The value in JSON Schema's own notation, at every depth."""
    if isinstance(value, dict):
        return {name: _mend_member(name, member) for name, member in value.items()}
    return [_mend(each) for each in value] if isinstance(value, list) else value


def _mend_member(name: str, value: Any) -> Any:
    if name == "pattern" and isinstance(value, str):
        # Python's end of the text, for which ECMAScript has no other sign.
        return value.replace(r"\Z", "$")
    # The underscore of a type that is private to its module says nothing to a client.
    if name == "$ref":
        return value.replace("/_", "/")
    if name == "title" and isinstance(value, str):
        return value.lstrip("_")
    return _mend(value)


def _collect_words(kinds: Iterable[Any]) -> dict[str, dict[str, str]]:
    """The docstrings of members, by the names of their types and of the members."""
    found: dict[str, dict[str, str]] = {}

    def visit(info: Any) -> None:
        if isinstance(info, list | tuple):
            for each in info:
                visit(each)
        elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
            kind = getattr(info, "cls", None)
            if kind is not None:
                # A type that leads to itself would be visited for ever.
                if kind.__name__ in found:
                    return
                found[kind.__name__] = _read_words(kind)
            for name in info.__struct_fields__:
                visit(getattr(info, name))

    visit(msgspec.inspect.multi_type_info(kinds))
    return found


def _read_words(kind: type) -> dict[str, str]:
    """The docstrings of the members of a type and of its bases: a string that follows a member."""
    words: dict[str, str] = {}
    # From the bases to the type: the type's own words about a member win.
    for base in reversed(kind.__mro__):
        if not (is_dataclass(base) or issubclass(base, msgspec.Struct)) or base is msgspec.Struct:
            continue
        try:
            # Python keeps no docstring of a member: only the source has it.
            source = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):
            continue  # it was made at run time
        assert isinstance(source, ast.ClassDef)  # noqa: S101 - it is the source of a class
        for member, after in zip(source.body, source.body[1:], strict=False):
            match member, after:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    words[name] = text
    if issubclass(kind, msgspec.Struct):
        # A member may have another name in JSON.
        in_json = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        return {in_json[name]: text for name, text in words.items()}
    return words
