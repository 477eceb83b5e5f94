"""Types of option values: each parses the text, refuses a wrong value, and completes a value for a shell.

Invariant: a refusal shows the value and the expected form, as the errors of settings do. A completion never fails and
never connects anywhere; all offered names come from the environment and the installed packages.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from hermes.base.errors import ConfigError, PluginError
from hermes.config import Variable, describe, read
from hermes.configuration import describe_service, read_environment
from hermes.events.sink import ENTRY_POINT_GROUP, InstanceSettings, describe_sink, load_plugin, variable_prefix
from hermes.parts import describe_parts, installed_parts
from hermes.settings import GROUPS


class WholeNumber(click.ParamType[int]):
    """A whole number between two bounds, both included.

    ::

        @click.option("--limit", type=WholeNumber(1, 1000))
    """

    name = "number"

    def __init__(self, least: int, most: int | None = None) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Fails with the expected range."""
        try:
            number = int(value)
        except ValueError:
            # Out of range, so that the refusal below tells both faults in one sentence.
            number = self._least - 1
        if number < self._least or (self._most is not None and number > self._most):
            most = "" if self._most is None else f" and at most {self._most}"
            self.fail(f"{value!r}: expected a whole number, at least {self._least}{most}", param, ctx)
        return number


def setting(field: str) -> Any:
    """Return the value of one setting of the service; mistakes in the others are ignored. Raises `ConfigError`.

    ::

        folder: Path = setting("hermes_data_dir")
    """
    (variable,) = (variable for variable in describe_service() if variable.field == field)
    # The variable's own reading, so that NAME_FILE works here too.
    text = variable.look_up(read_environment(os.environ))
    return variable.default if text is None else variable.read(text)


def complete_sinks(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the names of the sinks that SINKS names or that are installed."""
    # SINKS may name a sink that is not installed on this machine; both lists are offered.
    installed = dict.fromkeys(_installed(), "")
    return _matching(installed | dict.fromkeys(_setting_or("sinks", ()), "in SINKS"), incomplete)


def complete_types(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the event types that EVENT_TYPES names."""
    # `*` is a notation, not a type.
    return _matching({name: "" for name in _setting_or("event_types", ()) if name != "*"}, incomplete)


def complete_settings(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the variables of the service, and the sinks' variables once the word begins with SINK, in any case."""
    variables = service_variables()
    # Reading the sinks' variables imports every sink, and a person waits for the completion.
    if incomplete.upper().startswith("SINK"):
        variables += sink_variables()
    return _matching({variable.name: _brief(variable) for variable in variables}, incomplete.upper())


def complete_parts(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the names of the installed parts."""
    # A package may claim the name of a part of Hermes. Other commands tell that; a completion prints no error.
    with suppress(PluginError):
        return _matching(dict.fromkeys(installed_parts(), ""), incomplete)
    return []


def service_variables() -> list[Variable]:
    """Return the variables of the service and of every installed part."""
    with suppress(PluginError):
        own = [variable for group in GROUPS.values() for variable in describe(group)]
        return [*own, *describe_parts(installed_parts().values())]
    # A package that claims the name of a part must not take the names of all settings from the completion.
    return describe_service()


def sink_variables() -> list[Variable]:
    """Return the variables of every installed sink that can be used, and of every sink in SINKS."""
    installed = _installed()
    plugins = {name: name for name in installed} | sink_instances()
    found: list[Variable] = []
    for name, plugin in sorted(plugins.items()):
        # KeyError: SINKS may name an instance of a plugin that is not installed here.
        with suppress(PluginError, KeyError):
            found += describe_sink(name, load_plugin(installed[plugin]))
    return found


def sink_instances() -> dict[str, str]:
    """Return the sinks of SINKS and of the file that are instances of a plugin, with the name of the plugin."""
    # A completion prints no error into the command line, though the file of settings or an instance has a mistake.
    with suppress(ConfigError):
        sources = read_environment(os.environ)
        in_file = sources.file.prefixes.values() if sources.file is not None else ()
        names = dict.fromkeys((*_setting_or("sinks", ()), *in_file))
        read_each = {name: read(InstanceSettings, sources, variable_prefix(name)).plugin for name in names}
        return {name: plugin for name, plugin in read_each.items() if plugin}
    return {}


def variable_of_key(name: str) -> str:
    """Return the variable of a key in a file of settings, or what the variables of a table there begin with.

    A name without a dot is returned as it is.

    >>> variable_of_key("sinks.my-sink.path"), variable_of_key("sinks.my-sink"), variable_of_key("QUEUE_SIZE")
    ('SINK_MY_SINK_PATH', 'SINK_MY_SINK_', 'QUEUE_SIZE')
    """
    table, *thing = name.split(".")
    if table.lower() == "sinks" and len(thing) in {1, 2} and thing[0]:
        return variable_prefix(thing[0]) + "".join(thing[1:]).upper()
    return name


def _installed() -> dict[str, EntryPoint]:
    """Return the installed sinks; of two with one name the first."""
    # Unlike `installed_sinks`, this never fails: a completion must not print an error into the command line.
    return {point.name: point for point in reversed([*entry_points(group=ENTRY_POINT_GROUP)])}


def _brief(variable: Variable) -> str:
    # A shell shows one short line for each completion.
    return variable.description.partition(";")[0].replace("`", "")


def _setting_or(field: str, otherwise: Any) -> Any:
    try:
        return setting(field)
    except ConfigError:
        return otherwise


def _matching(names: dict[str, str], incomplete: str) -> list[CompletionItem[str]]:
    return [
        CompletionItem(name, help=words or None) for name, words in sorted(names.items()) if name.startswith(incomplete)
    ]
