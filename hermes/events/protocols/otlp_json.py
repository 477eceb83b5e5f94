"""Reads the JSON encoding of OTLP logs: a body becomes groups of records. Pure.

This module reads the three outer levels, and a record when the caller asks for the record. A fault in a record rejects
that record; a fault in a resource or scope rejects its records. Names may also be those of the .proto file or of
releases before 1.0; the client then gets a note. Invariants: no input raises anything but `BadBody`; a body of objects
too small for log records is not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, ValidationError

from hermes.base.json.cut import Cutter, Pieces
from hermes.base.json.elements import split_object
from hermes.base.json.rules import UNDECODABLE, BadBody, describe_error, find_elements, is_sparse, without_mark
from hermes.base.json.wrong_types import kind_of
from hermes.events.protocols.otlp_json_record import Notes, read_described, read_record, read_schema_url
from hermes.events.protocols.otlp_json_usual import read_usual
from hermes.events.protocols.otlp_record import MAX_PART, MAX_SHARED, MAX_VALUES, Group, Record, present

# The bound on tiny objects: each takes some hundred bytes of memory, and a body of nothing else would fill the memory.
_FREE_BYTES = 2**20
_BYTES_AN_OBJECT = 8
_ABSENT = Raw()
_OUTER = "the resource or scope of this record: "


class _Level(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """An outer message with undecoded members."""

    # An unknown name makes the fast decoder fail, and `_reader` then compares the names one by one.


class _Request(_Level):
    resource_logs: Raw = _ABSENT


class _ResourceLogs(_Level):
    scope_logs: Raw = _ABSENT
    resource: Raw = _ABSENT
    schema_url: Raw = _ABSENT


class _ScopeLogs(_Level):
    log_records: Raw = _ABSENT
    scope: Raw = _ABSENT
    schema_url: Raw = _ABSENT


class _UsualScopeLogs(_Level):
    log_records: list[Raw]
    scope: Raw = _ABSENT
    schema_url: Raw = _ABSENT


class _UsualResourceLogs(_Level):
    scope_logs: list[_UsualScopeLogs]
    resource: Raw = _ABSENT
    schema_url: Raw = _ABSENT


class _UsualRequest(_Level):
    resource_logs: list[_UsualResourceLogs]


_decode_usual = msgspec.json.Decoder(_UsualRequest).decode

# The names before OTLP 1.0, and those of the .proto file.
_OTHER_NAMES = {
    "instrumentationLibraryLogs": "scope_logs",
    "instrumentation_library_logs": "scope_logs",
    "instrumentationLibrary": "scope",
    "instrumentation_library": "scope",
    "logs": "log_records",
}

_L = TypeVar("_L", bound=_Level)


def _reader(level: type[_L]) -> Callable[[Raw | bytes, Notes], _L]:
    decode = msgspec.json.Decoder(level).decode
    fields = level.__struct_fields__
    names = dict(zip(level.__struct_encode_fields__, fields, strict=True))
    others = {name: name for name in fields if "_" in name} | {
        name: field for name, field in _OTHER_NAMES.items() if field in fields
    }

    def read(text: Raw | bytes, notes: Notes) -> _L:
        """Return the message. Raises one of `UNDECODABLE` if the text is no object."""
        try:
            return decode(text)
        except UNDECODABLE:
            pass
        # The slow way: a member has another name.
        found: dict[str, Raw] = {}
        unknown = ""
        for quoted, value in split_object(bytes(text)):
            # latin-1 fails for no bytes, and the known names are ASCII. UTF-8 is judged later, with words of its own.
            name = quoted[1:-1].decode("latin-1")
            field = names.get(name) or others.get(name)
            # Protobuf's JSON mapping lets a reader skip unknown members, so only the note mentions them.
            if field is None:
                # Cut off: the client chooses the name, and the answer repeats it.
                unknown = unknown or name[:64]
                continue
            found[field] = Raw(value)
            if name in others:
                notes.old = notes.old or name
        # The first field of each level leads to the records: if that field is there, unknown members hide no records.
        if fields[0] not in found:
            notes.unread = notes.unread or unknown
        return level(**found)

    return read


_read_request, _read_resource_logs, _read_scope_logs = _reader(_Request), _reader(_ResourceLogs), _reader(_ScopeLogs)


def read_json(body: bytes, notes: Notes) -> Iterator[Group]:
    """Yield the groups of records in an ``ExportLogsServiceRequest``. Each step may raise `BadBody`."""
    if len(body) > _FREE_BYTES and body.count(b"{") * _BYTES_AN_OBJECT > len(body):
        raise BadBody("the body has too many tiny objects for log records: send it in parts of 1 MiB")
    body = without_mark(body)
    if is_sparse(body):
        try:
            # Only for a sparse body: this decoder holds the texts of all records at once.
            # All levels in one pass over the body, which for each level by itself would take as long again.
            usual = _decode_usual(body)
        except UNDECODABLE:
            pass
        else:
            yield from _read_usual_groups(usual, notes)
            return
    try:
        request = _read_request(body, notes)
        if notes.unread:
            # A body that is no UTF-8 gets the error for that, and no note on member names.
            body.decode()
        for each in _elements(request.resource_logs, "resourceLogs"):
            yield from _read_groups(each, notes)
    except UNDECODABLE as error:
        raise BadBody(describe_error(error, body, "")) from None


def _read_usual_groups(request: _UsualRequest, notes: Notes) -> Iterator[Group]:
    for level in request.resource_logs:
        resource, wrong = _describe(level.resource, level.schema_url, notes)
        for inner in level.scope_logs:
            scope, wrong_scope = _describe(inner.scope, inner.schema_url, notes)
            yield Group(resource, scope, _read_each(inner.log_records, wrong or wrong_scope, notes))


_PATH = (
    ("resourceLogs", "resource_logs"),
    ("scopeLogs", "scope_logs", "instrumentationLibraryLogs", "instrumentation_library_logs"),
    ("logRecords", "log_records", "logs"),
)


def cut_requests(body: bytes, size: int) -> Pieces:
    """Cut a large request into requests of about ``size`` bytes, each with its resource and scope. Raises `BadBody`."""
    cutter = Cutter(size, most_shared=MAX_SHARED, most_element=MAX_PART, most_objects=MAX_VALUES)
    return cutter.cut_along(body, _PATH)


def _read_groups(text: Raw, notes: Notes) -> Iterator[Group]:
    """Yield the groups of one resource. An invalid resource message becomes one rejected record."""
    try:
        level = _read_resource_logs(text, notes)
        resource, wrong = _describe(level.resource, level.schema_url, notes)
        for each in _elements(level.scope_logs, "scopeLogs"):
            inner = _read_scope_logs(each, notes)
            scope, wrong_scope = _describe(inner.scope, inner.schema_url, notes)
            yield Group(resource, scope, _read_records(inner.log_records, wrong or wrong_scope, notes))
    except (BadBody, *UNDECODABLE) as error:
        # As one record, so that the client is told, and the other resources are read.
        yield Group({}, {}, (_as_rejection(error, text),))


def _describe(text: Raw, schema_url: Raw, notes: Notes) -> tuple[dict[str, Any], ValidationError | None]:
    """Return the members of a resource or a scope, and the error for its records if the message is invalid."""
    try:
        return present(**read_described(text, notes), schemaUrl=read_schema_url(schema_url)), None
    except UNDECODABLE as error:
        return {}, _as_rejection(error, text, _OUTER)


def _read_records(texts: Raw, wrong: ValidationError | None, notes: Notes) -> Iterator[Record | ValidationError]:
    try:
        yield from _read_each(_elements(texts, "logRecords"), wrong, notes)
    except (BadBody, ValidationError) as error:
        # The records cannot be told apart, so one rejection stands for all.
        yield _as_rejection(error, texts)


def _read_each(texts: Iterable[Raw], wrong: ValidationError | None, notes: Notes) -> Iterator[Record | ValidationError]:
    for text in texts:
        yield wrong or _read_record(text, notes)


def _read_record(text: Raw, notes: Notes) -> Record | ValidationError:
    try:
        # The fast form first: nearly every record of a known exporter has it.
        return read_usual(text) or read_record(text, notes)
    except UNDECODABLE as error:
        return _as_rejection(error, text)


def _as_rejection(error: Exception, text: Raw, where: str = "") -> ValidationError:
    words = str(error) if isinstance(error, BadBody | ValidationError) else describe_error(error, bytes(text), "")
    return ValidationError(where + words)


def _elements(text: Raw, name: str) -> Iterable[Raw]:
    data = bytes(text)
    # Protobuf's JSON mapping reads null as the default, which is an empty list.
    if not data or data == b"null":
        return ()
    if data[:1] != b"[":
        raise ValidationError(f"Expected `array`, got `{kind_of(data)}` - at `$.{name}`")
    return find_elements(data)
