"""OpenAPI 3.1 from the endpoints: ``/openapi.json`` and the page ``/docs`` that shows it, on each address.

| file | idea |
|---|---|
| ``pages``        | the endpoints of the document, of the page and of its parts |
| ``landing``      | the page for browsers at ``/`` of HTTP_ADDR |
| ``addresses``    | the document of each address, and the words at its head |
| ``operation``    | the types with which an endpoint is described |
| ``profiles``     | the operations of the profiles |
| ``document``     | from the endpoints of an address to the document |
| ``schemas``      | JSON Schemas of the types that decode and encode |

The pages are plain HTML, CSS and JavaScript in ``page/``.
A test fails if an endpoint is served without a description. Another test lets Schemathesis compare the document with
the answers of the service.
"""
