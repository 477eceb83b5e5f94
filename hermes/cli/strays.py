"""Variables of the environment that look like ours and have no effect: misspelt ones, and those of sinks not in use.

Pure. Invariant: a misspelt variable is never passed over in silence, and a misspelt secret is a `ConfigError`, for the
service would run open, or keep nothing, while its operator believes otherwise. The environment is full of variables of
other programs, so a name is only taken for ours where it is a slip of the finger away from a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hermes.configuration import Configuration
from hermes.errors import ConfigError
from hermes.sink import installed_sinks, variable_prefix
from hermes.spelling import misspelt

_OF_COMMANDS = ("HERMES_ADMIN_KEY",)
"""Variables that only commands read, so they are no settings of the service."""


class Stray(NamedTuple):
    """A variable without effect: why, and what may have been meant."""

    name: str
    why: str


def find_strays(environ: Mapping[str, str], configuration: Configuration) -> list[Stray]:
    """The variables without effect that look like ours. Raises `ConfigError` for a secret that is misspelt."""
    declared = {
        name: variable for variable in configuration.variables() for name in (variable.name, f"{variable.name}_FILE")
    }
    # SINK_ variables that nobody declares were refused when the sinks were configured: the others are declared.
    idle = [name for name in sorted(environ) if name.startswith("SINK_") and name not in declared]
    owners = ((name, _owner(name)) for name in idle)
    strays = [Stray(name, f"SINKS does not name {owner}") for name, owner in owners if owner]
    for name in sorted(set(environ).difference(declared, idle, _OF_COMMANDS)):
        if (meant := misspelt(name, declared)) is None:
            continue
        variable = declared[meant]
        if variable.guards and not any(given in environ for given in (variable.name, f"{variable.name}_FILE")):
            raise ConfigError(
                f"{name} is no setting, and {variable.name} is not set: did you mean {meant}? Rename it, or unset it"
            )
        strays.append(Stray(name, f"it is no setting: did you mean {meant}?"))
    return strays


def _owner(name: str) -> str:
    """The installed sink that a variable belongs to: the longest prefix names it, as when sinks are configured."""
    prefixes = {variable_prefix(sink): sink for sink in installed_sinks()}
    return prefixes.get(max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=""), "")
