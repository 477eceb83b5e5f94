"""How settings are declared, read, checked and documented. This package declares none itself.

- `declaration`: reads and describes a group of settings from its one declaration
- `notation`: the notation of durations, sizes, addresses, lists and truth values
- `traces`: the endpoint of traces, with the variables of OpenTelemetry
- `mistakes`: collects the mistakes of a configuration

Each declaration has many readers: `read` makes the values; `describe` feeds the table of settings, ``.env.example`` and
``hermes config check``. Nothing is read at import time.
"""

from hermes.config.declaration import Variable, describe, lookup, read, try_read
from hermes.config.group import Group, NoSettings
from hermes.config.mistakes import Mistakes
from hermes.config.notation import (
    Address,
    Duration,
    Names,
    Secret,
    Secrets,
    Size,
    about,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

__all__ = [
    "Address",
    "Duration",
    "Group",
    "Mistakes",
    "Names",
    "NoSettings",
    "Secret",
    "Secrets",
    "Size",
    "Variable",
    "about",
    "describe",
    "format_duration",
    "format_size",
    "lookup",
    "parse_duration",
    "parse_size",
    "read",
    "try_read",
]
