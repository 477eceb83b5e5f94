"""The control lane: a Quart-Trio app under Hypercorn, for everything that is not the data's own road.

| file | idea |
|---|---|
| ``server``       | a connection that the fast lane hands over, driven by Hypercorn and contained |
| ``app``          | the routes: health, metrics, aggregates, debugging, and ``POST /events`` over HTTP/2 |
| ``dead_letters`` | the routes of the dead letters |
| ``reply``        | between Quart's requests and responses and ours |
"""
