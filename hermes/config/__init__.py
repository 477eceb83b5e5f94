"""Declares, reads, checks and documents settings. This package has no settings of its own.

- `group`: the settings that one struct declares, as they were read
- `declaration`: reads and describes a group of settings from its one declaration
- `notation`: the notation of durations, sizes, addresses, lists and truth values
- `sources`: the environment, and a file below it
- `toml_file`, `toml_lines`: read settings from a file of TOML, with the lines of its keys
- `mistakes`: collects the mistakes of a configuration

Each declaration has many readers: `read` makes the values; `describe` feeds the table of settings, ``.env.example`` and
``hermes config check``. Nothing is read at import time.
"""

from hermes.config.declaration import Variable, describe, lookup, read, try_read
from hermes.config.group import Group, NoSettings, owning_prefix
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
from hermes.config.sources import Sources, is_declared, read_sources
from hermes.config.toml_file import Table

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
    "Sources",
    "Table",
    "Variable",
    "about",
    "describe",
    "format_duration",
    "format_size",
    "is_declared",
    "lookup",
    "owning_prefix",
    "parse_duration",
    "parse_size",
    "read",
    "read_sources",
    "try_read",
]
