"""Finds variables of the environment that look like settings and have no effect. Pure.

They are misspelt settings, and settings of sinks that are not in use. The environment is full of variables of other
programs, so a name counts as a misspelt setting only if it is a slip of the finger away from one.

Invariant: a misspelt variable is always reported, and a misspelt secret is a `ConfigError`.
"""

from __future__ import annotations

from typing import NamedTuple

from hermes.base.errors import ConfigError
from hermes.base.spelling import misspelt
from hermes.config import owning_prefix
from hermes.configuration import Configuration
from hermes.events.part import EVENTS
from hermes.events.sink import installed_sinks, variable_prefix

_OF_COMMANDS = ("HERMES_ADMIN_KEY",)
"""Variables that only commands read; they are not settings of the service."""


class Stray(NamedTuple):
    """A variable without effect; ``why`` names the reason and the setting that may have been meant."""

    name: str
    why: str


def find_strays(configuration: Configuration) -> list[Stray]:
    """Return the variables without effect that look like settings. Raises `ConfigError` for a misspelt secret."""
    # Of the environment alone: the file has no keys of others, so that each unknown one was refused.
    environ, given = configuration.sources.environ, configuration.sources
    declared = {
        name: variable for variable in configuration.variables() for name in (variable.name, f"{variable.name}_FILE")
    }
    # A slip of a variable of a sink in use was refused when the sinks were configured. The idle ones belong to other
    # sinks, or to no sink.
    idle = [name for name in sorted(environ) if name.startswith("SINK_") and name not in declared]
    sinks = given.file.prefixes if given.file else {}
    # The search for entry points takes a while, and most environments have no idle variable.
    sinks |= {variable_prefix(sink): sink for sink in (installed_sinks() if idle else ())}
    strays = [Stray(name, _why_idle(configuration, sinks.get(owning_prefix(name, sinks)))) for name in idle]
    for name in sorted(set(environ).difference(declared, idle, _OF_COMMANDS)):
        if (meant := misspelt(name, declared)) is None:
            continue
        variable = declared[meant]
        # Without the secret the service would run open to everybody, while its operator believes otherwise.
        if variable.guards and not {variable.name, f"{variable.name}_FILE"}.intersection(given):
            raise ConfigError(
                f"{name} is not a setting, and {variable.name} is not set: did you mean {meant}? Rename it, or unset it"
            )
        strays.append(Stray(name, f"it is not a setting: did you mean {meant}?"))
    return strays


def _why_idle(configuration: Configuration, owner: str | None) -> str:
    """Why a variable of the sink ``owner`` has no effect; None: of a sink that nobody knows."""
    if EVENTS.name not in configuration.names:
        return "the part events does not run"
    return f"SINKS does not name {owner}" if owner else "no sink in SINKS has this variable"
