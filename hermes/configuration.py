"""The settings of a run of Hermes: of the service, and of each part that is to run.

Invariant: all code that reads, shows or compares settings uses `Configuration.groups`, so that the variables of a new
part are checked, shown, looked for in files and documented like the service's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes.base.errors import ConfigError
from hermes.base.spelling import misspelt
from hermes.config import Group, Mistakes, Sources, Variable, describe, is_declared, read_sources
from hermes.events.sink import SINKS_TABLE
from hermes.part import ConfiguredPart
from hermes.parts import collect_parts, describe_built_in, describe_parts, installed_parts
from hermes.settings import GROUPS, Settings, collect_settings


@dataclass(frozen=True)
class Configuration:
    """Settings that have been read and checked. ``parts`` are in the order in which they are opened."""

    settings: Settings
    parts: tuple[ConfiguredPart, ...]
    sources: Sources = field(default_factory=lambda: Sources({}))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(each.part.name for each in self.parts)

    def value_of(self, name: str) -> Any:
        """The settings of one part. Raises `KeyError` for a part that is not to run."""
        return {each.part.name: each.settings.value for each in self.parts}[name]

    def groups(self) -> Iterator[Group]:
        """Every group of settings that was read, the service's group first."""
        yield from map(Group, self.settings.groups())
        for part in self.parts:
            yield from part.settings.groups

    def variables(self) -> Iterator[Variable]:
        """Every variable that was looked up."""
        for group in self.groups():
            yield from group.variables()


def describe_service() -> list[Variable]:
    """Return the variables of the service and of the parts of Hermes, without the variables of sinks."""
    own = [variable for group in GROUPS.values() for variable in describe(group)]
    return own + [variable for _, variables in describe_built_in() for variable in variables]


def read_environment(environ: Mapping[str, str], *, tolerant: bool = False) -> Sources:
    """Return the settings as texts, of an environment and of its file.

    Raises `ConfigError` for a file that cannot be read, and for a key that cannot be taken, unless ``tolerant``: then
    the key is one of the `Sources.mistakes`, for `collect_configuration`.
    """
    # SINKS alone has tables of its own in the file: the keys of [sinks.eu] stand for the variables SINK_EU_*.
    sources = read_sources(environ, {"sinks": SINKS_TABLE})
    # A command that checks the settings goes on: the other keys can be read, and all mistakes are told at once.
    if sources.mistakes and not tolerant:
        raise ConfigError(*(each.words for each in sources.mistakes))
    return sources


def collect_configuration(sources: Sources, mistakes: Mistakes, parts: Sequence[str] = ()) -> Configuration:
    """Read all settings from these sources, with ``mistakes`` collected: a bad value is replaced by the default.

    ``parts`` are the parts to run, instead of PARTS.

    >>> collect_configuration(Sources({"SINKS": "null"}), Mistakes()).names
    ('dead_letters', 'traces', 'events')
    """
    # First: `Mistakes` drops a later mistake about the same variable, which would be a fault of the default.
    _collect_untaken_keys(sources, mistakes)
    settings = collect_settings(sources, mistakes)
    configured = collect_parts(parts or settings.run.parts, sources, settings, mistakes, asked=bool(parts))
    configuration = Configuration(settings, configured, sources)
    # Last: only the settings that were read tell which variables there are, as those of the sinks in SINKS.
    for mistake in _find_unknown_keys(configuration):
        with mistakes.collect():
            raise ConfigError(mistake)
    return configuration


def _collect_untaken_keys(sources: Sources, mistakes: Mistakes) -> None:
    """Collect the mistakes of the file, but those of a key that is no setting, whatever its value: it is told later."""
    if not sources.mistakes:
        return
    # Behind the return above: to describe every installed part imports them all, and most files have no such key.
    declared = {variable.name for variable in (*describe_service(), *describe_parts(installed_parts().values()))}
    for each in sources.mistakes:
        if len(each.path) > 1 or not each.variable or is_declared(each.variable, declared):
            mistakes.add(ConfigError(each.words), each.variable)


def _find_unknown_keys(configuration: Configuration) -> Iterator[str]:
    """Yield a line for each key of the file that is no setting, neither of this run nor of another part."""
    declared = {variable.name for variable in configuration.variables()}
    if any(configuration.sources.unknown(declared)):
        # Only now: to describe the parts that do not run imports them.
        declared.update(variable.name for variable in describe_parts(installed_parts().values()))
    for name in configuration.sources.unknown(declared):
        meant = misspelt(name, declared)
        # A key of the file is the name of a variable in lower case.
        mend = f"did you mean {meant.lower()}?" if meant else "`hermes config explain` lists all settings"
        yield f"{name}: there is no such setting; {mend}"
