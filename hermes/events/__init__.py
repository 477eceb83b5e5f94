"""The part of the events: takes events in over HTTP, keeps them in the journal and delivers them to sinks.

- ``part``: the declaration of the part
- ``opening``: opens the part
- ``routes``: the part's endpoints on HTTP_ADDR
- ``operators``: the part's endpoints on ADMIN_ADDR and sections of the dashboard, whose files are in ``panels``
- ``control_routes``: endpoints beside the data routes: pixels, settings of libraries, the handshake of CloudEvents
- ``tap``: live events over HTTP
- ``rejected``: the latest rejected events over HTTP

The engine is in `hermes.events.engine`, the protocols of clients are in `hermes.events.protocols`.
"""
