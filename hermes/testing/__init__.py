"""The test kit for authors of plugins, and for the tests of Hermes itself. Production code never imports it.

`check_sink` checks a sink against its contract, `check_log` a log. `make_event`, `make_events`, `make_chunk`,
`make_batch`, `big_event` and `awkward_events` build the input of a sink; `event_strategy` gives Hypothesis any valid
event; `ScriptedSink` replaces a database.

| file | idea |
|---|---|
| ``events``, ``fakes`` | the input of a sink; a sink that follows a script |
| ``conformance``, ``cancelled_writes``, ``probe`` | `check_sink`, and how it calls and watches a sink |
| ``log_conformance``, ``log_records``, ``log_lifetime``, ``log_concurrency``, ``log_probe`` | the same of `check_log` |
| ``opening``, ``stepping`` | for both: opening within a time; the time between two pauses of a call |
"""

from hermes.testing.conformance import check_sink
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
from hermes.testing.log_conformance import check_log
from hermes.testing.log_probe import LogCheckFailed
from hermes.testing.probe import SinkCheckFailed

__all__ = [
    "LogCheckFailed",
    "Outcome",
    "ScriptedSink",
    "SinkCheckFailed",
    "Write",
    "awkward_events",
    "big_event",
    "check_log",
    "check_sink",
    "event_strategy",
    "make_batch",
    "make_chunk",
    "make_event",
    "make_events",
    "unavailable",
]
