"""Declares the events as a part of the service, and reads the settings of its sinks.

Invariant: nothing here imports the engine or an address, so that a list of the commands is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from hermes.config import Mistakes
from hermes.events.configured_sinks import ConfiguredSink, collect_sinks
from hermes.part import Command, Part, ReadSettings, RunningPart
from hermes.settings import Settings

if TYPE_CHECKING:
    from hermes.core import Core


def _open(sinks: Sequence[ConfiguredSink], core: Core) -> AbstractAsyncContextManager[RunningPart]:
    # Here: the engine and the addresses are not imported for a list of the commands.
    from hermes.events.opening import open_events

    return open_events(sinks, core)


def configure_events(environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ReadSettings:
    """Read the settings of every sink that SINKS names.

    >>> from hermes.settings import read_settings
    >>> environ = {"SINKS": "null"}
    >>> len(configure_events(environ, read_settings(environ), Mistakes()).value)
    1
    """
    return with_sinks(collect_sinks(service.sink_names(), environ, mistakes))


# Apart from `configure_events`, so that tests run the part with sinks of their own.
def with_sinks(sinks: Sequence[ConfiguredSink]) -> ReadSettings:
    """The settings of the events with these sinks.

    >>> with_sinks([]).groups
    []
    """
    return ReadSettings(sinks, [group for sink in sinks for group in sink.groups])


def check_sinks(sinks: Sequence[ConfiguredSink], service: Settings) -> None:
    """Raise `ConfigError` with the complaints of every sink about its settings."""
    # All complaints at once: a user should not find the second one only after the first is mended.
    mistakes = Mistakes()
    for sink in sinks:
        with mistakes.collect():
            sink.check(service.storage)
    mistakes.raise_any()


EVENTS = Part(
    "events",
    "Takes events in over HTTP, keeps them in a journal, and delivers them to sinks",
    _open,
    check=check_sinks,
    configure=configure_events,
    needs=("dead_letters", "traces"),
    commands=(
        Command(
            "RUN IT",
            "sinks",
            "hermes.cli.config:list_sinks",
            "List the sinks that are installed, with their variables.",
        ),
        Command(
            "LOOK INTO IT",
            "tap",
            "hermes.cli.tap:tap",
            "Follow live events, from a running Hermes, until Ctrl-C.",
        ),
    ),
)
