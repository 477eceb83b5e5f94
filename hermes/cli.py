"""The command line: ``hermes serve``, ``hermes sinks``, ``hermes config check``, ``hermes load``.

Invariant: what an operator did wrong is one line on stderr and exit code 2; a traceback is a bug of ours.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from typing import Any

import click
import msgspec
import structlog
import trio
from rich.console import Console
from rich.table import Column, Table

from hermes import __version__
from hermes.app import Running, serve
from hermes.config import Settings, Variable, describe, read_settings
from hermes.errors import ConfigError, PluginError
from hermes.http.listen import open_tls_context
from hermes.load.command import load
from hermes.logs import configure_logs, log_style
from hermes.sink import (
    ConfiguredSink,
    DeliverySettings,
    configure_sinks,
    installed_sinks,
    load_plugin,
    variable_prefix,
)

_EXAMPLE = '{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000,"payload":{"title":"Alive"}}'

_MISSPELT = 0.85  # similarity, as difflib measures it, from which an undeclared variable is taken for a misspelling
_STUCK_SECONDS = 5.0  # how long what was cancelled may take to end, and then the process ends without it


def _tells_the_operator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what the operator can mend into one line."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        mistake: BaseException
        try:
            return command(*args, **kwargs)
        except* (ConfigError, PluginError) as group:
            mistake = group
        while isinstance(mistake, BaseExceptionGroup):
            mistake = mistake.exceptions[0]
        click.echo(f"hermes: {mistake}", err=True)
        # Not inside except*: Python 3.11.2, Debian 12's, would wrap the exit in a group.
        sys.exit(2)

    return run


def _configure() -> tuple[Settings, list[ConfiguredSink]]:
    """What the environment says, checked as far as can be without opening a socket or a sink.

    Raises `ConfigError` or `PluginError`.
    """
    settings = read_settings(os.environ)
    sinks = configure_sinks(settings.sink_names(), os.environ)
    for sink in sinks:
        if sink.plugin.check is not None:
            sink.plugin.check(sink.settings, settings)
    if settings.tls_cert:
        open_tls_context(settings.tls_cert, settings.tls_key)
    return settings, sinks


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hermes")
def main() -> None:
    """Hermes takes events in over HTTP, keeps them safe and delivers them to sinks.

    Settings are variables of the environment; `hermes config check` lists them with their values.
    """


main.add_command(load)


@main.command("serve")
@_tells_the_operator
def serve_command() -> None:
    """Run the service until SIGTERM or SIGINT.

    The first signal drains: what was accepted is delivered, within SHUTDOWN_TIMEOUT. A second one stops at once.

    Exit code 0: everything accepted has its outcome in every sink. 1: not so, and the log says how much. 2: a setting
    is wrong.
    """
    settings, sinks = _configure()
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
            structlog.get_logger("hermes").error("stuck after the deadline", undelivered=running.undelivered())
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
    scheme = "https" if settings.tls_cert else "http"
    host = settings.http_addr.host or "localhost"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{running.addresses[0][1]}"
    structlog.get_logger("hermes").info("serving", url=url, sinks=",".join(settings.sink_names()), version=__version__)
    if settings.sink_names() == ("null",):
        structlog.get_logger("hermes").warning("the null sink keeps nothing: set SINKS=sqlite, or DB_DSN for postgres")
    if log_style(settings.log_format) == "console":
        key = " -H 'X-API-Key: YOUR_KEY'" if settings.api_keys else ""
        click.echo(f"\nHermes listens on {url}\nTry:  curl -i {url}/events{key} -d '{_EXAMPLE}'\n", err=True)


@main.command("sinks")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@_tells_the_operator
def list_sinks(as_json: bool) -> None:
    """List the sinks that are installed, with the variables they declare."""
    rows = []
    for name, point in sorted(installed_sinks().items()):
        row: dict[str, Any] = {"name": name, "package": point.dist.name if point.dist else "", "usable": True}
        try:
            plugin = load_plugin(point)
        except PluginError as error:
            row |= {"usable": False, "summary": str(error), "variables": []}
        else:
            variables = [v.name for v in describe(plugin.settings, variable_prefix(name))]
            row |= {"summary": plugin.summary, "variables": variables}
        rows.append(row)
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    table = _table("sink", "package", Column("what it does", ratio=1), "its settings")
    for row in rows:
        table.add_row(row["name"], row["package"], row["summary"], "\n".join(row["variables"]))
    _print(table)
    common = ", ".join(variable.name for variable in describe(DeliverySettings, "SINK_<NAME>_"))
    click.echo(f"\nEvery sink also takes {common}.")


@main.group()
def config() -> None:
    """Look at the settings."""


@config.command("check")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@_tells_the_operator
def check_config(as_json: bool) -> None:
    """Validate the environment and print what `hermes serve` would run.

    Exit code 2 where it would not start for what the settings say. Neither the address nor what a sink connects to is
    tried. A variable that looks like a misspelt setting is a warning on stderr.
    """
    settings, sinks = _configure()
    rows = _values(Settings, settings, "")
    for sink in sinks:
        prefix = variable_prefix(sink.name)
        rows += _values(sink.plugin.settings, sink.settings, prefix)
        rows += _values(DeliverySettings, sink.delivery, prefix)
    _warn_of_misspellings(variable.name for variable, _, _ in rows)
    if as_json:
        click.echo(msgspec.json.encode({variable.name: shown for variable, shown, _ in rows}))
        return
    table = _table("variable", Column("value", overflow="fold"), Column("meaning", ratio=1))
    for variable, shown, changed in rows:
        table.add_row(variable.name, shown, variable.description, style="" if changed else "dim")
    _print(table)
    click.echo(f"\nThe settings are valid. Hermes would listen on {settings.http_addr}", nl=False)
    click.echo(f" and deliver to {', '.join(settings.sink_names())}.")


def _warn_of_misspellings(declared: Iterable[str]) -> None:
    """The environment is full of what is not ours, so a name that is almost a setting's is no error."""
    names = [each for name in declared for each in (name, f"{name}_FILE")]
    for name in sorted(set(os.environ).difference(names)):
        # What begins with SINK_ is declared, refused before, or that of a sink which is not in use.
        if not name.startswith("SINK_") and (close := get_close_matches(name.upper(), names, 1, _MISSPELT)):
            click.echo(f"hermes: {name} is no setting, so it has no effect: did you mean {close[0]}?", err=True)


def _table(*columns: Column | str) -> Table:
    """A table without lines. A column given by name alone is what one copies, so it is never cut."""
    return Table(
        *(Column(column, no_wrap=True) if isinstance(column, str) else column for column in columns),
        box=None,
        header_style="bold",
    )


def _print(table: Table) -> None:
    """Print it as it is: brackets in a value or in the name of an extra are no markup."""
    Console(markup=False, highlight=False).print(table)


def _values(group: type[msgspec.Struct], values: msgspec.Struct, prefix: str) -> list[tuple[Variable, str, bool]]:
    """Each variable of a group with its value as text (secrets hidden), and whether it differs from the default."""
    rows = []
    for variable in describe(group, prefix):
        value = getattr(values, variable.field)
        shown = "(hidden)" if variable.secret and value else variable.show(value)
        rows.append((variable, shown, value != variable.default))
    return rows
