"""What ``POST /v1/logs`` declares: OpenTelemetry logs over OTLP/HTTP.

Called when the document of the address where events come in is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from hermes.control.openapi import data
from hermes.control.openapi.example import example_type
from hermes.control.openapi.operation import (
    JSON,
    PROBLEM,
    RETRY_AFTER,
    Answer,
    Content,
    Example,
    Operation,
    Problem,
)
from hermes.protocols.otlp import PATH
from hermes.protocols.otlp_answers import PROTOBUF
from hermes.protocols.otlp_json import ExportRequest

TAG = "OpenTelemetry"
WORDS = "OpenTelemetry logs over OTLP/HTTP: set OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to `/v1/logs` at this address."


class ExportLogsServiceRequest(ExportRequest, rename="camel"):
    """Log records by resource and scope, in OTLP's JSON encoding."""


class LogsPartialSuccess(msgspec.Struct, rename="camel"):
    """What was rejected of a request that was taken."""

    rejected_log_records: str
    error_message: str


class ExportLogsServiceResponse(msgspec.Struct, rename="camel"):
    """The records were taken, all but the rejected ones."""

    partial_success: LogsPartialSuccess | UnsetType = UNSET


class Status(msgspec.Struct):
    """An error as a `google.rpc.Status`."""

    code: int
    message: str


def declare_otlp(event_types: Sequence[str]) -> Operation:
    """The operation; ``event_types`` is what EVENT_TYPES allows."""
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
    details = Content(PROBLEM, Problem)
    return Operation(
        "POST",
        PATH,
        TAG,
        "Send log records",
        "In JSON or in protobuf, which needs the extra `otlp`. Each record is an event; answers are in the encoding of "
        "the request.",
        data.HEADERS,
        (Content(JSON, ExportLogsServiceRequest, (Example("A log record", logs),)), Content(PROTOBUF)),
        answers=(
            Answer(200, "The records were taken, all but the rejected ones.", taken),
            Answer(400, "The request is malformed, or no record of it is valid.", (*error, details)),
            Answer(401, data.NO_KEY, error, data.CHALLENGE),
            data.NO_LENGTH,
            Answer(413, data.TOO_LARGE, (*error, details)),
            Answer(415, "The Content-Type or the Content-Encoding is not taken.", error, data.NO_CODING),
            Answer(422, data.REFUSED, error),
            Answer(503, data.NO_ROOM, (*error, details), RETRY_AFTER),
            Answer(504, data.TOO_LATE, error),
        ),
        secured=True,
    )
