"""The fast lane: our own HTTP/1.1 for the few data routes, one Trio task over an epoll of all its connections.

| file | idea |
|---|---|
| ``head``       | what one request's head says, parsed strictly by httptools, remembered for the next like it |
| ``chunked``    | the chunked transfer coding, sans-IO |
| ``content``    | gzip, deflate and zstd bodies, never larger than the limit |
| ``content_error``, ``extra_codings`` | its errors; br, lz4 and snappy, where their libraries are installed |
| ``response``   | responses as ready bytes; problem details |
| ``pending``    | a response that a commit, room, or a delivery gives later |
| ``lane``       | what all connections share |
| ``connection`` | one connection, sans-IO: bytes in, slots out, in order |
| ``reactor``    | the one task that owns the sockets |
| ``stream``     | the same connection object under TLS, a task each |
| ``accepting``  | streams are accepted while there is room, whatever accept(2) says |
| ``ingest``     | the data routes: keys, codings, room and answers, the same for every protocol |
| ``pieces``     | a large body decoded piece by piece, as a generator |
| ``work``       | the turns that large requests take |
| ``format``     | what a protocol says of itself to them |
| ``keys``       | the keys that a client has to know one of |
| ``ids``        | ids for events that come without one, new or from an ``Idempotency-Key`` |
"""
