"""How bytes get in and out: the two HTTP lanes, the addresses that they listen on, and requests to other servers.

- ``http/``: the fast lane, our own HTTP/1.1 for data routes
- ``control/``: the control lane, Quart on Hypercorn for everything else; the OpenAPI documents; the dashboard's shell
- ``settings``: the settings of both addresses, of the keys and the certificate
- ``http_edge``, ``admin_edge``, ``edges``: HTTP_ADDR, ADMIN_ADDR, and both of them opened over the parts
- ``listen``, ``tls``, ``descriptors``: listening sockets; TLS and its certificate; the limit of descriptors
- ``status``: the status of the service, from its own facts and the parts'
- ``outgoing``: requests to one other server
"""
