"""What the JavaScript SDKs of Segment and OpenTelemetry send, byte for byte, with an emoji that was cut in the middle.

Recorded from @segment/analytics-node 3.1.0 and @opentelemetry/exporter-logs-otlp-http 0.223.1 on Node 20. What the SDK
of CloudEvents sends is in `test_cloudevents`.
"""

from __future__ import annotations

import json

from tests.net.http.kit import Wire, post

SEGMENT = (
    rb'{"batch":[{"timestamp":"2026-11-30T22:41:30.706Z","integrations":{},"event":"E","type":"track","properties":{"t":'
    rb'"ok"},"context":{"library":{"name":"@segment/analytics-node","version":"3.1.0"}},"userId":"u","messageId":"node-n'
    rb'ext-1796078490706-8052dee7-2ae4-4079-9b89-c6fa9110b4fe","_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"}'
    rb'},{"timestamp":"2026-11-30T22:41:30.707Z","integrations":{},"event":"E","type":"track","properties":{"t":"x\ud83d'
    rb'"},"context":{"library":{"name":"@segment/analytics-node","version":"3.1.0"}},"userId":"u","messageId":"node-next'
    rb'-1796078490707-dee72ae4-c079-4b89-86fa-9110b4fe40ac","_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"}}],'
    rb'"writeKey":"k","sentAt":"2026-11-30T22:41:30.710Z"}'
)
OPENTELEMETRY = (
    rb'{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"unknown_service:node"}}'
    rb'],"droppedAttributesCount":0},"scopeLogs":[{"scope":{"name":"x"},"logRecords":[{"timeUnixNano":"17960784788710000'
    rb'00","observedTimeUnixNano":"1796078478871000000","severityNumber":9,"body":{"stringValue":"half \ud83d"},"attrib'
    rb'utes":[{"key":"k","value":{"intValue":2}}],"droppedAttributesCount":0},{"timeUnixNano":"1796078478871000000","obse'
    rb'rvedTimeUnixNano":"1796078478871000000","severityNumber":9,"body":{"kvlistValue":{"values":[{"key":"a","value":{"'
    rb'arrayValue":{"values":[{"intValue":1},{"doubleValue":2.5},{"boolValue":true},{}]}}}]}},"attributes":[{"key":"k","'
    rb'value":{"intValue":2}},{"key":"big","value":{"intValue":9007199254740992}},{"key":"neg","value":{"intValue":-1}},'
    rb'{"key":"u","value":{"bytesValue":"AQI="}},{"key":"n","value":{"doubleValue":null}}],"droppedAttributesCount":0}]}'
    rb"]}]}"
)


def test_segments_library_loses_the_cut_message_only() -> None:
    wire = Wire(event_types=("*",), keys=["k"])
    (answer,) = wire.feed(
        post(SEGMENT, b"Content-Type: application/json", b"Authorization: Basic azo=", path=b"/v1/batch")
    )
    assert (answer.status, answer.json["accepted"], len(answer.json["rejected"])) == (200, 1, 1)
    assert wire.intake.ids == ["node-next-1796078490706-8052dee7-2ae4-4079-9b89-c6fa9110b4fe"]


def test_opentelemetrys_exporter_loses_the_cut_record_only() -> None:
    wire = Wire(event_types=("*",))
    (answer,) = wire.feed(post(OPENTELEMETRY, b"Content-Type: application/json", path=b"/v1/logs"))
    assert (answer.status, answer.json["partialSuccess"]["rejectedLogRecords"]) == (200, "1")
    (taken,) = wire.intake.taken
    payload = json.loads(bytes(taken.payload))
    assert payload["body"] == {"a": [1, 2.5, True, None]}
    assert payload["attributes"] == {"k": 2, "big": 2**53, "neg": -1, "u": "AQI=", "n": None}
