"""Describes ``POST /v1/logs``: OpenTelemetry logs over OTLP/HTTP."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from hermes.events.protocols.openapi import data
from hermes.events.protocols.openapi.example import example_type
from hermes.events.protocols.otlp_answers import PROTOBUF
from hermes.net.control.openapi.operation import JSON, Answer, Content, Example, Operation, Tag

TAG = Tag(
    "OpenTelemetry",
    "OpenTelemetry logs over OTLP/HTTP: set OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to `/v1/logs` at this address.",
)


Whole = int | float | str | None
"""A whole number, which protobuf's JSON mapping lets be written as a string, or with a point or an exponent."""


# Every member of the shapes below may be null, which protobuf's JSON mapping reads as the member's default.
class AnyValue(msgspec.Struct, rename="camel"):
    """A value: one of these members."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Whole = None
    double_value: Whole = None
    """A number, or NaN, Infinity or -Infinity as a string."""
    bytes_value: str | None = None
    """In base64."""
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None


class ArrayValue(msgspec.Struct):
    """Values in their order."""

    values: list[AnyValue] | None = None


class KeyValue(msgspec.Struct):
    """An attribute."""

    key: str | None = None
    value: AnyValue | None = None


class KeyValueList(msgspec.Struct):
    """Values by name."""

    values: list[KeyValue] | None = None


class LogRecord(msgspec.Struct, rename="camel"):
    """One event. A wrong record is rejected, and the others are taken."""

    time_unix_nano: Whole = None
    observed_time_unix_nano: Whole = None
    severity_number: Whole = None
    """A number, or a name such as SEVERITY_NUMBER_INFO."""
    severity_text: str | None = None
    event_name: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: Whole = None
    flags: Whole = None
    trace_id: str | None = None
    """In hexadecimal, or in base64."""
    span_id: str | None = None


class Resource(msgspec.Struct, rename="camel"):
    """The source of the records, such as a service."""

    attributes: list[KeyValue] | None = None
    dropped_attributes_count: Whole = None


class InstrumentationScope(Resource, rename="camel"):
    """The library that made the records."""

    name: str | None = None
    version: str | None = None


class ScopeLogs(msgspec.Struct, rename="camel"):
    """Records of one scope."""

    scope: InstrumentationScope | None = None
    log_records: list[LogRecord] | None = None
    schema_url: str | None = None


class ResourceLogs(msgspec.Struct, rename="camel"):
    """Records of one resource."""

    resource: Resource | None = None
    scope_logs: list[ScopeLogs] | None = None
    schema_url: str | None = None


class ExportLogsServiceRequest(msgspec.Struct, rename="camel"):
    """Log records by resource and scope, in OTLP's JSON encoding."""

    resource_logs: list[ResourceLogs] | None = None


class LogsPartialSuccess(msgspec.Struct, rename="camel"):
    """The rejected records of a request that was taken, or advice for its client."""

    # A 64-bit number, which protobuf's JSON mapping writes as a string.
    rejected_log_records: str
    """The number of records; "0" if all were taken, though some members have names that OTLP's JSON has not."""
    error_message: str


class ExportLogsServiceResponse(msgspec.Struct, rename="camel"):
    """The records were taken, all but the rejected ones."""

    partial_success: LogsPartialSuccess | UnsetType = UNSET


class Status(msgspec.Struct):
    """An error as a `google.rpc.Status`."""

    code: int
    message: str


def declare_otlp(event_types: Sequence[str]) -> Operation:
    """Return the operation; ``event_types`` are the types that EVENT_TYPES allows."""
    kind = example_type(event_types)
    record = {
        "timeUnixNano": "1700000000000000000",
        "eventName": kind,
        "severityText": "INFO",
        "body": {"stringValue": "Alive"},
        "attributes": [{"key": "user.id", "value": {"stringValue": "ann"}}],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "player"}}]}
    logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    taken = (Content(JSON, ExportLogsServiceResponse, (Example("All were valid", {}),)), Content(PROTOBUF))
    error = (Content(JSON, Status), Content(PROTOBUF))
    return Operation(
        TAG,
        "Send log records",
        "In JSON or in protobuf, which needs the extra `otlp`. Each record is an event; answers are in the encoding of "
        "the request.",
        data.HEADERS,
        (Content(JSON, ExportLogsServiceRequest, (Example("A log record", logs),)), Content(PROTOBUF)),
        answers=(
            Answer(200, "The records were taken, all but the rejected ones.", taken),
            Answer(400, "The request is malformed, or no record of it is valid.", (*error, data.DETAILS)),
            *data.declare_refusals(*error, lane=data.DETAILS),
        ),
    )
