"""Turns the requests of each client protocol into events. No network, no clock of its own.

| file | idea |
|---|---|
| ``routes``         | all data routes, connected to an intake |
| ``post_events``    | ``POST /events``: Hermes's own events, and CloudEvents by their media types |
| ``cloudevents``    | CloudEvents 1.0 in the binary, structured and batch modes of the HTTP binding |
| ``webhook_handshake`` | CloudEvents' handshake before the first event |
| ``segment``        | Segment's HTTP API, as its libraries and RudderStack's speak it |
| ``segment_request`` | one request of Segment's API: its members, the shared ones, its key |
| ``segment_answers`` | the answers to Segment's libraries, also to their requests for a configuration |
| ``otlp``           | OpenTelemetry logs: the route, and a record as an event |
| ``otlp_json``      | OTLP's JSON encoding: the groups of records |
| ``otlp_json_record`` | a record in JSON, in every form that protobuf's JSON mapping allows |
| ``otlp_protobuf``  | OTLP's protobuf encoding; the only file that imports OpenTelemetry |
| ``otlp_json_usual``  | a record in JSON, in the form that exporters usually send, faster |
| ``otlp_pieces``    | a large request in protobuf, cut into small ones |
| ``otlp_answers``   | OTLP's responses and errors, in either encoding |
| ``otlp_record``    | a log record as both encodings give it, and its payload |
| ``messages``       | JSON messages to events, one by one |
| ``cloudevents_pieces`` | a large CloudEvent in binary mode, judged and encoded in slices |
| ``openapi``        | the OpenAPI operations of the data routes |
| ``mapping``        | names to types, identifiers of any length, times: the rules that the protocols share |

How each field of an event is made is documented in ``docs/reference/protocols.md``, whose examples are tests.
"""
