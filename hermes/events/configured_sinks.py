"""Reads the settings of the sinks that SINKS names, and opens these sinks.

A name in SINKS is the name of an installed sink, or of an instance: ``SINK_EU_PLUGIN=postgres`` makes ``eu`` a sink
of the plugin ``postgres``, with settings of its own, ``SINK_EU_*``. Metrics, breaker, dead letters and the position in
the journal carry this name.

Invariant: a ``SINK_*`` variable that its sink in use does not declare is an error, and so is a slip of one that a sink
in use declares. A message about a sink names the sink's own variables.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec

from hermes.base.errors import BatchRejected, ConfigError, PluginError, SinkUnavailable
from hermes.base.spelling import misspelt, suggest
from hermes.config import Group, Mistakes, describe, owning_prefix, read, try_read
from hermes.events.event import Batch
from hermes.events.settings import EventSettings
from hermes.events.sink import (
    NO_INSTANCE,
    DeliverySettings,
    InstanceSettings,
    Sink,
    SinkPlugin,
    describe_sink,
    installed_sinks,
    load_plugin,
    variable_prefix,
)
from hermes.settings import GROUPS
from hermes.store.settings import Storage

# The name is a label of metrics, a part of variables, and what the journal and the dead letters know the sink by.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
_PLUGIN = "PLUGIN"


@dataclass(frozen=True)
class ConfiguredSink:
    """A sink that SINKS names, with its settings read; nothing is open yet.

    ::

        async with sink.open(Storage()) as target:
            await target.write(make_batch(3))
    """

    name: str
    plugin: SinkPlugin
    settings: msgspec.Struct
    delivery: DeliverySettings
    instance: InstanceSettings = NO_INSTANCE

    @property
    def installed(self) -> str:
        """The name of the installed sink that this one is an instance of."""
        return self.instance.plugin or self.name

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of variables that the sink was read from."""
        prefix = variable_prefix(self.name)
        return (
            Group(self.settings, prefix),
            Group(self.delivery, prefix, self.plugin.delivery),
            Group(self.instance, prefix),
        )

    def check(self, storage: Storage) -> None:
        """Raise `ConfigError` with the plugin's complaints about the settings."""
        if self.plugin.check is not None:
            with self._own_variables():
                self.plugin.check(self.settings, storage)

    @asynccontextmanager
    async def open(self, storage: Storage) -> AsyncIterator[Sink]:
        """Open the sink for the time of the block. Raises `ConfigError`, and the errors of the plugin."""
        async with AsyncExitStack() as opened:
            with self._own_variables():
                # Only the opening has its errors renamed: the block of the caller runs outside of this one.
                sink = await opened.enter_async_context(self.plugin.open(self.settings, storage))
            # A sink of its plugin's name has the right words already, and is spared a call for each batch.
            yield sink if self.installed == self.name else _Instance(sink, self._rename)

    @contextmanager
    def _own_variables(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            # Not `from error`: a traceback would show the variables of the plugin's name, which nobody has set.
            raise ConfigError(*map(self._rename, error.mistakes)) from error.__cause__

    def _rename(self, words: str) -> str:
        """Replace the variables of the plugin's name by the variables of this sink."""
        # Only whole variables: OTHER_SINK_HTTP_URL does not belong to the plugin `http`.
        return re.sub(rf"\b{variable_prefix(self.installed)}(?=[A-Z])", variable_prefix(self.name), words)


class _Instance:
    """A sink whose errors name the variables of its instance."""

    def __init__(self, sink: Sink, rename: Callable[[str], str]) -> None:
        self._sink, self._rename = sink, rename
        self.max_batch, self.concurrency = sink.max_batch, sink.concurrency

    async def write(self, batch: Batch) -> None:
        """Write as the sink does."""
        try:
            await self._sink.write(batch)
        except SinkUnavailable as error:
            # A new error must keep both facts: the delivery waits for `retry_after`, and makes its writes smaller after
            # `too_slow`.
            words = self._rename(str(error))
            raise SinkUnavailable(words, retry_after=error.retry_after, too_slow=error.too_slow) from error
        except BatchRejected as error:
            raise BatchRejected({index: self._rename(words) for index, words in error.reasons.items()}) from error


def collect_sinks(names: Iterable[str], environ: Mapping[str, str], mistakes: Mistakes) -> list[ConfiguredSink]:
    """The sinks of these names with their settings, without the sinks that cannot be configured.

    Adds every mistake to ``mistakes``.

    >>> [sink.name for sink in collect_sinks(["null"], {}, Mistakes())]
    ['null']
    """
    configured: list[ConfiguredSink] = []
    plugins: dict[str, SinkPlugin] = {}
    try:
        installed = installed_sinks()
    except PluginError as error:
        mistakes.add(error)
        return configured
    # `collect_event_settings` refuses a name that stands twice. To read the sink again would tell each of its mistakes
    # again, and call the sink its own twin.
    for name in dict.fromkeys(names):
        with mistakes.collect():
            prefix = variable_prefix(name)
            instance = read(InstanceSettings, environ, prefix)
            _check_instance(name, instance.plugin, installed)
            # Noted before the settings are read: unknown variables are looked for also if the known ones have mistakes.
            plugins[name] = plugin = load_plugin(installed[instance.plugin or name])
            # `try_read` collects the mistakes and goes on, so that both groups are judged in one run.
            own = try_read(plugin.settings, environ, mistakes, prefix)
            delivery = try_read(DeliverySettings, environ, mistakes, prefix, plugin.delivery)
            if own is not None and delivery is not None:
                configured.append(ConfiguredSink(name, plugin, own, delivery, instance))
    for mistake in (*_find_twins(configured), *_find_unknown_variables(plugins, installed, environ)):
        with mistakes.collect():
            raise ConfigError(mistake)
    return configured


def _check_instance(name: str, plugin: str, installed: Collection[str]) -> None:
    """Raise `ConfigError` if the sink of this name cannot be an instance of ``plugin``, or of the sink of its name."""
    variable = variable_prefix(name) + _PLUGIN
    if (plugin or name) not in installed:
        mend = suggest(plugin or name, installed)
        # A table of the file without `plugin` has its own name there, which nobody has written.
        if plugin not in {"", name}:
            raise ConfigError(f"{variable}={plugin!r}: no such sink is installed; {mend}")
        more = "" if mend.endswith("?") else f"; for a sink of one of them, set {variable}"
        raise ConfigError(f"SINKS={name!r}: no such sink is installed; {mend}{more}")
    if plugin not in {"", name}:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"SINKS={name!r}: expected a name of 1 to 40 of a-z 0-9 _ -, no _ or - first")
        # A reader of a metric or of a setting of `sqlite` takes it for the installed sink.
        if name in installed:
            raise ConfigError(
                f"{variable}={plugin!r}: {name} is an installed sink itself; give the instance another name"
            )


def _find_twins(sinks: Sequence[ConfiguredSink]) -> Iterator[str]:
    """Yield a mistake for each sink that shares its variables, or all its settings, with one before it."""
    for number, sink in enumerate(sinks):
        for other in sinks[:number]:
            prefix, names = variable_prefix(sink.name), f"SINKS={f'{other.name},{sink.name}'!r}"
            # The prefix has an underscore for a hyphen: the names `a-b` and `a_b` differ, and their variables do not.
            if prefix == variable_prefix(other.name):
                yield f"{names}: both have the variables {prefix}…; rename one"
            # A sink without settings, such as `null`, has no place that two of them could share.
            elif sink.settings.__struct_fields__ and sink.settings == other.settings:
                # The first field of a sink's settings is its place: a path, a URL, a table.
                place = f"{prefix}{sink.settings.__struct_fields__[0].upper()}"
                yield f"{names}: both would write to the same place, for their settings are the same; set {place}"


def _service_variables() -> set[str]:
    kinds: tuple[type[msgspec.Struct], ...] = (*GROUPS.values(), EventSettings)
    return {each.name for kind in kinds for each in describe(kind)}


def _find_unknown_variables(
    in_use: Mapping[str, SinkPlugin], installed: Iterable[str], environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield a mistake for each variable that a sink in use has not, or that is a slip of one that it has."""
    # Such a variable is a misspelling: to run without the setting would hide the mistake.
    declared = {variable_prefix(name): {each.name for each in describe_sink(name, in_use[name])} for name in in_use}
    instances = {name.removesuffix(_PLUGIN) for name in environ if name.startswith("SINK_") and name.endswith(_PLUGIN)}
    # Also the prefixes of sinks that are not in use: their variables have an owner, and are no slips of a sink in use.
    prefixes = {*declared, *instances, *map(variable_prefix, installed)}
    every = set().union(*declared.values())
    for name in sorted(environ):
        # NAME_FILE names a file that holds the value of NAME.
        if not name.startswith("SINK_") or name in every or name.removesuffix("_FILE") in every:
            continue
        owner = owning_prefix(name, prefixes)
        meant, option = misspelt(name, every), name.removeprefix(owner)
        if owner in declared or (meant and not owner):
            if option in _service_variables():
                mend = f"{option} is a setting of the service: write it without the name of a sink (above all tables)"
            else:
                mend = f"did you mean {meant}?" if meant else f"there are {', '.join(sorted(declared[owner]))}"
            yield f"{name}: no sink declares this variable; {mend}"
        # A sink that is not in use may keep its variables: switching SINKS needs no other change. `find_strays` tells
        # that they have no effect.
