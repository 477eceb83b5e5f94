"""The part of the events: takes events in over HTTP, keeps them in the journal and delivers them to sinks.

| file | idea |
|---|---|
| ``event``   | an event, a chunk of events, a batch |
| ``ack``     | the guarantee that a client waits for, and the outcome that it is told |
| ``sink``    | what a sink is, and how an installed one is found |
| ``decode``  | bytes to events, or to words about their faults |
| ``protocols`` | the ways in which clients write events |
| ``ingest``  | from a request to events in the engine, and to the answer |
| ``engine``  | from an accepted chunk to its outcome in every sink |
| ``settings`` | the settings of the events |
| ``part``    | the declaration of the part |
| ``opening`` | opens the part: the journal, the sinks, the engine |
| ``letters`` | the dead letters of events: an event as a letter and back, and how it is shown |
| ``configured_sinks`` | the sinks that SINKS names, with their settings |
| ``routes``  | the endpoints on HTTP_ADDR |
| ``side_routes`` | endpoints beside the data routes: pixels, settings of libraries, the handshake of CloudEvents |
| ``admin_routes`` | the endpoints on ADMIN_ADDR, and the sections of the dashboard, whose files are in ``panels`` |
| ``tap_routes``, ``rejected_routes`` | of these: live events; the latest rejected events |
"""
