"""Describes the data routes in OpenAPI, beside the protocols that serve them.

| file | idea |
|---|---|
| ``data``    | the headers and answers that all data routes share |
| ``events``  | ``POST /events`` |
| ``segment`` | Segment's HTTP API |
| ``otlp``    | OpenTelemetry logs |
| ``example`` | an event for examples |

Imported when a document is first asked for: the types cost some milliseconds that a start does not have to wait for.
"""
