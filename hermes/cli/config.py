"""``hermes sinks`` and ``hermes config``: list the installed sinks, check the environment, explain a setting.

Invariant: no command connects anywhere, and no secret is shown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from hermes.base.errors import PluginError
from hermes.base.spelling import close_words, misspelt, suggest
from hermes.config import Group, Sources, Variable, describe
from hermes.configuration import Configuration, read_environment
from hermes.console.manual import WIDTH, Manual, ManualCommand, ManualGroup
from hermes.console.operator import configure, sink_names, tell_strays, tells_the_operator
from hermes.console.strays import find_strays
from hermes.console.tables import Column, print_table
from hermes.console.values import (
    complete_settings,
    complete_sinks,
    service_variables,
    sink_instances,
    sink_variables,
    variable_of_key,
)
from hermes.events.sink import DeliverySettings, installed_sinks, load_plugin, variable_prefix


@click.command(
    "sinks",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("All installed sinks:", "hermes sinks"),
            ("The sinks that lack a driver:", "hermes sinks --json | jq '.[] | select(.usable | not) | .summary'"),
            ("One sink:", "hermes sinks postgres"),
            ("Use two sinks:", "SINKS=sqlite,stdout hermes serve"),
        ),
        exits={0: "Done.", 2: "No sink of that name is installed, or two packages provide one."},
        environment={"SINKS": "The sinks to use, whatever is installed."},
        see_also=("hermes config check", "hermes serve"),
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_sinks)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
@tells_the_operator
def list_sinks(names: tuple[str, ...], as_json: bool) -> None:
    """List the sinks that are installed, with their variables.

    NAME is the name of a sink; by default all are listed. An unusable sink names the package to install. Sinks of other
    packages are found by their entry points, in the group hermes.sinks.
    """
    rows = []
    installed = installed_sinks()
    # All names before the first plugin is loaded: to load a plugin imports its driver.
    for name in names:
        if name not in installed:
            plugin_name = sink_instances().get(name)
            mend = f"it is a sink of the plugin {plugin_name}: `hermes sinks {plugin_name}`"
            raise click.UsageError(
                f"no sink {name!r} is installed: {mend if plugin_name else suggest(name, installed)}"
            )
    for name, point in sorted(installed.items()):
        # Filtered after sorting, so that the order is the same with and without names.
        if names and name not in names:
            continue
        row: dict[str, Any] = {"name": name, "package": point.dist.name if point.dist else "", "usable": True}
        try:
            plugin = load_plugin(point)
        # A sink whose driver is missing stays in the list, with the remedy as its summary.
        except PluginError as error:
            row |= {"usable": False, "summary": str(error), "variables": []}
        else:
            variables = [v.name for v in describe(plugin.settings, variable_prefix(name))]
            row |= {"summary": plugin.summary, "variables": variables}
        rows.append(row)
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    columns = "sink", "package", Column("what it does", least=40), Column("settings", below=True)
    shown = [(row["name"], row["package"], row["summary"], " ".join(row["variables"])) for row in rows]
    print_table(columns, shown)
    common = ", ".join(variable.name for variable in describe(DeliverySettings, "SINK_<NAME>_"))
    last = "`hermes config explain NAME` says what each means."
    click.echo("\n" + _wrap_text(f"Every sink also takes {common}. {last}"))


@click.group(
    cls=ManualGroup,
    manual=Manual(
        examples=(
            ("Is the environment all right, and what would run?", "hermes config check"),
            ("What is this setting?", "hermes config explain BACKPRESSURE_MODE"),
        ),
        exits={0: "Done.", 2: "A setting is wrong, or no setting has that name. stderr says which."},
        see_also=("hermes serve", "hermes sinks"),
    ),
)
def config() -> None:
    """Check the settings, or have one explained.

    Settings are variables of the environment, and keys of the file that HERMES_CONFIG names. The environment goes
    before the file. Any setting may be given as NAME_FILE, the path of a file that holds the value. Durations are
    written 100ms, 30s or 1m30s, sizes 64KiB or 10MiB.
    """


@config.command(
    "check",
    manual=Manual(
        examples=(
            ("Before a start:", "hermes config check"),
            ("With the settings that are not set:", "hermes config check --all"),
            ("With other settings than those of this shell:", "SINKS=sqlite QUEUE_SIZE=5000 hermes config check"),
            ("One value, for a script:", "hermes config check --json | jq -r .HTTP_ADDR"),
        ),
        exits={
            0: "`hermes serve` would begin to start.",
            2: "`hermes serve` would refuse to start. A line on stderr for each mistake.",
        },
        see_also=("hermes config explain", "hermes serve"),
    ),
)
@click.option("--all", "everything", is_flag=True, help="Show the settings that have their default too.")
@click.option("--json", "as_json", is_flag=True, help="All settings, machine-readable, on stdout.")
@tells_the_operator
def check_config(everything: bool, as_json: bool) -> None:
    """Validate the settings of a start and print them.

    Shows the settings that are set, and where. Every mistake is a line on stderr. Opens no address and connects to no
    server. A variable without effect that looks like a setting is a warning on stderr, and a mistake where a secret was
    meant. Secrets are hidden.
    """
    configuration = configure()
    settings = configuration.settings
    rows = [row for group in configuration.groups() for row in _values(group, configuration.sources)]
    # On stderr, before the table: stdout is for the settings alone.
    tell_strays(find_strays(configuration))
    if as_json:
        click.echo(msgspec.json.encode({row.variable.name: row.shown for row in rows}))
        return
    # Set variables first; sorted is stable, so each group keeps its order.
    shown = sorted((row for row in rows if row.source or everything), key=lambda row: not row.source)
    # A table without rows would be a header that says nothing.
    if shown:
        print_table(("", "variable", "value", Column("default", least=12)), [_show_row(row) for row in shown])
    unset = len(rows) - len(shown)
    told = f"{unset} settings are not set and have their default: --all shows them." if unset else ""
    valid = "The settings are valid." + ("  * marks what is set." if everything else "")
    runs = f"Hermes would run the parts {', '.join(configuration.names)}, "
    would = f"{runs}listen on {settings.http.http_addr}{_deliver_to(configuration)}."
    click.echo(("\n" if shown else "") + _wrap_text(" ".join(filter(None, (told, valid, would)))))


@config.command(
    "explain",
    manual=Manual(
        examples=(
            ("One setting:", "hermes config explain DURABILITY"),
            ("The settings of the journal:", "hermes config explain DURABILITY JOURNAL_MAX_BYTES"),
            ("Two settings of a sink:", "hermes config explain SINK_SQLITE_PATH SINK_SQLITE_TIMEOUT"),
            ("All settings of the service:", "hermes config explain | less"),
        ),
        exits={0: "Done.", 2: "There is no setting of that name."},
        see_also=("hermes config check", "hermes sinks"),
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_settings)
@tells_the_operator
def explain_settings(names: tuple[str, ...]) -> None:
    """Print the meaning of a setting, its accepted values, and its default.

    NAME is that of the variable, of the service or of a sink, such as SINK_SQLITE_PATH, or the key in a file of
    settings, such as sinks.sqlite.path. SINK_SQLITE_ (or 'SINK_SQLITE_*') is every one that begins so, and sinks.sqlite
    every one of this sink. Without a name: all settings of the service.
    """
    variables = {variable.name: variable for variable in service_variables()}
    # Only then: reading them imports every installed sink.
    if any(variable_of_key(name).upper().startswith("SINK_") for name in names):
        variables |= {variable.name: variable for variable in sink_variables()}
    sources = read_environment(os.environ)
    # A dict, so that a setting which two names match is shown once.
    found = {each.name: each for name in names for each in _find_variables(name, variables)}
    shown = list((found or variables).values())
    for number, variable in enumerate(shown):
        default = variable.default_words or variable.default_text or "empty"
        if variable.required:
            default = "none: it must be set"
        click.echo("\n" * bool(number) + click.style(variable.name, bold=True))
        rows = [("means", variable.description), ("takes", variable.accepts), ("default", default)]
        if origin := sources.origin(variable.name):
            rows.append(("set by", "the environment" if origin == variable.name else origin))
        for label, text in rows:
            # The descriptions are those of the reference, which is Markdown.
            click.echo(_wrap_text(text.replace("`", ""), f"  {label:8} ", " " * 11))


def _deliver_to(configuration: Configuration) -> str:
    names = sink_names(configuration)
    return f" and deliver to {', '.join(names)}" if names else ""


def _find_variables(name: str, variables: Mapping[str, Variable]) -> list[Variable]:
    """Return the variable of this name; if the name ends in ``_``, ``*`` or dots, all variables that begin so."""
    variable = variable_of_key(name).upper()
    prefix = variable.rstrip("*.…")
    if prefix != variable or prefix.endswith("_"):
        begins_so = [variable for key, variable in variables.items() if key.startswith(prefix)]
        # If no setting begins so, the name is treated as a misspelt one below, which may get a suggestion.
        if begins_so:
            return begins_so
    return [_find_variable(name, variables)]


def _find_variable(name: str, variables: Mapping[str, Variable]) -> Variable:
    """Return the variable of this name, or the one that a ``_FILE`` name belongs to. Raises `click.UsageError`."""
    wanted = variable_of_key(name).upper()
    found = variables.get(wanted) or variables.get(wanted.removesuffix("_FILE"))
    if found is None:
        # First the strict comparison word by word, then the loose one, which may suggest two names.
        meant = misspelt(wanted, variables)
        close = [meant] if meant else close_words(wanted, variables)
        mend = "`hermes config explain` lists all settings"
        if wanted.startswith("SINK_"):
            mend = "`hermes sinks` lists the variables of the sinks"
        if close:
            mend = f"did you mean {' or '.join(close)}?"
        # An empty name is shown by its quotes.
        raise click.UsageError(f"there is no setting {name or repr(name)}: {mend}")
    return found


def _wrap_text(text: str, first: str = "", others: str = "") -> str:
    """Return the text wrapped for the terminal, at most `WIDTH` columns wide."""
    # Narrower than the terminal if that is wide, because long lines are hard to read.
    width = min(WIDTH, shutil.get_terminal_size().columns)
    return click.formatting.wrap_text(text, width, first, others)


@dataclass(frozen=True)
class _Row:
    """A variable with its value as text (secrets hidden). ``source``: what gave the value, or empty for the default."""

    variable: Variable
    shown: str
    source: str


def _show_row(row: _Row) -> tuple[str, ...]:
    name = row.variable.name
    if not row.source:
        return "", name, row.shown, ""
    default = row.variable.default_words or row.variable.default_text
    origin = "" if row.source == name else f" from {row.source}"
    return "*", name, row.shown + origin, default.replace("`", "")


def _values(group: Group, sources: Sources) -> list[_Row]:
    """Return each variable of a group with its value and the source of the value."""
    rows = []
    for variable in group.variables():
        value = getattr(group.values, variable.field)
        # An empty secret has nothing to hide, and the operator has to see that there is none.
        shown = "(hidden)" if variable.secret and value else variable.show(value)
        source = sources.origin(variable.name)
        # A value without a variable of Hermes comes from OpenTelemetry's variables, which the export of traces reads
        # too.
        if not source and variable.name not in sources and value != variable.default:
            source = "OTEL_…"
        rows.append(_Row(variable, shown, source))
    return rows
