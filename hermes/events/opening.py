"""Opens the part of the events: the journal, the sinks and the engine between them.

Invariant: when the part is closed, every sink and the journal are closed, in the reverse order of their opening.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import trio

from hermes.core import Core
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.events.admin_routes import PANELS, make_operator_endpoints
from hermes.events.engine.context import SinkContext
from hermes.events.engine.journal import open_journal
from hermes.events.engine.making import make_engine
from hermes.events.engine.status import EngineStatus
from hermes.events.engine.status_types import EventsStatus
from hermes.events.ingest.refusal_counts import RefusalCounts
from hermes.events.letters import sink_source, sink_target
from hermes.events.part import EventConfiguration
from hermes.events.routes import make_event_endpoints
from hermes.events.settings import EngineSettings
from hermes.observe.tracing import NO_TRACING, Tracing
from hermes.part import PartStatus, RunningPart
from hermes.storage import EVENTS_LOG


@asynccontextmanager
async def open_events(chosen: EventConfiguration, core: Core) -> AsyncIterator[RunningPart]:
    """Open the journal and the sinks. The value of the part is the `Engine`.

    Raises `hermes.ConfigError`, `hermes.LogDamaged`, and the errors of the sinks.
    """
    service, own = core.settings, chosen.settings
    settings = EngineSettings(
        **msgspec.structs.asdict(own), queue_bytes=service.http.queue_bytes, max_body_bytes=service.http.max_body_bytes
    )
    desk: DeadLetterDesk = core.needed["dead_letters"]
    tracer = core.needed["traces"]
    # Without TRACES_ENDPOINT the part `traces` has no value.
    tracing: Tracing = tracer or NO_TRACING
    async with AsyncExitStack() as opened:
        journal = None
        if service.storage.durability != "memory":
            log = await opened.enter_async_context(core.world.open_log(service.storage, EVENTS_LOG))
            journal = await open_journal(log, settings.journal_max_bytes)
        # The journal comes before the sinks, so it is closed after them.
        contexts = []
        for sink in chosen.sinks:
            target = await opened.enter_async_context(sink.open(service.storage))
            contexts.append(SinkContext(sink.name, target, sink.delivery, desk.store, tracing))
        engine = make_engine(contexts, settings, journal, tracing)
        targets = {sink_source(each.name): sink_target(each.redeliver, each.max_batch) for each in engine.deliveries}
        # Through the deliveries: a replayed event meets the sink's time-out, breaker and counts like any other.
        opened.enter_context(desk.replaying_to(targets))
        tap, rejected, refused = engine.intake.tap, core.ingress.rejected_feed, RefusalCounts()
        status = EngineStatus(engine, settings.queue_bytes, refused.by_reason, trio.current_time())
        yield RunningPart(
            value=engine,
            endpoints=(
                # With `tracer` and not `tracing`: None leaves the routes as they are, without a call more for each
                # request.
                *make_event_endpoints(
                    settings, service.http.cors_origins, engine, core.ingress, tracer, refused.by_reason
                ),
                *make_operator_endpoints(tap, rejected),
            ),
            panels=PANELS,
            metrics=(*engine.metrics, refused),
            status=PartStatus(EventsStatus, status.snapshot, status.tick),
            run=engine.run,
            drain=engine.drain,
            # Ends the streams of rejected events too: `make_operator_endpoints` has tied them to the tap.
            end_streams=tap.close,
            give_up=engine.give_up,
            why_not_ready=engine.why_not_ready,
            settled=engine.settled,
            show=engine.show,
        )
