"""Shares code between built-in sinks: lines of JSON, writing to disks, slices, the search for refused events.

- ``lines``, ``each_line``: events as lines of JSON, in one piece or each by itself
- ``parts``: a batch in parts, and the search for refused events
- ``slices``: work on a batch that lets others run between its slices
- ``reasons``: reasons without the values of events
- ``disk``: bytes to a descriptor, completely

Invariants: no module here knows a sink; no module here is an interface for plugins of other authors.
"""
