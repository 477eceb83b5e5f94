"""The control lane: Quart-Trio apps under Hypercorn, for every request that is not a data route's.

| file | idea |
|---|---|
| ``endpoint``     | one declaration of a route; the type of requests and answers |
| ``app``          | the Quart app of an address, built from its endpoints |
| ``frame``        | the start of both apps: request ids, problem details, bugs |
| ``reply``        | between Quart's requests and responses and ours |
| ``guard``        | refuses requests that Quart cannot read |
| ``server``       | the connections that the fast lane hands over, driven by Hypercorn and contained |
| ``bounded_connection`` | one connection as Hypercorn sees it, bounded in time |
| ``answering``    | the requests of one connection in progress, and the moment when the client stops sending |
| ``places``       | a bound on the connections; the idlest gives way to a newcomer |
| ``admin``        | judges the requests to the admin address |
| ``origin``       | whether a page of another origin asks |
| ``data_routes``  | a data route over HTTP/2 or under an odd path |
| ``service``      | endpoints: health, readiness, metrics, the index |
| ``debugging``    | endpoints: accounts and profiles |
| ``live``         | endpoints: the status, once or every second |
| ``panel``        | a section of the dashboard, as a part declares it |
| ``dashboard``    | endpoints: the page for operators |
| ``openapi``      | the description of either address, and its page |
| ``files``        | files of web pages |
"""
