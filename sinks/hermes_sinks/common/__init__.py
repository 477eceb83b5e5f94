"""What several built-in sinks share: lines of JSON, folders and files, an HTTP client, the search for refused events.

Invariant: no module here knows a sink. Nothing of it is an interface for plugins of others.
"""
