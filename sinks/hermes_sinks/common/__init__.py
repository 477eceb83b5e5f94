"""Shares code between built-in sinks: lines of JSON, writing to disks, slices, the search for refused events.

Invariants: no module here knows a sink; no module here is an interface for plugins of other authors.
"""
