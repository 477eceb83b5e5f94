"""Types of option values: each parses the text, refuses a wrong one, and completes it for a shell.

Invariant: a refusal shows the value and says what is expected, as the errors of settings do. A completion never fails
and never connects anywhere: it offers only names that the environment and the installed packages have.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from hermes.config import Settings, Variable, describe
from hermes.errors import ConfigError, PluginError
from hermes.parts import describe_parts, installed_parts
from hermes.sink import ENTRY_POINT_GROUP, describe_sink, load_plugin


class WholeNumber(click.ParamType[int]):
    """A whole number between two bounds, both among them."""

    name = "number"

    def __init__(self, least: int, most: int | None = None) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Fails with the range that is expected."""
        try:
            number = int(value)
        except ValueError:
            number = self._least - 1
        if number < self._least or (self._most is not None and number > self._most):
            most = "" if self._most is None else f" and at most {self._most}"
            self.fail(f"{value!r}: expected a whole number, at least {self._least}{most}", param, ctx)
        return number


def setting(field: str) -> Any:
    """The value of one setting of the service; mistakes in the others are ignored. Raises `ConfigError`."""
    (variable,) = (variable for variable in describe(Settings) if variable.field == field)
    text = variable.look_up(os.environ)
    return variable.default if text is None else variable.read(text)


def complete_sinks(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of the sinks that SINKS names or that are installed."""
    installed = dict.fromkeys(_installed(), "")
    return _matching(installed | dict.fromkeys(_setting_or("sinks", ()), "in SINKS"), incomplete)


def complete_types(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The event types that EVENT_TYPES names."""
    return _matching({name: "" for name in _setting_or("event_types", ()) if name != "*"}, incomplete)


def complete_settings(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The variables of the service, and where one of a sink is begun those of the sinks, in any case."""
    variables = service_variables()
    if incomplete.upper().startswith("SINK"):
        variables += sink_variables()
    return _matching({variable.name: _brief(variable) for variable in variables}, incomplete.upper())


def complete_parts(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of the installed parts."""
    with suppress(PluginError):
        return _matching(dict.fromkeys(installed_parts(), ""), incomplete)
    return []


def service_variables() -> list[Variable]:
    """The variables of the service, and those of every installed part."""
    with suppress(PluginError):
        return [*describe(Settings), *describe_parts(installed_parts().values())]
    return [*describe(Settings)]


def sink_variables() -> list[Variable]:
    """The variables of every installed sink that can be used."""
    found: list[Variable] = []
    for name, point in sorted(_installed().items()):
        with suppress(PluginError):
            found += describe_sink(name, load_plugin(point))
    return found


def _installed() -> dict[str, EntryPoint]:
    """The installed sinks; of two of one name the first."""
    return {point.name: point for point in reversed([*entry_points(group=ENTRY_POINT_GROUP)])}


def _brief(variable: Variable) -> str:
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
