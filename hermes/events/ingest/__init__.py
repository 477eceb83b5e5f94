"""The events' side of HTTP: from a parsed request to events in the intake, and to the answer.

| module | contents |
|---|---|
| ``route``   | `Ingest`: the data routes of one protocol, with keys, codings, acknowledgements and room |
| ``request`` | `EventRequest`: one request head as the decoders of the protocols see it |
| ``ticket``  | `EventTicket`: the response that an outcome of the events gives later |
| ``refusal`` | the answers to requests of which nothing was taken, and their counts |
| ``refusal_counts`` | `RefusalCounts`: refused events by reason, and their metric |
| ``format``  | the interface of a protocol: how to read a body, how to answer |
| ``pieces``  | decodes a large body piece by piece, as a generator |
| ``ids``     | ids for events that come without an id, new or from an ``Idempotency-Key`` |

The protocols themselves are in `hermes.events.protocols`. The part lends the intake.
"""
