"""The broker inside the service: its tasks, its endpoints, and its dead letters in the store of all parts.

dead letters ── burial ── keeper · sequencer ── around ── TCP server, HTTP           ← a stop begins here
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hermes.broker.burial import SOURCE, Burial
from hermes.broker.http.calls import Calls
from hermes.broker.http.data import DataEndpoints
from hermes.broker.http.operating import OperatingEndpoints
from hermes.broker.http.polls import Polls
from hermes.broker.metrics import BrokerMetrics
from hermes.broker.opening import BROKER_LOG, open_broker
from hermes.broker.settings import BrokerSettings
from hermes.core import Core
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.dead_letters.replay import Target
from hermes.net.control.panel import Panel
from hermes.part import Inside, RunningPart

_MOST_REPLAYED = 500


@asynccontextmanager
async def open_running(settings: BrokerSettings, core: Core) -> AsyncIterator[RunningPart]:
    """Open the broker as a part. Raises as `open_broker`."""
    desk: DeadLetterDesk = core.needed["dead_letters"]
    async with (
        core.world.open_log(core.settings.storage, BROKER_LOG) as log,
        open_broker(settings, log, alone=True) as broker,
    ):
        burial = Burial(broker.sequencer, desk.store)
        polls = Polls(broker.sequencer)
        calls = Calls(broker.node, broker.bounds)
        data = DataEndpoints(calls, polls)

        async def run(inside: Inside) -> None:
            # Around the broker's own tasks: the last dead letters of a stop stay in the log for the next start.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(burial.run)
                await broker.run(inside)
                nursery.cancel_scope.cancel()

        with desk.replaying_to({SOURCE: Target(burial.replay, _MOST_REPLAYED)}):
            yield RunningPart(
                value=broker,
                run=run,
                endpoints=(*data.declare(), *OperatingEndpoints(calls, data).declare()),
                listeners=[broker.server],
                panels=[Panel("broker", "Broker", "hermes.broker", "panel.js")],
                metrics=[BrokerMetrics(broker.node, broker.sequencer.since_commit_ms)],
                # A poll may wait five minutes, and the stop waits for all answers.
                drain=lambda _within: polls.stop(),
            )
