"""The protocols that clients speak to the data routes: what each sends, as events. No network, no clock of its own.

| file | idea |
|---|---|
| ``routes``         | all data routes, wired to an intake |
| ``events``         | ``POST /events``: Hermes's own events, and CloudEvents by their media types |
| ``cloudevents``    | CloudEvents 1.0 in the binary, structured and batch modes of the HTTP binding |
| ``segment``        | Segment's HTTP API, as its libraries and RudderStack's speak it |
| ``segment_request`` | one request of it: what it says for all of its messages, and its key |
| ``segment_answers`` | its answers, and what its libraries ask for beside sending |
| ``otlp``           | OpenTelemetry logs: the route, and a record as an event |
| ``otlp_json``      | their JSON encoding: the groups of records |
| ``otlp_json_record`` | a record in it, in every form that protobuf's JSON mapping allows |
| ``otlp_protobuf``  | their protobuf encoding; the only file that imports OpenTelemetry |
| ``otlp_json_usual``  | the same for the form that exporters usually send, faster |
| ``otlp_pieces``    | a large request in protobuf, cut into small ones |
| ``otlp_answers``   | their responses and errors, in either encoding |
| ``otlp_record``    | a log record between them and the payload of an event |
| ``messages``       | JSON messages to events: the fast way over a whole body, the slow one that explains |
| ``mapping``        | names to types, identifiers of any length, times: the rules that all of these share |

How each field of an event is made is documented in ``docs/reference/protocols.md``, whose examples are tests.
"""
