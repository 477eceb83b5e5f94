"""`SinkContext`: one sink, its settings, and the objects that its delivery and its calls share."""

from __future__ import annotations

from dataclasses import dataclass, field

from hermes.dead_letters import DeadLetters
from hermes.events.engine.collectors import SinkNumbers
from hermes.events.sink import DeliverySettings, Sink
from hermes.observe.tracing import NO_TRACING, Tracing


@dataclass(frozen=True)
class SinkContext:
    """A sink as it stays from its start to its end.

    ``settings`` are the operator's for this sink, over its author's. ``numbers`` are added to by the delivery and by
    the calls, and read by the metrics.

    ::

        context = SinkContext("main", sink, DeliverySettings(timeout=5.0), dead_letters)
        delivery = Delivery(context, settings)
    """

    name: str
    sink: Sink
    settings: DeliverySettings
    dead_letters: DeadLetters
    tracing: Tracing = NO_TRACING
    numbers: SinkNumbers = field(default_factory=SinkNumbers)
