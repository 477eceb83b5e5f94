"""The settings of a run of Hermes: of the service, and of each part that is to run.

Invariant: all code that reads, shows or compares settings uses `Configuration.groups`, so that the variables of a new
part are checked, shown, looked for in files and documented like the service's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hermes.config import Group, Mistakes, Variable
from hermes.part import ConfiguredPart
from hermes.parts import collect_parts
from hermes.settings import Settings, collect_settings


@dataclass(frozen=True)
class Configuration:
    """Settings that have been read and checked. ``parts`` are in the order in which they are opened."""

    settings: Settings
    parts: tuple[ConfiguredPart, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(each.part.name for each in self.parts)

    def value_of(self, name: str) -> Any:
        """The settings of one part. Raises `KeyError` for a part that is not to run."""
        return {each.part.name: each.settings.value for each in self.parts}[name]

    def groups(self) -> Iterator[Group]:
        """Every group of settings that was read, the service's group first."""
        yield Group(self.settings)
        for part in self.parts:
            yield from part.settings.groups

    def variables(self) -> Iterator[Variable]:
        """Every variable that was looked up."""
        for group in self.groups():
            yield from group.variables()


def collect_configuration(environ: Mapping[str, str], mistakes: Mistakes, parts: Sequence[str] = ()) -> Configuration:
    """Read all settings of an environment, with ``mistakes`` collected: a bad value is replaced by the default.

    ``parts`` are the parts to run, instead of PARTS.

    >>> collect_configuration({"SINKS": "null"}, Mistakes()).names
    ('dead_letters', 'traces', 'events')
    """
    settings = collect_settings(environ, mistakes)
    return Configuration(settings, collect_parts(parts or settings.parts, environ, settings, mistakes))
