"""The kit for the authors of plugins, and for the tests of Hermes itself. Production code never imports it.

`make_event`, `make_events`, `make_chunk`, `make_batch` and `awkward_events` build what a sink is given;
`event_strategy` gives Hypothesis the same; `ScriptedSink` stands in for a database.
"""

from hermes.testing.events import (
    awkward_events,
    big_event,
    event_strategy,
    make_batch,
    make_chunk,
    make_event,
    make_events,
)
from hermes.testing.fakes import Outcome, ScriptedSink, Write, unavailable

__all__ = [
    "Outcome",
    "ScriptedSink",
    "Write",
    "awkward_events",
    "big_event",
    "event_strategy",
    "make_batch",
    "make_chunk",
    "make_event",
    "make_events",
    "unavailable",
]
