"""The control lane: a Quart-Trio app under Hypercorn, for everything that is not the data's own road.

| file | idea |
|---|---|
| ``server`` | a connection that the fast lane hands over, driven by Hypercorn and contained |
| ``app``    | the routes: health, metrics, aggregates, debugging, and ``POST /events`` over HTTP/2 |
"""
