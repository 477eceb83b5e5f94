"""Declares the events as a part of the service, and reads the settings of its sinks.

Invariant: nothing here imports the engine or an address, so that a list of the commands is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hermes.config import Group, Mistakes
from hermes.events.configured_sinks import ConfiguredSink, collect_sinks
from hermes.events.settings import EventSettings, collect_event_settings
from hermes.part import Command, Part, ReadSettings, RunningPart
from hermes.settings import Settings

# For type checkers alone: a list of the commands loads this module, and needs neither.
if TYPE_CHECKING:
    from hermes.core import Core
    from hermes.dead_letters.view import LetterView


@dataclass(frozen=True)
class EventConfiguration:
    """What the part is opened with: its settings, and its sinks with theirs.

    >>> EventConfiguration(EventSettings(), sinks=()).names
    ()
    """

    settings: EventSettings
    sinks: tuple[ConfiguredSink, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sinks."""
        return tuple(sink.name for sink in self.sinks)


def _open(chosen: EventConfiguration, core: Core) -> AbstractAsyncContextManager[RunningPart]:
    # Here: the engine and the addresses are not imported for a list of the commands.
    from hermes.events.opening import open_events

    return open_events(chosen, core)


def configure_events(environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ReadSettings:
    """Read the settings of every sink that SINKS names.

    >>> from hermes.settings import read_settings
    >>> environ = {"SINKS": "null"}
    >>> configure_events(environ, read_settings(environ), Mistakes()).value.names
    ('null',)
    """
    settings = collect_event_settings(environ, mistakes)
    return with_sinks(settings, collect_sinks(settings.sink_names(service.storage), environ, mistakes))


# Apart from `configure_events`, so that tests run the part with sinks of their own.
def with_sinks(settings: EventSettings, sinks: Sequence[ConfiguredSink]) -> ReadSettings:
    """The settings of the events with these sinks.

    >>> len(with_sinks(EventSettings(), []).groups)
    1
    """
    groups = [Group(settings), *(group for sink in sinks for group in sink.groups)]
    return ReadSettings(EventConfiguration(settings, tuple(sinks)), groups)


def check_sinks(chosen: EventConfiguration, service: Settings) -> None:
    """Raise `ConfigError` with the complaints of every sink about its settings."""
    # All complaints at once: a user should not find the second one only after the first is mended.
    mistakes = Mistakes()
    for sink in chosen.sinks:
        with mistakes.collect():
            sink.check(service.storage)
    mistakes.raise_any()


def _letters() -> LetterView:
    # Here: the view is loaded when a letter is shown, so a list of the commands does without.
    from hermes.events.letters import EVENT_LETTERS

    return EVENT_LETTERS


EVENTS = Part(
    "events",
    "Takes events in over HTTP, keeps them in a journal, and delivers them to sinks",
    _open,
    settings=EventSettings,
    check=check_sinks,
    configure=configure_events,
    # Both stay open until the events have ended: a last write may refuse events, and ends a span.
    needs=("dead_letters", "traces"),
    letters=_letters,
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
