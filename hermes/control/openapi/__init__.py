"""OpenAPI 3.1 from the code: ``/openapi.json`` and the page ``/docs`` that shows it, on each address.

| file | idea |
|---|---|
| ``pages``      | the routes: the document, the page and its parts, for either app |
| ``landing``    | what a browser sees at ``/`` where events come in |
| ``addresses``  | what each address says about itself, and the declarations of its routes |
| ``data``       | what the declarations of all data routes share |
| ``events``     | declarations: ``POST /events`` |
| ``segment``    | declarations: Segment's HTTP API |
| ``otlp``       | declarations: OpenTelemetry logs |
| ``service``    | declarations: health, metrics, aggregates, debugging, this |
| ``operations`` | declarations: the admin address |
| ``example``    | an event for examples |
| ``operation``  | the words in which a route is declared |
| ``document``   | from the routes of an app and their declarations to the document |
| ``schemas``    | JSON Schemas of the types that decode and encode |
| ``page/``      | plain HTML, CSS and JavaScript |

A test fails where an app has a route without a declaration, or a declaration has no route; another has Schemathesis
compare the document with what the service answers.
"""
