"""The fast lane: our own HTTP/1.1 for the data routes of every part, one Trio task over an epoll of its connections.

The lane knows no part. A route is a plain function from a parsed request to a response, or to a ticket that a later
moment answers.

| file | idea |
|---|---|
| ``head``       | the head of one request, parsed strictly by httptools, remembered for the next equal one |
| ``chunked``    | the chunked transfer coding, sans-IO |
| ``content``    | gzip, deflate and zstd bodies, never larger than the limit |
| ``content_error``, ``extra_codings`` | the errors of codings; br, lz4 and snappy, if their libraries are installed |
| ``response``   | responses as ready bytes; problem details |
| ``pending``    | the ticket for a response that a later moment gives |
| ``lane``       | the state that all connections of an address share |
| ``connection`` | one connection, sans-IO: bytes in, slots out, in order |
| ``phase``      | the phases of a connection, as one table |
| ``body``       | a body that comes in several parts, within its bounds |
| ``reactor``    | the one task that owns the sockets |
| ``peer``       | one socket of the reactor: its interest and its deadline |
| ``polled``     | the reactor's listening sockets |
| ``stream``     | the same connection object under TLS, a task each |
| ``accepting``  | accepts streams while there is room |
| ``work``       | large requests decoded in turns, a few milliseconds each |
| ``traced_routes`` | data routes with a span around each request that is traced |
| ``refusal_log``, ``rejected_feed`` | the log lines about refused requests; the latest rejected items, for operators |
| ``rejection``  | one refused item of a request |
| ``request_metrics`` | the durations of requests |
| ``keys``, ``access`` | the keys that clients have to know, which can change while the service runs |
| ``cors``       | the pages of other origins that may post |
| ``ingress``    | the state that all data routes share |
"""
