"""What the commands share: the settings of the environment, mistakes in one line, tables. Called by every command.

What takes long to import is imported where it is used: help and completion need none of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from hermes.config import Settings, read_settings
from hermes.errors import ConfigError, LogDamaged, LogUnavailable, PluginError, StaleWriter
from hermes.sink import ConfiguredSink, configure_sinks
from hermes.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table


def tells_the_operator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what the operator can mend into one line: exit code 2 for a mistake, 1 for storage that does not work."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        mistake: BaseException
        try:
            return command(*args, **kwargs)
        except* (ConfigError, PluginError, LogDamaged, LogUnavailable, StaleWriter) as group:
            mistake = group
        while isinstance(mistake, BaseExceptionGroup):
            mistake = mistake.exceptions[0]
        click.echo(f"hermes: {one_line(str(mistake))}", err=True)
        # Not inside except*: Python 3.11.2, Debian 12's, would wrap the exit in a group.
        sys.exit(1 if isinstance(mistake, LogUnavailable | StaleWriter) else 2)

    return run


def configure() -> tuple[Settings, list[ConfiguredSink]]:
    """What the environment says, checked as far as can be without opening a socket or a sink.

    Raises `ConfigError` or `PluginError`.
    """
    from hermes.http.listen import open_tls_context
    from hermes.traces import check_traces
    from hermes.world import check_world

    settings = read_settings(os.environ)
    sinks = configure_sinks(settings.sink_names(), os.environ)
    for sink in sinks:
        if sink.plugin.check is not None:
            sink.plugin.check(sink.settings, settings)
    check_world(settings)
    check_traces(settings)
    if settings.tls_cert:
        open_tls_context(settings.tls_cert, settings.tls_key)
    return settings, sinks


def make_table(*columns: Column | str) -> Table:
    """A table without lines. A column given by name alone is what one copies, so it is never cut."""
    from rich.table import Column, Table

    return Table(
        *(Column(column, no_wrap=True) if isinstance(column, str) else column for column in columns),
        box=None,
        header_style="bold",
    )


def print_table(table: Table) -> None:
    """Print it as it is: brackets in a value or in the name of an extra are no markup."""
    open_console(markup=False, highlight=False).print(table)


def open_console(**options: Any) -> Console:
    """A console of rich that leaves a reader that went away to ``program``, which ends every run alike."""
    from rich.console import Console

    class LoudConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return LoudConsole(**options)


def one_line(text: str) -> str:
    """The text as one line: white space as single spaces, and escaped what a terminal might obey."""
    return printable(" ".join(text.split()))
