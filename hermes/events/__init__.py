"""Events: the part that takes them in over HTTP, keeps them in the journal and delivers them to sinks.

- ``part``: the declaration of the part, and how it is opened
- ``routes``: its endpoints on HTTP_ADDR

The engine is in `hermes.engine`, the protocols of clients are in `hermes.protocols`.
"""
