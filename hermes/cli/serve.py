"""``hermes serve``: runs the service until a signal, and ends with an exit code that says how.

Invariant: the process ends within SHUTDOWN_TIMEOUT plus a few seconds, whatever hangs.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
import structlog
import trio

from hermes.base.cleanup import end_by, left_behind
from hermes.config import Address
from hermes.console.manual import Manual, ManualCommand
from hermes.console.operator import configure, sink_names, tells_the_operator
from hermes.console.strays import find_strays
from hermes.console.values import complete_parts
from hermes.net.descriptors import descriptor_limit, raise_descriptor_limit, share, wanted_descriptors
from hermes.observe.log_lines import configure_logs, log_style
from hermes.version import __version__

if TYPE_CHECKING:
    from hermes.app import Running
    from hermes.configuration import Configuration

_EXAMPLE = '{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"title":"Alive"}}'
_STDERR = 2
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# By default these signals end the process, and Hermes has no use for them.
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2)
# For the clean-up after a second signal.
_AT_ONCE_SECONDS = 0.5
# For the last accounts and the sinks' progress when a task cannot be cancelled.
_LAST_SAVE_SECONDS = 1.0
# A cancelled task may take this long to end; then the process ends without it.
_STUCK_SECONDS = 5.0


_MANUAL = Manual(
    examples=(
        ("Keep events in a file of SQLite, with no server:", "SINKS=sqlite hermes serve"),
        ("Keep them in Postgres:", "DB_DSN=postgresql://hermes@localhost/events hermes serve"),
        ("Print them, a line of JSON each:", "SINKS=stdout hermes serve"),
        ("Secrets out of files:", "DB_DSN_FILE=/run/secrets/dsn API_KEYS_FILE=/run/secrets/keys hermes serve"),
        ("On another port, with HTTPS:", "HTTP_ADDR=:8443 TLS_CERT=cert.pem TLS_KEY=key.pem hermes serve"),
    ),
    exits={
        0: "Every accepted event has its outcome in every sink; to stay in the journal is an outcome.",
        1: "Events have no outcome, because the time was up or a second signal came: the log says how many, for each "
        "sink. Or the journal's storage does not work, or the account does not add up.",
        2: "A setting is wrong, or the journal is damaged. One line on stderr says which, and what to do.",
    },
    environment={
        "HTTP_ADDR": "The address for events; :8080 unless told.",
        "ADMIN_ADDR": "The address of the dashboard and the dead letters; 127.0.0.1:8081 unless told, off: none.",
        "SINKS": "Comma list of sinks; postgres with a DB_DSN, else null, which keeps nothing.",
        "DURABILITY": "What a 202 promises: disk (unless told), postgres or memory.",
        "SHUTDOWN_TIMEOUT": "How long a stop may take; 30s unless told.",
        "LOG_FORMAT": "console, json, or auto: console only on a terminal.",
    },
    files={
        "hermes-data/": "Everything on disk, readable for its owner alone; HERMES_DATA_DIR names another folder.",
    },
    see_also=("hermes config check", "hermes config explain", "hermes top", "hermes load"),
)


@click.command("serve", cls=ManualCommand, manual=_MANUAL)
@click.argument("parts", nargs=-1, metavar="[PART]...", shell_complete=complete_parts)
@tells_the_operator
def serve_command(parts: tuple[str, ...]) -> None:
    """Run the service until SIGTERM, SIGINT or SIGQUIT.

    PART is a part of Hermes to run, instead of PARTS, which is `events` by default; `all` is every part. Events are
    taken at POST /events and delivered to every sink in SINKS. The first signal drains: accepted events are delivered,
    within SHUTDOWN_TIMEOUT. A second one stops at once. SIGHUP reads the keys and the certificate anew, as
    does a change of their files. The log goes to stderr.
    """
    # Until the receiver below is open, these signals would end a service that is about to start.
    for number in (signal.SIGHUP, *_HARMLESS):
        signal.signal(number, signal.SIG_IGN)
    configuration = configure(parts)
    settings = configuration.settings
    # Before the start: with API_KEY in the place of API_KEYS the service would run open to all.
    strays = find_strays(configuration)
    configure_logs(settings.logs.log_level, settings.logs.log_format)
    for stray in strays:
        structlog.get_logger("hermes").warning("a variable has no effect", variable=stray.name, why=stray.why)
    # After the logs are configured, so that a warning has their form.
    raise_descriptor_limit()
    _compare_with_descriptors(settings.http.max_connections)
    clean, hanging = trio.run(_serve_until_signalled, configuration)
    # The interpreter's own end waits for threads, so the process ends without it.
    if hanging or not clean:
        _leave(0 if clean else 1)


def _compare_with_descriptors(max_connections: int) -> None:
    """Warn at the start if the descriptors allow fewer connections than MAX_CONNECTIONS."""
    limit = descriptor_limit()
    shares = share(limit, max_connections)
    if shares.data < max_connections:
        wanted = wanted_descriptors(max_connections)
        structlog.get_logger("hermes").warning(
            "fewer connections than MAX_CONNECTIONS",
            connections=shares.data,
            descriptors=limit,
            mend=f"ulimit -n {wanted}, LimitNOFILE={wanted} of systemd, or a lower MAX_CONNECTIONS",
        )


async def _serve_until_signalled(configuration: Configuration) -> tuple[bool, int]:
    """Serve; return whether every event has its outcome, and the number of threads left behind in calls that hang."""
    stop = trio.Event()
    clean = False
    settings = configuration.settings

    async def run(task_status: trio.TaskStatus[Running]) -> None:
        nonlocal clean
        clean = await serve(configuration, stop, task_status)
        # The service has ended: the signals, the reloads and the wait for a stuck service end with it.
        nursery.cancel_scope.cancel()

    with _end_of_the_interpreter(), trio.open_signal_receiver(*_STOPPING, signal.SIGHUP, *_HARMLESS) as signals:
        # Imports the whole service, which the help of this command does not need. Inside of the receiver, so that a
        # signal during the import stops the start.
        from hermes.app import serve
        from hermes.cli.reload import Reloader

        async with trio.open_nursery() as nursery:
            obeying = _Signals(stop, nursery.cancel_scope, settings.run.shutdown_timeout)
            # Before the start: a database that hangs may hold the start up, and a signal has to end the start.
            nursery.start_soon(obeying.obey, signals)
            running: Running = await nursery.start(run)
            reloader = Reloader(configuration, running.edges.access)
            obeying.serving, obeying.reload = True, reloader.ask
            nursery.start_soon(reloader.run)
            _greet(configuration, running)
            await stop.wait()
            # `run` cancels this wait as soon as the service has ended; only a stuck service lets it pass. A fifth, for
            # the accounts and the progress need time before faulthandler ends the process, at `_STUCK_SECONDS`.
            await trio.sleep(settings.run.shutdown_timeout + _STUCK_SECONDS / 5)
            await _end_without(running)
    # A stop while the parts are still opening is clean: nothing was accepted.
    return clean or not obeying.serving, left_behind()


@contextmanager
def _end_of_the_interpreter() -> Iterator[None]:
    """Bound the end of the interpreter after a crash.

    The interpreter closes SQLite's connections, and waits for a thread that hangs in one of them.
    """
    try:
        yield
    finally:
        if left_behind():
            faulthandler.dump_traceback_later(_STUCK_SECONDS, exit=True)


class _Signals:
    """Acts on each signal: a graceful stop within ``timeout`` seconds, a stop at once, a reload, or nothing."""

    def __init__(self, stop: trio.Event, everything: trio.CancelScope, timeout: float) -> None:
        self.reload: Callable[[], None] = lambda: None
        """The function that SIGHUP calls. Does nothing until the service runs, because the settings are fresh then."""
        self.serving = False
        """Whether events may have been accepted. Before that, a server that hangs may hold up the start."""
        self._stop = stop
        self._everything = everything
        self._timeout = timeout
        # Asked at the start: later only the difference tells that the terminal has closed.
        self._on_terminal = os.isatty(_STDERR)

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Act on every signal, until cancelled."""
        log = structlog.get_logger("hermes")
        async for number in signals:
            name = signal.Signals(number).name
            # A closing terminal sends SIGHUP too. A reload then would leave a service that nobody can stop.
            if number in _STOPPING or (number == signal.SIGHUP and self._lost_terminal()):
                self._end(name)
            elif number != signal.SIGHUP:
                log.info("a signal without effect", signal=name)
            elif not self._stop.is_set():
                self.reload()

    def _end(self, name: str) -> None:
        timeout = self._timeout
        if self._stop.is_set() or not self.serving:
            log = structlog.get_logger("hermes")
            if self._stop.is_set():
                log.error("stopping at once", signal=name)
            else:
                log.info("stopped before it was started", signal=name)
            self._everything.cancel()
            end_by(trio.current_time() + _AT_ONCE_SECONDS)
            timeout = 0.0
        self._stop.set()
        # A run loop that hangs cannot end the process. faulthandler's own thread can: it prints the stack and exits
        # with 1.
        faulthandler.dump_traceback_later(timeout + _STUCK_SECONDS, exit=True)

    def _lost_terminal(self) -> bool:
        return self._on_terminal and not os.isatty(_STDERR)


async def _end_without(running: Running) -> None:
    """End the process although a task cannot be cancelled, for example because a sink's call on a thread hangs.

    Before that, the process reports the accounts as they stand and the stack of the thread, and saves the sinks'
    progress.
    """
    # First: what follows may hang as well, and the stack shows the operator the call that hangs.
    faulthandler.dump_traceback()
    end_by(trio.current_time() + _LAST_SAVE_SECONDS)
    for part in running.parts.values():
        await part.give_up()
    _leave(1)


def _leave(code: int) -> NoReturn:
    """End the process without waiting for a thread that was left behind, as the interpreter's own end might."""
    # os._exit drops buffered output.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _greet(configuration: Configuration, running: Running) -> None:
    settings, file = configuration.settings, configuration.sources.file
    log, sinks = structlog.get_logger("hermes"), sink_names(configuration)
    tls = bool(settings.access.tls_cert)
    url = _url(settings.http.http_addr, running.edges.addresses, tls)
    places = {"url": url}
    if (admin := settings.admin.admin_addr) is not None:
        # On loopback ADMIN_ADDR speaks plain HTTP, whatever HTTP_ADDR speaks.
        places["admin"] = _url(
            admin, running.edges.admin_addresses, bool(settings.access.tls_cert) and not admin.is_loopback
        )
    if file is not None:
        places["config"] = str(file.path)
    log.info("serving", **places, sinks=",".join(sinks), version=__version__)
    # A newcomer who set nothing must learn that the events are not kept.
    if sinks == ("null",):
        log.warning("the null sink keeps nothing: set SINKS=sqlite, or DB_DSN for postgres")
    # For a person: a program that reads a log of JSON could not read these lines.
    if log_style(settings.logs.log_format) == "console":
        key = " -H 'X-API-Key: YOUR_KEY'" if settings.access.api_keys else ""
        lines = [f"Hermes listens on {url}", f"Try:  curl -i {url}/events{key} -d '{_EXAMPLE}'"]
        if "admin" in places:
            lines.append(f"See:  {places['admin']}/")
        click.echo("\n" + "\n".join(lines) + "\n", err=True)


def _url(address: Address, bound: Sequence[tuple[str, int]], tls: bool) -> str:
    # Without a host the service listens on all interfaces, and this name leads to one of them.
    host = address.host or "localhost"
    # The port of the socket: with port 0 in the settings the kernel has chosen one.
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{bound[0][1]}"
