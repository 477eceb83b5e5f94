"""Reads the settings of the environment for the commands, and prints each mistake as one line.

Invariant: importing this module is fast, because help and completion import it; slow imports stand where they are used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import click

from hermes.base.errors import ConfigError, LogDamaged, LogUnavailable, PluginError, StaleWriter
from hermes.base.quoting import printable
from hermes.config import Mistakes
from hermes.configuration import Configuration, collect_configuration, read_environment
from hermes.console.strays import Stray, find_strays
from hermes.events.part import EventConfiguration


def tells_the_operator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print each error that the operator can correct as one line; exit with 2 for a mistake, 1 if the storage fails.

    ::

        @click.command()
        @tells_the_operator
        def check() -> None:
            configure()  # a ConfigError becomes `hermes: ...` on stderr, and exit code 2
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        mistake: BaseException
        try:
            return command(*args, **kwargs)
        # A nursery raises its errors in a group, even a single one.
        except* (ConfigError, PluginError, LogDamaged, LogUnavailable, StaleWriter) as group:
            mistake = group
        while isinstance(mistake, BaseExceptionGroup):
            # The first one: errors that follow from it would confuse.
            mistake = mistake.exceptions[0]
        for each in explained(mistake.mistakes if isinstance(mistake, ConfigError) else (str(mistake),)):
            click.echo(f"hermes: {one_line(each)}", err=True)
        # Not inside except*: Python 3.11.2, Debian 12's, would wrap the exit in a group.
        sys.exit(1 if isinstance(mistake, LogUnavailable | StaleWriter) else 2)

    return run


def configure(parts: Sequence[str] = ()) -> Configuration:
    """Return the settings of the environment, checked as far as possible without opening a socket or a sink.

    ``parts`` are the parts to run, instead of PARTS. Prints the variables without effect first. Raises `ConfigError`
    with every mistake.
    """
    # Here: help and completion import this module, and need neither TLS nor the storage.
    from hermes.net.tls import open_tls_context
    from hermes.storage import check_world

    # All at once: after the first mistake is mended, no second one follows.
    mistakes = Mistakes()
    configuration = collect_configuration(read_environment(os.environ, tolerant=True), mistakes, parts)
    settings = configuration.settings
    with mistakes.collect():
        check_world(settings.storage)
    # One of the two alone is a mistake that was collected already.
    access = settings.access
    if access.tls_cert and access.tls_key:
        with mistakes.collect():
            open_tls_context(access.tls_cert, access.tls_key)
    strays: list[Stray] = []
    with mistakes.collect():
        strays = find_strays(configuration)
    # Without a mistake the command itself prints the strays. A variable of a sink is left out here: while SINKS may be
    # wrong, the variable may have an effect after all.
    if mistakes:
        tell_strays(stray for stray in strays if not stray.name.startswith("SINK_"))
    mistakes.raise_any()
    return configuration


def sink_names(configuration: Configuration) -> tuple[str, ...]:
    """Return the names of the sinks of the part `events`; none if the part does not run."""
    if "events" not in configuration.names:
        return ()
    events: EventConfiguration = configuration.value_of("events")
    return events.names


def explained(mistakes: Sequence[str]) -> list[str]:
    """Return the mistakes, with the file, the line and the key of each setting that comes from a file."""
    try:
        return list(map(read_environment(os.environ, tolerant=True).explain, mistakes))
    except ConfigError:
        # The file itself is wrong, and the mistakes say where.
        return list(mistakes)


def tell_strays(strays: Iterable[Stray]) -> None:
    """Print on stderr which variables have no effect, a line each."""
    for stray in strays:
        click.echo(f"hermes: {stray.name} has no effect: {stray.why}", err=True)


def one_line(text: str) -> str:
    r"""Return the text as one line: white space becomes single spaces, and control characters are escaped.

    >>> one_line("could not connect:\n  refused")
    'could not connect: refused'
    """
    return printable(" ".join(text.split()))
