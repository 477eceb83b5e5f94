"""``hermesmqd``: the broker alone, with the options of HermesMQ's own daemon.

log ── broker ── the TCP server, the HTTP address                  ← a signal begins the stop here
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import click
import msgspec
import structlog
import trio
from prometheus_client import CollectorRegistry

from hermes.base.cleanup import end_by
from hermes.base.errors import ConfigError, HermesError
from hermes.broker.daemon_http import DaemonHttp
from hermes.broker.metrics import BrokerMetrics
from hermes.broker.opening import BROKER_LOG, Broker, open_broker
from hermes.broker.settings import BrokerSettings, check
from hermes.config import Address, Mistakes, about, try_read
from hermes.config.notation import ListenAddress
from hermes.net.listen import open_listeners
from hermes.observe.log_lines import configure_logs
from hermes.storage import open_log
from hermes.store.settings import Storage

_log = structlog.get_logger("hermes.broker")

_STOP_SECONDS = 10.0


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the daemon that the broker as a part of Hermes has no need of.

    >>> str(DaemonSettings().hermesmq_metrics_addr)
    '127.0.0.1:9600'
    """

    hermesmq_data_dir: Annotated[Path, about("folder of the log")] = Path("data")
    # Taken and checked although no peer connects, for command lines of HermesMQ name it.
    hermesmq_peer_addr: Annotated[ListenAddress, about("this node's name among its peers; nothing listens there")] = (
        Address("127.0.0.1", 7700)
    )
    hermesmq_metrics_addr: Annotated[ListenAddress, about("listen address for /health, /ready and /metrics")] = Address(
        "127.0.0.1", 9600
    )
    hermesmq_metrics_enabled: Annotated[bool, about("serve /metrics")] = True
    hermesmq_max_http_connections: Annotated[int, about("HTTP connections at once", ge=1)] = 256


_FLAGS = (
    "node-id",
    "data-dir",
    "client-addr",
    "peer-addr",
    "metrics-addr",
    "metrics-enabled",
    "client-token",
    # Without a peer protocol nobody asks for it: taken so that command lines of HermesMQ go on working.
    "peer-token",
)


def _variable(flag: str) -> str:
    return flag.replace("-", "_").upper()


def run(**flags: str | None) -> None:
    """Run the broker alone, until SIGINT or SIGTERM. The variables HERMESMQ_* say the same as the options."""
    configure_logs(os.environ.get("LOG_LEVEL", "info"), "auto")
    given = {f"HERMESMQ_{name.upper()}": text for name, text in flags.items() if text is not None}
    try:
        # HermesMQ's rule: a flag wins over its variable.
        broker, daemon = read_settings({**os.environ, **given})
        trio.run(_serve, broker, daemon)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(f"hermesmqd: {mistake}", err=True)
        # As click ends after a wrong option.
        sys.exit(2)
    except HermesError as error:
        click.echo(f"hermesmqd: {error}", err=True)
        sys.exit(1)


def read_settings(environ: Mapping[str, str]) -> tuple[BrokerSettings, DaemonSettings]:
    """The settings out of the environment. Raises `ConfigError` with every mistake.

    >>> read_settings({"HERMESMQ_NODE_ID": "2"})[0].hermesmq_node_id
    2
    """
    mistakes = Mistakes()
    broker = try_read(BrokerSettings, environ, mistakes)
    daemon = try_read(DaemonSettings, environ, mistakes)
    # Only settings that could be read have addresses to be looked at.
    mistakes.raise_any()
    if broker is None or daemon is None:
        raise ConfigError("the settings cannot be read")
    for variable, address in (
        ("HERMESMQ_CLIENT_ADDR", broker.hermesmq_client_addr),
        ("HERMESMQ_PEER_ADDR", daemon.hermesmq_peer_addr),
        ("HERMESMQ_METRICS_ADDR", daemon.hermesmq_metrics_addr),
    ):
        with mistakes.collect():
            _check_number(variable, address)
    with mistakes.collect():
        check(broker)
    mistakes.raise_any()
    return broker, daemon


def _check_number(variable: str, address: Address) -> None:
    """Refuse the name of a host, as HermesMQ's own daemon does."""
    try:
        ip_address(address.host or "0.0.0.0")  # noqa: S104 - no host means all interfaces
    except ValueError:
        raise ConfigError(
            f"{variable}={str(address)!r}: give the number of an address, such as 127.0.0.1:7600"
        ) from None


main = click.Command(
    "hermesmqd",
    callback=run,
    # Each as text, which the reader of the variables judges: a flag and its variable have the same rules.
    params=[click.Option([f"--{flag}"], help=f"Wins over HERMESMQ_{_variable(flag)}.") for flag in _FLAGS],
    help=run.__doc__,
)
"""The console script ``hermesmqd``."""


async def _serve(settings: BrokerSettings, daemon: DaemonSettings) -> None:
    # In this folder always: like HermesMQ's daemon this one has no DURABILITY to choose.
    storage = Storage(hermes_data_dir=daemon.hermesmq_data_dir)
    # Around everything: a signal that comes while a long log is replayed leads to an orderly stop too.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            open_log(storage, BROKER_LOG) as log,
            # Clients of HermesMQ send a Bootstrap to a fresh daemon, with the addresses that the nodes are to have.
            open_broker(settings, log, alone=False) as broker,
        ):
            with open_listeners(daemon.hermesmq_metrics_addr, "HERMESMQ_METRICS_ADDR") as sockets:
                http = _http(broker, daemon)
                listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]

                async def inside() -> None:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(broker.server.serve)
                        nursery.start_soon(trio.serve_listeners, http.answer, listeners)
                        _log.info("serving", clients=str(settings.hermesmq_client_addr), node=settings.hermesmq_node_id)
                        number = await anext(signals)
                        _log.info("stopping", signal=signal.Signals(number).name)
                        # The close of the log ends by then as well.
                        end_by(trio.current_time() + _STOP_SECONDS)
                        # Half of the time: a client that does not read must leave time for the commits of what all have
                        # asked.
                        with trio.move_on_after(_STOP_SECONDS / 2):
                            await broker.server.drain()
                        nursery.cancel_scope.cancel()

                await broker.run(inside)


def _http(broker: Broker, daemon: DaemonSettings) -> DaemonHttp:
    registry = None
    if daemon.hermesmq_metrics_enabled:
        # One of its own: the registry of the library has numbers of the process, which HermesMQ does not show.
        registry = CollectorRegistry()
        registry.register(BrokerMetrics(broker.node, broker.sequencer.since_commit_ms))
    ready = partial(_leader_is_known, broker)
    return DaemonHttp(registry, ready, daemon.hermesmq_max_http_connections)


def _leader_is_known(broker: Broker) -> bool:
    # HermesMQ's rule: a node that does not lead itself is ready too.
    return bool(broker.node.leader)


if __name__ == "__main__":
    main()
