"""``hermes serve``: the service until a signal, and the exit code that says how it ended."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click
import structlog
import trio

from hermes import __version__
from hermes.app import Running, serve
from hermes.cli.operator import configure, tells_the_operator
from hermes.config import Address, Settings
from hermes.logs import configure_logs, log_style
from hermes.sink import ConfiguredSink

_EXAMPLE = '{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"title":"Alive"}}'
_STUCK_SECONDS = 5.0  # how long what was cancelled may take to end, and then the process ends without it


@click.command("serve")
@tells_the_operator
def serve_command() -> None:
    """Run the service until SIGTERM or SIGINT.

    The first signal drains: what was accepted is delivered, within SHUTDOWN_TIMEOUT. A second one stops at once.

    Exit code 0: everything accepted has its outcome in every sink. 1: not so, and the log says how much. 2: a setting
    is wrong.
    """
    settings, sinks = configure()
    configure_logs(settings.log_level, settings.log_format)
    sys.exit(0 if trio.run(_serve_until_signalled, settings, sinks) else 1)


async def _serve_until_signalled(settings: Settings, sinks: list[ConfiguredSink]) -> bool:
    stop = trio.Event()
    clean = False

    async def run(task_status: trio.TaskStatus[Running]) -> None:
        nonlocal clean
        clean = await serve(settings, sinks, stop, task_status)
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, signals, stop, nursery.cancel_scope, settings.shutdown_timeout)
            running: Running = await nursery.start(run)
            _greet(settings, running)
            await stop.wait()
            await trio.sleep(settings.shutdown_timeout + _STUCK_SECONDS / 5)
            # Still here: the accounts cannot be closed, for something does not let itself be cancelled.
            structlog.get_logger("hermes").error("stuck after the deadline", undelivered=running.books.undelivered())
    return clean


async def _obey_signals(signals: Any, stop: trio.Event, everything: trio.CancelScope, timeout: float) -> None:
    """The first signal asks for a graceful stop within ``timeout`` seconds, the second ends it."""
    async for number in signals:
        if stop.is_set():
            structlog.get_logger("hermes").error("stopping at once", signal=signal.Signals(number).name)
            everything.cancel()
            timeout = 0.0
        stop.set()
        # A blocking call on a thread cannot be cancelled: this names it on stderr and exits with 1.
        faulthandler.dump_traceback_later(timeout + _STUCK_SECONDS, exit=True)


def _greet(settings: Settings, running: Running) -> None:
    log = structlog.get_logger("hermes")
    url = _url(settings.http_addr, running.addresses, bool(settings.tls_cert))
    places = {"url": url}
    if (admin := settings.admin_addr) is not None:
        places["admin"] = _url(admin, running.admin_addresses, bool(settings.tls_cert) and not admin.is_loopback)
    log.info("serving", **places, sinks=",".join(settings.sink_names()), version=__version__)
    if settings.sink_names() == ("null",):
        log.warning("the null sink keeps nothing: set SINKS=sqlite, or DB_DSN for postgres")
    if log_style(settings.log_format) == "console":
        key = " -H 'X-API-Key: YOUR_KEY'" if settings.api_keys else ""
        lines = [f"Hermes listens on {url}", f"Try:  curl -i {url}/events{key} -d '{_EXAMPLE}'"]
        if "admin" in places:
            lines.append(f"See:  {places['admin']}/")
        click.echo("\n" + "\n".join(lines) + "\n", err=True)


def _url(address: Address, bound: Sequence[tuple[str, int]], tls: bool) -> str:
    host = address.host or "localhost"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{bound[0][1]}"
