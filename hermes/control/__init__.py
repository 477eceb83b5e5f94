"""The control lane: Quart-Trio apps under Hypercorn, for everything that is not the data's own road.

| file | idea |
|---|---|
| ``server``       | the connections that the fast lane hands over, driven by Hypercorn and contained |
| ``replay``       | one connection as Hypercorn sees it, bounded in time |
| ``answering``    | the requests of one connection that are being answered, and the end of what its client sends |
| ``places``       | at most so many connections; the idlest gives way to a newcomer |
| ``guard``        | refuses requests that Quart could not read |
| ``frame``        | what the apps have in common: request ids, problem details, bugs |
| ``app``          | the routes where events come in: health, metrics, aggregates, and the data routes over HTTP/2 |
| ``segment``      | what browsers and libraries of Segment and RudderStack ask for by GET |
| ``webhook``      | the handshake of CloudEvents |
| ``origin``       | whether a page of another origin asks |
| ``admin``        | the routes of the admin address, and who may use them |
| ``dead_letters`` | the routes of the dead letters |
| ``live``         | the status, once or every second |
| ``tap``          | events while they go by |
| ``rejected``     | the latest rejected events |
| ``dashboard``    | the page for operators |
| ``openapi``      | the description of either address, and its page |
| ``files``        | files of web pages |
| ``reply``        | between Quart's requests and responses and ours |
"""
