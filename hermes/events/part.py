"""Declares the events as a part of the service: reads the settings of its sinks, and opens journal, sinks and engine.

Invariant: when the part is closed, every sink and the journal are closed, in the reverse order of their opening.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from hermes.config import Mistakes
from hermes.core import Core
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.dead_letters.events import sink_source, sink_target
from hermes.events.configured_sinks import ConfiguredSink, collect_sinks
from hermes.events.engine.context import SinkContext
from hermes.events.engine.journal import open_journal
from hermes.events.engine.making import make_engine
from hermes.events.engine.status import EngineStatus
from hermes.events.engine.status_types import EventsStatus
from hermes.events.operators import PANELS, make_operator_endpoints
from hermes.events.routes import make_event_endpoints
from hermes.observe.tracing import NO_TRACING, Tracing
from hermes.part import Part, PartStatus, ReadSettings, RunningPart
from hermes.settings import Settings
from hermes.world import EVENTS_LOG


@asynccontextmanager
async def open_events(sinks: Sequence[ConfiguredSink], core: Core) -> AsyncIterator[RunningPart]:
    """Open the journal and the sinks. The value of the part is the `Engine`.

    Raises `hermes.ConfigError`, `hermes.LogDamaged`, and the errors of the sinks.
    """
    settings = core.settings
    desk: DeadLetterDesk = core.needed["dead_letters"]
    tracer = core.needed["traces"]
    # Without TRACES_ENDPOINT the part `traces` has no value.
    tracing: Tracing = tracer or NO_TRACING
    async with AsyncExitStack() as opened:
        journal = None
        if settings.durability != "memory":
            log = await opened.enter_async_context(core.world.open_log(settings, EVENTS_LOG))
            journal = await open_journal(log, settings.journal_max_bytes)
        # The journal comes before the sinks, so it is closed after them.
        contexts = []
        for sink in sinks:
            target = await opened.enter_async_context(sink.open(settings.storage))
            contexts.append(SinkContext(sink.name, target, sink.delivery, desk.store, tracing))
        engine = make_engine(contexts, settings, journal, tracing)
        targets = {sink_source(each.name): sink_target(each.redeliver, each.max_batch) for each in engine.deliveries}
        opened.enter_context(desk.replaying_to(targets))
        tap, rejected = engine.intake.tap, core.ingress.rejected_feed
        status = EngineStatus(engine, settings.queue_bytes, core.ingress.requests.rejected, trio.current_time())
        yield RunningPart(
            value=engine,
            endpoints=(
                *make_event_endpoints(settings, engine, core.ingress, tracer),
                *make_operator_endpoints(tap, rejected),
            ),
            panels=PANELS,
            metrics=engine.metrics,
            status=PartStatus(EventsStatus, status.snapshot, status.tick),
            run=engine.run,
            drain=engine.drain,
            end_streams=tap.close,
            give_up=engine.give_up,
            why_not_ready=engine.why_not_ready,
            settled=engine.settled,
            show=engine.show,
        )


def configure_events(environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ReadSettings:
    """Read the settings of every sink that SINKS names."""
    return with_sinks(collect_sinks(service.sink_names(), environ, mistakes))


# Apart from `configure_events`, so that tests run the part with sinks of their own.
def with_sinks(sinks: Sequence[ConfiguredSink]) -> ReadSettings:
    """The settings of the events with these sinks.

    >>> with_sinks([]).groups
    []
    """
    return ReadSettings(sinks, [group for sink in sinks for group in sink.groups])


def check_sinks(sinks: Sequence[ConfiguredSink], service: Settings) -> None:
    """Raise `ConfigError` with the complaints of every sink about its settings."""
    # All complaints at once: a user should not find the second one only after the first is mended.
    mistakes = Mistakes()
    for sink in sinks:
        with mistakes.collect():
            sink.check(service.storage)
    mistakes.raise_any()


EVENTS = Part(
    "events",
    "Takes events in over HTTP, keeps them in a journal, and delivers them to sinks",
    open_events,
    check=check_sinks,
    configure=configure_events,
    needs=("dead_letters", "traces"),
)
