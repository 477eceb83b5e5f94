"""A running service in the test's own process: the whole nursery tree on a free port, with a scripted sink behind it.

    async with open_service(queue_size=10) as service:
        service.sink.stall()
        ...  # talk to service.host, service.port

Invariant: leaving the block stops the service (gracefully, unless the block raised) and leaves nothing behind in the
process. Used by the integration tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import trio

import hermes.app
from hermes.app import Running, serve
from hermes.config import Address, NoSettings
from hermes.configuration import Configuration
from hermes.dead_letters.part import DEAD_LETTERS
from hermes.dead_letters.settings import DeadLetterSettings
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.engine.engine import Engine
from hermes.events.part import EVENTS, with_sinks
from hermes.events.settings import EventSettings
from hermes.events.sink import DeliverySettings
from hermes.part import ConfiguredPart, ReadSettings
from hermes.testing.fakes import ScriptedSink
from hermes.traces.part import TRACES
from hermes.traces.settings import TraceSettings
from tests.settings import Chosen

_STOP_SECONDS = 20.0


def configuration_of(settings: Chosen, sinks: Sequence[ConfiguredSink]) -> Configuration:
    """The configuration of a service whose events go to these sinks."""
    parts = (
        ConfiguredPart(DEAD_LETTERS, ReadSettings(settings.group(DeadLetterSettings), ())),
        ConfiguredPart(TRACES, ReadSettings(settings.group(TraceSettings), ())),
        ConfiguredPart(EVENTS, with_sinks(settings.group(EventSettings), sinks)),
    )
    return Configuration(settings.service, parts)


def engine_of(running: Running) -> Engine:
    """The part of a running service that takes events and delivers them."""
    engine: Engine = running.parts["events"].value
    return engine


class Service:
    """One running service. ``sink`` is what it delivers to; ``running`` is what `hermes.app.serve` tells."""

    def __init__(self, sink: ScriptedSink, delivery: DeliverySettings, settings: Chosen) -> None:
        self.sink = sink
        self.delivery = delivery
        self.settings = settings
        self.running: Running
        self.clean: bool | None = None
        self._stop = trio.Event()
        self._ended = trio.Event()

    @property
    def engine(self) -> Engine:
        """The part that takes events and delivers them."""
        return engine_of(self.running)

    @property
    def host(self) -> str:
        return self.running.edges.addresses[0][0]

    @property
    def port(self) -> int:
        return self.running.edges.addresses[0][1]

    @property
    def url(self) -> str:
        """Where it takes events."""
        return f"http://{self.host}:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where operators are answered."""
        return "http://{}:{}".format(*self.running.edges.admin_addresses[0])

    @property
    def accepted(self) -> int:
        """Events answered with 202 so far, as admission counts them."""
        return self.engine.intake.accepted

    def begin_stop(self) -> None:
        """What the first SIGTERM does: ask for a graceful stop, and return at once."""
        self._stop.set()

    async def stop(self) -> bool:
        """Stop gracefully. True: every accepted event has its outcome (exit code 0)."""
        self._stop.set()
        with trio.fail_after(_STOP_SECONDS):
            await self._ended.wait()
        return bool(self.clean)

    async def _run(self, task_status: trio.TaskStatus[Running]) -> None:
        plugin = ConfiguredSink("scripted", self.sink.plugin(), NoSettings(), self.delivery)
        self.clean = await serve(configuration_of(self.settings, [plugin]), self._stop, task_status)
        for delivery in self.engine.deliveries:
            account = delivery.account()
            assert account.balanced, account
            assert account.in_flight == 0, account
        self._ended.set()


@asynccontextmanager
async def open_service(
    sink: ScriptedSink | None = None, delivery: DeliverySettings | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """A service with these settings, by their names; a `ScriptedSink` if none is given.

    It listens on free ports of 127.0.0.1, keeps its journal in a temporary folder of its own, flushes after 5 ms and
    stops within 5 s, unless told otherwise. A test that opens a service on what another has left names the folder, as
    ``hermes_data_dir``.
    """
    # The collector is set for a process of the service's own; here it would walk whatever all tests have left.
    collector = mock.patch.object(hermes.app, "_freeze_garbage_collector")
    with TemporaryDirectory(prefix="hermes-service-") as folder, collector:
        chosen = {
            "http_addr": Address("127.0.0.1", 0),
            "admin_addr": Address("127.0.0.1", 0),
            "hermes_data_dir": Path(folder),
            "flush_interval": 0.005,
            "shutdown_timeout": 5.0,
            **settings,
        }
        service = Service(sink or ScriptedSink(), delivery or DeliverySettings(backoff=0.01), Chosen(**chosen))
        async with trio.open_nursery() as nursery:
            service.running = await nursery.start(service._run)
            yield service
            await service.stop()
