"""How bytes get in and out: the two HTTP lanes, the addresses that they listen on, and requests to other servers.

- ``http/``: the fast lane, our own HTTP/1.1 for data routes
- ``control/``: the control lane, Quart on Hypercorn for everything else; the OpenAPI documents; the dashboard's shell
- ``edge``, ``admin``, ``edges``: HTTP_ADDR, ADMIN_ADDR, and both of them opened over the parts
- ``settings``: the settings of both addresses, of the keys and the certificate
- ``listen``, ``certificate``, ``descriptors``: listening sockets; TLS certificates; the limit of descriptors
- ``outgoing``: requests to one other server
"""
