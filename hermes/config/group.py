"""A group of settings as it was read: the struct that declares its variables, their values, and their prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from hermes.config.declaration import Variable, describe


class NoSettings(msgspec.Struct, frozen=True):
    """The settings of a sink, or of a part, without settings of its own."""


@dataclass(frozen=True)
class Group:
    """Settings that were read together. ``defaults``, if given, replace the defaults of the struct.

    >>> from typing import Annotated
    >>> from hermes.config import about
    >>> class JobSettings(msgspec.Struct, frozen=True):
    ...     job_limit: Annotated[int, about("most jobs at once")] = 10
    >>> [variable.name for variable in Group(JobSettings()).variables()]
    ['JOB_LIMIT']
    """

    values: msgspec.Struct
    prefix: str = ""
    defaults: msgspec.Struct | None = None

    def variables(self) -> Iterator[Variable]:
        """The declared variables, in their order."""
        return describe(type(self.values), self.prefix, self.defaults)


def owning_prefix(variable: str, prefixes: Iterable[str]) -> str:
    """The prefix of the group that a variable belongs to; empty if it belongs to none.

    >>> owning_prefix("SINK_MY_SINK_PATH", ["SINK_MY_", "SINK_MY_SINK_", "SINK_NULL_"])
    'SINK_MY_SINK_'
    """
    # The longest: of the sinks `my` and `my-sink`, SINK_MY_SINK_PATH is the second's.
    return max((prefix for prefix in prefixes if variable.startswith(prefix)), key=len, default="")
