"""The broker over HTTP and JSON: all that its protocol on the wire has, and what goes beyond it.

| file | its idea |
|---|---|
| ``data`` | the endpoints of HTTP_ADDR: produce, poll, ack, nack, extend, forward, peek |
| ``operating`` | the endpoints of ADMIN_ADDR: topics, groups, leases, why; pause, limits, delete |
| ``bodies`` | the JSON that clients send, checked |
| ``views`` | the JSON that they get |
| ``polls`` | polls that wait for messages, or for the end of the service |
| ``calls`` | commands, awaited, and the checks before them |
| ``failures`` | each failure as problem details |
| ``openapi`` | the endpoints in the documents |
"""
