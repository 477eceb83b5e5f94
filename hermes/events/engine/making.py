"""`make_engine`: the parts of an engine, made in the order in which they need each other.

Nothing is assigned to a part after it was made: a delivery calls a function of the admission when chunks are settled,
so the admission is made first.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from hermes.events.engine.admission import Admission, free_room
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.context import SinkContext
from hermes.events.engine.delivery import Delivery, ignore_settled
from hermes.events.engine.engine import Engine
from hermes.events.engine.intake import Intake, IntakeOptions
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.journal_intake import JournalIntake
from hermes.events.settings import EngineSettings
from hermes.observe.tracing import NO_TRACING, Tracing


def make_engine(
    sinks: Sequence[SinkContext],
    service: EngineSettings,
    journal: EventJournal | None = None,
    tracing: Tracing = NO_TRACING,
) -> Engine:
    """The engine before these sinks, at least one; ``journal`` is None with DURABILITY=memory.

    A request with ``Hermes-Ack: delivered`` waits for the required sinks; without a required sink, for the first.
    Raises `PluginError` for a sink that takes nothing.

    ::

        engine = make_engine([SinkContext("main", sink, DeliverySettings(), dead_letters)], Settings())
        await engine.run(serve)
    """
    required = [sink.name for sink in sinks if sink.settings.required]
    awaited = required or [sinks[0].name]
    admission = Admission(service.queue_size, service.queue_bytes)
    free = free_room(admission, trio.current_time)
    deliveries = []
    for sink in sinks:
        # With a journal events hold their room until they are committed. Without one, and where no sink is required,
        # the first sink that has settled a chunk frees its room.
        frees_room = journal is None and (not required or sink.name in required)
        on_settled = free if frees_room else ignore_settled
        deliveries.append(Delivery(sink, service, journal, awaited=sink.name in awaited, on_settled=on_settled))
    aggregator = Aggregator(service.aggregate_minutes)
    # Each known type has a count from the start, 0 at first, so that a rate of it can be asked for.
    if service.event_types != ("*",):
        aggregator.received.update(dict.fromkeys(service.event_types, 0))
    options = IntakeOptions(admission, service.backpressure_mode == "block", service.ack_timeout, tracing)
    if journal is None:
        intake = Intake(deliveries, aggregator, options)
    else:
        # After the deliveries, which have registered: the sinks that are left over are configured no more.
        journal.forget_unknown_sinks()
        intake = JournalIntake(deliveries, aggregator, options, journal)
    return Engine(intake, deliveries, journal, aggregator, service.aggregate_flush_interval)
