"""``hermes serve``: the service until a signal, and the exit code that says how it ended."""

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

from hermes import __version__
from hermes.cleanup import end_by, left_behind
from hermes.cli.manual import Manual, ManualCommand
from hermes.cli.operator import configure, tells_the_operator
from hermes.cli.strays import find_strays
from hermes.cli.values import complete_parts
from hermes.config import Address, Settings
from hermes.descriptors import descriptor_limit, raise_descriptor_limit, share, wanted_descriptors
from hermes.logs import configure_logs, log_style

if TYPE_CHECKING:
    from hermes.app import Running
    from hermes.configuration import Configuration

_EXAMPLE = '{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"title":"Alive"}}'
_STDERR = 2
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2)  # by default they would end the process, and there is no use for them
_AT_ONCE_SECONDS = 0.5  # for what has to be cleaned up when a second signal has come
_LAST_SAVE_SECONDS = 1.0
_STUCK_SECONDS = 5.0  # how long what was cancelled may take to end, and then the process ends without it


_MANUAL = Manual(
    examples=(
        ("Keep events in a file of SQLite, with no server:", "SINKS=sqlite hermes serve"),
        ("Keep them in Postgres:", "DB_DSN=postgresql://hermes@localhost/events hermes serve"),
        ("Print them, a line of JSON each:", "SINKS=stdout hermes serve"),
        ("Secrets out of files:", "DB_DSN_FILE=/run/secrets/dsn API_KEYS_FILE=/run/secrets/keys hermes serve"),
        ("On another port, with HTTPS:", "HTTP_ADDR=:8443 TLS_CERT=cert.pem TLS_KEY=key.pem hermes serve"),
    ),
    exits={
        0: "Everything that was accepted has its outcome in every sink; to stay in the journal is one.",
        1: "Not so: the time was up, or a second signal came. The log says how many events, for each sink. Or the "
        "journal's storage does not work, or the account does not add up.",
        2: "A setting is wrong, or the journal is damaged. One line on stderr says which, and what to do.",
    },
    environment={
        "HTTP_ADDR": "Where it listens; :8080 unless told.",
        "ADMIN_ADDR": "The dashboard and the dead letters; 127.0.0.1:8081 unless told, off: none.",
        "SINKS": "Comma list of sinks; postgres with a DB_DSN, else null, which keeps nothing.",
        "DURABILITY": "What a 202 promises: disk (unless told), postgres or memory.",
        "SHUTDOWN_TIMEOUT": "How long a stop may take; 30s unless told.",
        "LOG_FORMAT": "console, json, or auto: console on a terminal alone.",
    },
    files={
        "hermes-data/": "All that is kept on disk, readable for its owner alone; HERMES_DATA_DIR names another.",
    },
    see_also=("hermes config check", "hermes config explain", "hermes top", "hermes load"),
)


@click.command("serve", cls=ManualCommand, manual=_MANUAL)
@click.argument("parts", nargs=-1, metavar="[PART]...", shell_complete=complete_parts)
@tells_the_operator
def serve_command(parts: tuple[str, ...]) -> None:
    """Run the service until SIGTERM, SIGINT or SIGQUIT.

    PART is a part of Hermes to run, in the place of those in PARTS, which is `events` unless told; `all` is every part.
    Events are taken at POST /events and delivered to every sink in SINKS. The first signal drains: what was accepted is
    delivered, within SHUTDOWN_TIMEOUT. A second one stops at once. SIGHUP reads the keys and the certificate anew, as
    does a change of their files. The log goes to stderr.
    """
    for number in (signal.SIGHUP, *_HARMLESS):  # which would end a service that is about to start
        signal.signal(number, signal.SIG_IGN)
    configuration = configure(parts)
    settings = configuration.settings
    strays = find_strays(os.environ, configuration)
    configure_logs(settings.log_level, settings.log_format)
    for stray in strays:
        structlog.get_logger("hermes").warning("a variable has no effect", variable=stray.name, why=stray.why)
    raise_descriptor_limit()
    _compare_with_descriptors(settings.max_connections)
    clean, hanging = trio.run(_serve_until_signalled, configuration)
    if hanging or not clean:
        _leave(0 if clean else 1)


def _compare_with_descriptors(max_connections: int) -> None:
    """Say that there are fewer connections than MAX_CONNECTIONS, if so: not when the first client finds none."""
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
    """Whether every event has its outcome, and how many threads were left behind in calls that hang."""
    stop = trio.Event()
    clean = False
    settings = configuration.settings

    async def run(task_status: trio.TaskStatus[Running]) -> None:
        nonlocal clean
        clean = await serve(configuration, stop, task_status)
        nursery.cancel_scope.cancel()

    with _end_of_the_interpreter(), trio.open_signal_receiver(*_STOPPING, signal.SIGHUP, *_HARMLESS) as signals:
        from hermes.app import serve  # the whole service, which the help of this command does without
        from hermes.cli.reload import Reloader

        async with trio.open_nursery() as nursery:
            obeying = _Signals(stop, nursery.cancel_scope, settings.shutdown_timeout)
            nursery.start_soon(obeying.obey, signals)
            running: Running = await nursery.start(run)
            reloader = Reloader(configuration, running.edges.access)
            obeying.serving, obeying.reload = True, reloader.ask
            nursery.start_soon(reloader.run)
            _greet(settings, running)
            await stop.wait()
            await trio.sleep(settings.shutdown_timeout + _STUCK_SECONDS / 5)
            await _end_without(running)
    # A stop while the parts are opened finds nothing that was accepted.
    return clean or not obeying.serving, left_behind()


@contextmanager
def _end_of_the_interpreter() -> Iterator[None]:
    """After a crash it is bounded: it closes SQLite's connections, and waits for a thread that hangs in one of them."""
    try:
        yield
    finally:
        if left_behind():
            faulthandler.dump_traceback_later(_STUCK_SECONDS, exit=True)


class _Signals:
    """What each signal asks for: a graceful stop within ``timeout`` seconds, its end at once, a reload, or nothing."""

    def __init__(self, stop: trio.Event, everything: trio.CancelScope, timeout: float) -> None:
        self.reload: Callable[[], None] = lambda: None
        """What SIGHUP calls; nothing until the service runs, for all was read just now."""
        self.serving = False
        """Whether events may have been accepted. Before, a server that hangs may hold up the start."""
        self._stop = stop
        self._everything = everything
        self._timeout = timeout
        self._on_terminal = os.isatty(_STDERR)

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Obey every signal, until cancelled."""
        log = structlog.get_logger("hermes")
        async for number in signals:
            name = signal.Signals(number).name
            # A terminal that is closed sends SIGHUP too; nobody would stop the service that was started there.
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
        # A loop that hangs cannot end anything: this names the call on stderr and exits with 1.
        faulthandler.dump_traceback_later(timeout + _STUCK_SECONDS, exit=True)

    def _lost_terminal(self) -> bool:
        return self._on_terminal and not os.isatty(_STDERR)


async def _end_without(running: Running) -> None:
    """End the process although a task does not let itself be cancelled: a sink's call on a thread hangs, for example.

    What is known is told and saved before: the accounts as they stand, where the thread is, and how far the sinks came.
    """
    faulthandler.dump_traceback()
    end_by(trio.current_time() + _LAST_SAVE_SECONDS)
    for part in running.parts.values():
        await part.give_up()
    _leave(1)


def _leave(code: int) -> NoReturn:
    """End the process without waiting for a thread that was left behind, as the interpreter's own end may do."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _greet(settings: Settings, running: Running) -> None:
    log = structlog.get_logger("hermes")
    url = _url(settings.http_addr, running.edges.addresses, bool(settings.tls_cert))
    places = {"url": url}
    if (admin := settings.admin_addr) is not None:
        places["admin"] = _url(admin, running.edges.admin_addresses, bool(settings.tls_cert) and not admin.is_loopback)
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
