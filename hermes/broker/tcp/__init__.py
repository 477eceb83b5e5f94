"""The broker's connections.

| file | its idea |
|---|---|
| ``server`` | accepts connections, bounds how many, ends them in order |
| ``connection`` | one connection: reads requests, sends answers in their order |
| ``requests`` | checks each request, and makes a command of the request |
| ``slots`` | the answers that a connection owes |
| ``slot_outcome`` | the outcome of a poll, as an answer |
| ``subscription`` | one Subscribe: pushes messages, takes acks |
| ``window`` | which messages a subscription has out, and which lease an ack means |
| ``replies`` | the responses, as frames |
"""
