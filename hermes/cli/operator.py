"""Reads the settings of the environment for the commands, and prints each mistake as one line.

What takes long to import is imported where it is used: help and completion need none of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import click

from hermes.cli.strays import Stray, find_strays
from hermes.config import Mistakes
from hermes.configuration import Configuration, collect_configuration
from hermes.errors import ConfigError, LogDamaged, LogUnavailable, PluginError, StaleWriter
from hermes.words import printable


def tells_the_operator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print each error that the operator can correct as one line; exit with 2 for a mistake, 1 if the storage fails."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        mistake: BaseException
        try:
            return command(*args, **kwargs)
        except* (ConfigError, PluginError, LogDamaged, LogUnavailable, StaleWriter) as group:
            mistake = group
        while isinstance(mistake, BaseExceptionGroup):
            mistake = mistake.exceptions[0]
        for each in mistake.mistakes if isinstance(mistake, ConfigError) else (str(mistake),):
            click.echo(f"hermes: {one_line(each)}", err=True)
        # Not inside except*: Python 3.11.2, Debian 12's, would wrap the exit in a group.
        sys.exit(1 if isinstance(mistake, LogUnavailable | StaleWriter) else 2)

    return run


def configure(parts: Sequence[str] = ()) -> Configuration:
    """The settings of the environment, checked as far as possible without opening a socket or a sink.

    ``parts`` are the parts to run, in the place of those of PARTS. Prints the variables without effect first. Raises
    `ConfigError` with every mistake.
    """
    from hermes.http.listen import open_tls_context
    from hermes.world import check_world

    mistakes = Mistakes()
    configuration = collect_configuration(os.environ, mistakes, parts)
    settings = configuration.settings
    with mistakes.collect():
        check_world(settings)
    if settings.tls_cert and settings.tls_key:
        with mistakes.collect():
            open_tls_context(settings.tls_cert, settings.tls_key)
    strays: list[Stray] = []
    with mistakes.collect():
        strays = find_strays(os.environ, configuration)
    if mistakes:  # else the command tells them; of a sink's variables nothing is sure while SINKS may be wrong
        tell_strays(stray for stray in strays if not stray.name.startswith("SINK_"))
    mistakes.raise_any()
    return configuration


def tell_strays(strays: Iterable[Stray]) -> None:
    """Say on stderr which variables have no effect, a line each."""
    for stray in strays:
        click.echo(f"hermes: {stray.name} has no effect: {stray.why}", err=True)


def one_line(text: str) -> str:
    """The text as one line: white space becomes single spaces, and control characters are escaped."""
    return printable(" ".join(text.split()))
