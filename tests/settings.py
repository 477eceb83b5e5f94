"""The settings of a service for tests, given by their names and handed to the group of each owner.

chosen = Chosen(durability="memory", queue_size=10, traces_sample=1.0)
chosen.group(TraceSettings).traces_sample, chosen.queue_size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from hermes.broker.settings import BrokerSettings
from hermes.config import Mistakes, try_read
from hermes.dead_letters.settings import DeadLetterSettings
from hermes.events.settings import EventSettings, collect_event_settings
from hermes.settings import GROUPS as OF_SERVICE
from hermes.settings import Settings, collect_settings
from hermes.traces.settings import TraceSettings, collect_trace_settings

Group = TypeVar("Group", bound=msgspec.Struct)

GROUPS: Sequence[type[msgspec.Struct]] = (
    *OF_SERVICE.values(),
    BrokerSettings,
    EventSettings,
    DeadLetterSettings,
    TraceSettings,
)


class Chosen:
    """The chosen settings; a setting that is not named has its default. Each is an attribute too."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self._known = {name: group for group in GROUPS for name in group.__struct_fields__}
        assert values.keys() <= self._known.keys(), f"no settings: {values.keys() - self._known.keys()}"

    def group(self, kind: type[Group]) -> Group:
        """The settings of one group."""
        return kind(**{name: value for name, value in self.values.items() if name in kind.__struct_fields__})

    @property
    def service(self) -> Settings:
        """The settings that every part may read."""
        return Settings(**{name: self.group(kind) for name, kind in OF_SERVICE.items()})  # type: ignore[arg-type]

    def but(self, **values: Any) -> Chosen:
        """The same with other values for these."""
        return Chosen(**(self.values | values))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chosen) and all(self.group(kind) == other.group(kind) for kind in GROUPS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._known:
            raise AttributeError(name)
        return getattr(self.group(self._known[name]), name)


def read_all(environ: Mapping[str, str]) -> Chosen:
    """Every setting of an environment, but those of sinks. Raises `ConfigError` with one line for each mistake."""
    mistakes = Mistakes()
    groups = (
        *collect_settings(environ, mistakes).groups(),
        collect_event_settings(environ, mistakes),
        try_read(BrokerSettings, environ, mistakes) or BrokerSettings(),
        try_read(DeadLetterSettings, environ, mistakes) or DeadLetterSettings(),
        collect_trace_settings(environ, mistakes),
    )
    mistakes.raise_any()
    return Chosen(**{name: value for group in groups for name, value in msgspec.structs.asdict(group).items()})
