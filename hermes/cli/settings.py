"""``hermes sinks`` and ``hermes config check``: what is installed, and what the environment says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import click
import msgspec
from rich.table import Column

from hermes.cli.operator import configure, make_table, print_table, tells_the_operator
from hermes.config import Settings, Variable, describe
from hermes.errors import PluginError
from hermes.sink import DeliverySettings, installed_sinks, load_plugin, variable_prefix

_MISSPELT = 0.85  # similarity, as difflib measures it, from which an undeclared variable is taken for a misspelling


@click.command("sinks")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@tells_the_operator
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
    table = make_table("sink", "package", Column("what it does", ratio=1), "its settings")
    for row in rows:
        table.add_row(row["name"], row["package"], row["summary"], "\n".join(row["variables"]))
    print_table(table)
    common = ", ".join(variable.name for variable in describe(DeliverySettings, "SINK_<NAME>_"))
    click.echo(f"\nEvery sink also takes {common}.")


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command("check")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@tells_the_operator
def check_config(as_json: bool) -> None:
    """Validate the environment and print what `hermes serve` would run.

    Exit code 2 where it would not start for what the settings say. Neither the address nor what a sink connects to is
    tried. A variable that looks like a misspelt setting is a warning on stderr.
    """
    settings, sinks = configure()
    rows = _values(Settings, settings, "")
    for sink in sinks:
        prefix = variable_prefix(sink.name)
        rows += _values(sink.plugin.settings, sink.settings, prefix)
        rows += _values(DeliverySettings, sink.delivery, prefix, sink.plugin.delivery)
    _warn_of_misspellings(variable.name for variable, _, _ in rows)
    if as_json:
        click.echo(msgspec.json.encode({variable.name: shown for variable, shown, _ in rows}))
        return
    table = make_table("variable", Column("value", overflow="fold"), Column("meaning", ratio=1))
    for variable, shown, changed in rows:
        table.add_row(variable.name, shown, variable.description, style="" if changed else "dim")
    print_table(table)
    click.echo(f"\nThe settings are valid. Hermes would listen on {settings.http_addr}", nl=False)
    click.echo(f" and deliver to {', '.join(settings.sink_names())}.")


def _warn_of_misspellings(declared: Iterable[str]) -> None:
    """The environment is full of what is not ours, so a name that is almost a setting's is no error."""
    names = [each for name in declared for each in (name, f"{name}_FILE")]
    for name in sorted(set(os.environ).difference(names)):
        # What begins with SINK_ is declared, refused before, or that of a sink which is not in use.
        if not name.startswith("SINK_") and (close := get_close_matches(name.upper(), names, 1, _MISSPELT)):
            click.echo(f"hermes: {name} is no setting, so it has no effect: did you mean {close[0]}?", err=True)


def _values(
    group: type[msgspec.Struct], values: msgspec.Struct, prefix: str, defaults: msgspec.Struct | None = None
) -> list[tuple[Variable, str, bool]]:
    """Each variable of a group with its value as text (secrets hidden), and whether it differs from the default."""
    rows = []
    for variable in describe(group, prefix, defaults):
        value = getattr(values, variable.field)
        shown = "(hidden)" if variable.secret and value else variable.show(value)
        rows.append((variable, shown, value != variable.default))
    return rows
