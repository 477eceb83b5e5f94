"""Opens the broker: its state out of the log, its tasks, and its address.

    keeper · sequencer ── around ── the TCP server                    ← a stop begins here

Invariant: before the first connection is accepted, every entry of the log is applied.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
import trio

from hermes.broker.keeper import Keeper
from hermes.broker.machine.commands import SetCaps, decode_entry
from hermes.broker.machine.machine import Machine
from hermes.broker.machine.snapshot import restore
from hermes.broker.node import Bounds, Node
from hermes.broker.payloads import Payloads
from hermes.broker.sequencer import Sequencer
from hermes.broker.settings import BrokerSettings, open_tls
from hermes.broker.tcp.server import TcpServer, open_tcp_server
from hermes.part import Inside
from hermes.store.log import Log

_log = structlog.get_logger("hermes.broker")

BROKER_LOG = "broker"
"""The name of the broker's log."""

_REPLAY_BYTES = 8 * 2**20


def unix_ms() -> int:
    """The time of this machine, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Broker:
    """An open broker."""

    node: Node
    sequencer: Sequencer
    server: TcpServer
    keeper: Keeper
    bounds: Bounds
    alone: str | None
    """The address under which a node that was never in a cluster forms one of itself; None to wait for a client."""

    async def run(self, inside: Inside) -> None:
        """Run the tasks around ``inside``, and return once everything that was accepted is committed."""
        async with trio.open_nursery() as outer:
            # Around the sequencer, whose last commits are part of the log that the keeper looks at.
            outer.start_soon(self.keeper.run)
            # The end of this block waits for the sequencer, which ends once its queue is empty.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sequencer.run)
                await outer.start(self.node.begin, self.alone)
                await inside()
                # After the connections have ended, which have put their last commands into the queue.
                self.sequencer.close()
            outer.cancel_scope.cancel()


@asynccontextmanager
async def open_broker(
    settings: BrokerSettings, log: Log, *, alone: bool, clock: Callable[[], int] = unix_ms
) -> AsyncIterator[Broker]:
    """Open the broker over its log. With ``alone`` a node that was never in a cluster forms one of itself.

    Raises `ConfigError` for an address where it cannot listen, `LogDamaged`, `LogUnavailable`. ::

        async with open_log(storage, BROKER_LOG) as log, open_broker(BrokerSettings(), log, alone=True) as broker:
            await broker.run(trio.sleep_forever)
    """
    machine, payloads = Machine(), Payloads(log, settings.hermesmq_cache_bytes)
    if log.snapshot is not None:
        machine = restore(log.snapshot.state)
    # Before the address is open: no client waits in a socket's queue while a long log is replayed.
    await replay(log, machine, payloads)
    sequencer = Sequencer(log, machine, payloads, clock)
    caps = SetCaps(settings.hermesmq_max_topics, settings.hermesmq_max_groups, int(settings.hermesmq_group_ttl * 1000))
    node = Node(settings.hermesmq_node_id, sequencer, caps)
    bounds = Bounds(
        max_frame=settings.hermesmq_max_frame,
        max_name_bytes=settings.hermesmq_max_name_bytes,
        max_visibility_ms=int(settings.hermesmq_max_visibility * 1000),
        token=settings.hermesmq_client_token.encode(),
    )
    most = settings.hermesmq_max_connections
    tls = open_tls(settings)
    with open_tcp_server(node, bounds, settings.hermesmq_client_addr, most, tls) as server:
        # A bootstrap names a peer address, and a node without peers has none: the clients' address takes its place.
        own = str(settings.hermesmq_client_addr) if alone else None
        yield Broker(node, sequencer, server, Keeper(log, machine, payloads), bounds, own)


async def replay(log: Log, machine: Machine, payloads: Payloads) -> None:
    """Apply the entries that the snapshot does not have."""
    # Not from the log's first entry on: entries below the snapshot stay in the log while a message has its payload
    # there.
    index = machine.next_index
    while index < log.next:
        records = await log.read(index, max_bytes=_REPLAY_BYTES)
        if not records:
            # The log has lost its last records, and has said so itself: there is nothing more to apply.
            break
        for record in records:
            entry = decode_entry(record.data)
            machine.apply(record.index, entry)
            # The latest payloads are in memory from the start, as if the process had not ended.
            payloads.keep(record.index, entry.commands)
            index = record.index + 1
        await trio.lowlevel.checkpoint()
