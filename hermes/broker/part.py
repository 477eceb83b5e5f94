"""Declares the broker as a part of the service.

Invariant: nothing here imports the machine or the server, so that a list of the commands is quick.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hermes.broker.settings import BrokerSettings
from hermes.part import Part, RunningPart

if TYPE_CHECKING:
    from hermes.core import Core


@asynccontextmanager
async def _open(settings: BrokerSettings, core: Core) -> AsyncIterator[RunningPart]:
    # Here: the machine and the server are not imported for a list of the commands.
    from hermes.broker.metrics import BrokerMetrics
    from hermes.broker.opening import BROKER_LOG, open_broker

    async with (
        core.world.open_log(core.settings.storage, BROKER_LOG) as log,
        # A service with this part is a node by itself: no client has to bootstrap it.
        open_broker(settings, log, alone=True) as broker,
    ):
        yield RunningPart(
            value=broker,
            run=broker.run,
            listeners=[broker.server],
            metrics=[BrokerMetrics(broker.node, broker.sequencer.since_commit_ms)],
        )


BROKER = Part(
    "broker",
    "Keeps messages in topics, and leases them to groups, for clients over TCP",
    _open,
    settings=BrokerSettings,
)
