"""The interfaces of a sink and of its plugin, and the search for installed sinks.

A sink's plugin is a distribution's entry point in the group ``hermes.sinks`` whose value is a `SinkPlugin`. Hermes
finds its built-in sinks in the same way. Invariant: a plugin is imported only if it is asked for by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, Protocol

import msgspec

from hermes.base.errors import PluginError
from hermes.config import Duration, NoSettings, Table, Variable, about, describe
from hermes.events.event import Batch
from hermes.store.settings import Storage

ENTRY_POINT_GROUP = "hermes.sinks"


class Sink(Protocol):
    """A receiver of batches, open for as long as its plugin's context manager.

    ``max_batch`` is the most events in one batch. ``concurrency`` is the most `write` calls at the same time;
    WORKER_COUNT may allow fewer.

        class Memory:
            max_batch = 1000
            concurrency = 1

            def __init__(self) -> None:
                self.events: dict[str, Event] = {}

            async def write(self, batch: Batch) -> None:
                for event in batch:
                    self.events.setdefault(event.id, event)


        sink: Sink = Memory()
        await sink.write(make_batch(3))
    """

    max_batch: int
    concurrency: int

    async def write(self, batch: Batch) -> None:
        """Store every event of the batch, durably by the sink's own standard, before returning.

        The same events may come again: if the target can tell, store each event id once. Raises
        `hermes.SinkUnavailable` if the batch may succeed later, `hermes.BatchRejected` if some events never will, after
        the others were written. May be cancelled at any await, and must then leave nothing half-done behind.
        """


CatchUpOrder = Literal["oldest", "interleaved"]
"""The order of a sink's backlog: the oldest events first, or new and old events in turn."""


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the engine for each sink, as ``SINK_<NAME>_<FIELD>``. Durations in seconds.

    >>> plugin = SinkPlugin(open_lines, delivery=DeliverySettings(flush_interval=60.0, batch_size=50_000))
    >>> plugin.delivery.timeout
    30.0
    """

    required: Annotated[
        bool,
        about("nothing is given up for want of room before this sink has it; where no sink is required, the first is"),
    ] = False
    # A long interval makes no request wait: a buffer that holds half of the queue is due in any case.
    flush_interval: Annotated[
        Duration, about("longest a non-empty buffer of this sink waits; 0: as FLUSH_INTERVAL says", ge=0)
    ] = 0.0
    batch_size: Annotated[
        int, about("a buffer of this sink that reaches this many events is flushed; 0: as BATCH_SIZE says", ge=0)
    ] = 0
    timeout: Annotated[Duration, about("longest that one write may take; then it counts as failed", gt=0)] = 30.0
    retries: Annotated[
        int, about("further attempts for a batch after a failed write, with DURABILITY=memory; else without end", ge=0)
    ] = 5
    backoff: Annotated[Duration, about("pause before the first retry, doubled each time, with full jitter", gt=0)] = 0.1
    max_backoff: Annotated[Duration, about("longest pause between attempts", gt=0)] = 5.0
    breaker_failures: Annotated[int, about("consecutive failed writes that open the circuit breaker", ge=1)] = 3
    breaker_open: Annotated[Duration, about("how long the breaker stays open before one trial", gt=0)] = 30.0
    # A column that became NOT NULL or a failing trigger refuses every event. Without this the whole stream would drain
    # into dead letters, and evict the older ones.
    refusal_rows: Annotated[
        int,
        about(
            "events refused in a row, nearly all of each write and for one reason, that make it the sink's fault", ge=1
        ),
    ] = 100
    refusal_hold: Annotated[
        Duration,
        about("longest that events are held for such a fault before they become dead letters; 0: not at all", ge=0),
    ] = 3600.0
    catch_up: Annotated[
        float, about("how fast a backlog is read from the journal, as a multiple of the rate of arrival", ge=1)
    ] = 1.5
    catch_up_floor: Annotated[int, about("least rate at which a backlog is read, in events a second", ge=1)] = 50_000
    catch_up_order: Annotated[
        CatchUpOrder,
        about("what a sink that is behind gets first: `oldest`, or new and old `interleaved`"),
    ] = "oldest"


class InstanceSettings(msgspec.Struct, frozen=True):
    """The plugin of a sink, as ``SINK_<NAME>_PLUGIN``: several sinks may have the same plugin.

    >>> InstanceSettings(plugin="postgres").plugin
    'postgres'
    """

    plugin: Annotated[
        str, about("the installed sink that this one is an instance of", default="the installed sink of this name")
    ] = ""


NO_INSTANCE = InstanceSettings()
"""The settings of a sink that is the installed one of its name."""

SINKS_TABLE = Table("SINKS", "SINK_", "plugin")
"""The table ``sinks`` of a file of settings: ``[sinks.eu]`` holds the variables ``SINK_EU_*``."""

USUAL_DELIVERY = DeliverySettings()
"""The delivery settings of a sink if neither its author nor the operator sets others."""


@dataclass(frozen=True)
class SinkPlugin:
    """The value of an entry point: a function that opens a sink, and the sink's settings.

    ``open(settings, storage)`` gets an instance of ``settings``, read from ``SINK_<NAME>_<FIELD>``, and the storage of
    the service: the folder and the database. ``open`` returns an async context manager whose value is the `Sink`; the
    end of the block closes the sink.

    ``check(settings, storage)`` gets the same arguments and raises `hermes.ConfigError` for mistakes that show without
    opening anything; ``hermes config check`` and ``hermes serve`` call ``check`` before any sink is opened.

    ``delivery`` has the sink's own defaults of the delivery settings, such as a longer flush interval for a sink that
    makes a file of each batch.

        @asynccontextmanager
        async def open_memory(settings: NoSettings, storage: Storage) -> AsyncIterator[Sink]:
            yield ScriptedSink()


        plugin = SinkPlugin(open_memory, summary="keeps events in memory, for a test")
        async with plugin.open(NoSettings(), Storage()) as sink:
            await sink.write(make_batch(3))
    """

    open: Callable[[Any, Storage], AbstractAsyncContextManager[Sink]]
    settings: type[msgspec.Struct] = NoSettings
    summary: str = ""
    check: Callable[[Any, Storage], None] | None = None
    delivery: DeliverySettings = USUAL_DELIVERY


def variable_prefix(name: str) -> str:
    """The prefix of a sink's variables.

    >>> variable_prefix("my-sink")
    'SINK_MY_SINK_'
    """
    return SINKS_TABLE.prefix_of(name)


def installed_sinks() -> dict[str, EntryPoint]:
    """Every installed sink by name. Raises `PluginError` if two distributions claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        other = found.setdefault(point.name, point)
        # Equal values are one entry point, found twice on the path.
        if other.value != point.value:
            raise PluginError(
                f"two installed packages provide a sink {point.name!r}: "
                f"{_origin(other)} and {_origin(point)}. Uninstall one."
            )
    return found


def load_plugin(point: EntryPoint) -> SinkPlugin:
    """The plugin behind an entry point. Raises `PluginError`, which names the extra to install for a missing driver."""
    try:
        plugin = point.load()
    # Before `ImportError`, its base class: for a missing driver there is an extra to install, for a broken module there
    # is not.
    except ModuleNotFoundError as error:
        raise PluginError(f"sink {point.name!r}: no module {error.name!r}. {_install_hint(point)}") from error
    except (ImportError, AttributeError) as error:
        # `AttributeError`: the module lacks the attribute that the entry point names.
        raise PluginError(f"sink {point.name!r} of {_origin(point)} cannot be loaded: {error}") from error
    if not isinstance(plugin, SinkPlugin):
        raise PluginError(f"sink {point.name!r} of {_origin(point)}: {point.value} is not a hermes.SinkPlugin")
    for_every_sink = {*DeliverySettings.__struct_fields__, *InstanceSettings.__struct_fields__}
    # Both would be read from the same variable.
    clash = for_every_sink.intersection(plugin.settings.__struct_fields__)
    if clash:
        raise PluginError(
            # The first by name: a set has no order, and the message should be the same in every run.
            f"sink {point.name!r} of {_origin(point)} declares the setting {min(clash)!r}, which the engine has for "
            "every sink. Tell its author to rename it."
        )
    return plugin


def describe_sink(name: str, plugin: SinkPlugin) -> Iterator[Variable]:
    """Every variable of the sink of this name: first the plugin's own, then the common variables of all sinks."""
    prefix = variable_prefix(name)
    yield from describe(plugin.settings, prefix)
    yield from describe(DeliverySettings, prefix, plugin.delivery)
    yield from describe(InstanceSettings, prefix)


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _install_hint(point: EntryPoint) -> str:
    if point.dist is None:
        return "Install its driver."
    # `get_all` returns None if a distribution has no extras. Only an extra of the sink's own name has its driver.
    extras = point.dist.metadata.get_all("Provides-Extra") or []
    return f"Install it with: pip install '{point.dist.name}{f'[{point.name}]' if point.name in extras else ''}'"
