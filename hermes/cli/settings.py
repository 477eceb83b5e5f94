"""``hermes sinks`` and ``hermes config``: what is installed, what the environment says, and what a setting means."""

from __future__ import annotations

import os
from typing import Any

import click
import msgspec

from hermes.cli.manual import WIDTH, Manual, ManualCommand, ManualGroup
from hermes.cli.operator import configure, tells_the_operator
from hermes.cli.strays import find_strays
from hermes.cli.tables import Column, print_table
from hermes.cli.values import complete_settings
from hermes.config import Settings, Variable, describe
from hermes.errors import PluginError
from hermes.sink import DeliverySettings, installed_sinks, load_plugin, variable_prefix
from hermes.spelling import close_words, misspelt


@click.command(
    "sinks",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("What is there:", "hermes sinks"),
            ("Which of them lack a driver:", "hermes sinks --json | jq '.[] | select(.usable | not) | .summary'"),
            ("Use two of them:", "SINKS=sqlite,stdout hermes serve"),
        ),
        exits={0: "Done.", 2: "Two installed packages provide a sink of the same name."},
        environment={"SINKS": "The sinks to use, whatever is installed."},
        see_also=("hermes config check", "hermes serve"),
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@tells_the_operator
def list_sinks(as_json: bool) -> None:
    """List the sinks that are installed, with their variables.

    A sink that cannot be used says what to install. Sinks of other packages are found by their entry points, in the
    group hermes.sinks.
    """
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
    from rich.table import Column

    table = make_table("sink", "package", Column("what it does", ratio=1), "its settings")
    for row in rows:
        table.add_row(row["name"], row["package"], row["summary"], "\n".join(row["variables"]))
    print_table(table)
    common = ", ".join(variable.name for variable in describe(DeliverySettings, "SINK_<NAME>_"))
    click.echo(f"\nEvery sink also takes {common}.")


@click.group(
    cls=ManualGroup,
    manual=Manual(
        examples=(
            ("Is the environment all right, and what would run?", "hermes config check"),
            ("What is this setting?", "hermes config explain BACKPRESSURE_MODE"),
        ),
        exits={0: "Done.", 2: "A setting is wrong, or there is none of that name. One line on stderr says which."},
        see_also=("hermes serve", "hermes sinks"),
    ),
)
def config() -> None:
    """Check the settings, or have one explained.

    Settings are variables of the environment. Any may be given as NAME_FILE, the path of a file that holds the value.
    Durations are written 100ms, 30s or 1m30s, sizes 64KiB or 10MiB.
    """


@config.command(
    "check",
    manual=Manual(
        examples=(
            ("Before a start:", "hermes config check"),
            ("With other settings than those of this shell:", "SINKS=sqlite QUEUE_SIZE=5000 hermes config check"),
            ("One value, for a script:", "hermes config check --json | jq -r .HTTP_ADDR"),
        ),
        exits={0: "`hermes serve` would begin to start.", 2: "It would not. One line on stderr says what to mend."},
        see_also=("hermes config explain", "hermes serve"),
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@tells_the_operator
def check_config(as_json: bool) -> None:
    """Validate the environment and print what `hermes serve` would run.

    Neither the address nor what a sink connects to is tried. A variable without effect that looks like a setting is a
    warning on stderr, and a mistake where a secret was meant. Secrets are hidden.
    """
    from rich.table import Column

    settings, sinks = configure()
    rows = _values(Settings, settings, "")
    for sink in sinks:
        prefix = variable_prefix(sink.name)
        rows += _values(sink.plugin.settings, sink.settings, prefix)
        rows += _values(DeliverySettings, sink.delivery, prefix, sink.plugin.delivery)
    for stray in find_strays(os.environ, sinks):
        click.echo(f"hermes: {stray.name} has no effect: {stray.why}", err=True)
    if as_json:
        click.echo(msgspec.json.encode({variable.name: shown for variable, shown, _ in rows}))
        return
    table = make_table("variable", Column("value", overflow="fold"), Column("meaning", ratio=1))
    for variable, shown, changed in rows:
        table.add_row(variable.name, shown, variable.description, style="" if changed else "dim")
    print_table(table)
    click.echo(f"\nThe settings are valid. Hermes would listen on {settings.http_addr}", nl=False)
    click.echo(f" and deliver to {', '.join(settings.sink_names())}.")


@config.command(
    "explain",
    manual=Manual(
        examples=(
            ("One setting:", "hermes config explain DURABILITY"),
            ("Those that have to do with the journal:", "hermes config explain DURABILITY JOURNAL_MAX_BYTES"),
            ("All of them:", "hermes config explain | less"),
        ),
        exits={0: "Done.", 2: "There is no setting of that name."},
        see_also=("hermes config check", "hermes sinks"),
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_settings)
@tells_the_operator
def explain_settings(names: tuple[str, ...]) -> None:
    """Say what a setting means, what it takes, and its default.

    NAME is that of the variable. Without one: all of them. Those of a sink are in the documentation of the sink;
    `hermes sinks` has their names.
    """
    variables = {variable.name: variable for variable in describe(Settings)}
    for name in names:
        if name.upper() not in variables:
            meant = misspelt(name, variables)
            close = [meant] if meant else close_words(name, variables)
            mend = f"did you mean {' or '.join(close)}?" if close else "`hermes config explain` has all of them"
            raise click.UsageError(f"there is no setting {name}: {mend}", None)
    shown = [variables[name.upper()] for name in names] or list(variables.values())
    for number, variable in enumerate(shown):
        default = variable.default_words or variable.default_text or "empty"
        click.echo("\n" * bool(number) + click.style(variable.name, bold=True))
        for label, text in (("means", variable.description), ("takes", variable.accepts), ("default", default)):
            wrapped = click.formatting.wrap_text(text.replace("`", ""), WIDTH, f"  {label:8} ", " " * 11)
            click.echo(wrapped)


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
