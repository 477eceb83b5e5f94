"""Lists the parts: Hermes's own, and the parts of other distributions, found by their entry points.

A part of another distribution is an entry point in the group ``hermes.parts`` whose value is a `hermes.part.Part`.
Invariant: only the parts that PARTS names, and the parts that they need, are imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from hermes.base.errors import ConfigError, PluginError
from hermes.base.spelling import suggest
from hermes.config import Mistakes, Variable, describe
from hermes.part import Command, ConfiguredPart, Part, configure_part, in_order
from hermes.settings import RunSettings, Settings

if TYPE_CHECKING:
    from hermes.dead_letters.view import LetterView

ENTRY_POINT_GROUP = "hermes.parts"
ALL = "all"

# Places as text: a service that runs one of the parts does not import the others.
BUILT_IN = {
    "dead_letters": "hermes.dead_letters.part:DEAD_LETTERS",
    "traces": "hermes.traces.part:TRACES",
    "events": "hermes.events.part:EVENTS",
    "broker": "hermes.broker.part:BROKER",
}
"""The parts of Hermes, each with the place of its declaration."""


def installed_parts() -> dict[str, EntryPoint]:
    """Every installed part by name. Raises `PluginError` if a package claims a name of Hermes.

    >>> sorted(installed_parts())[:2]
    ['broker', 'dead_letters']
    """
    return {name: EntryPoint(name, place, ENTRY_POINT_GROUP) for name, place in BUILT_IN.items()} | parts_of_others()


def parts_of_others() -> dict[str, EntryPoint]:
    """The parts of other distributions by name. Raises `PluginError` if a package claims a name of Hermes."""
    found = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        # Otherwise the package's part would take the place of Hermes's own in `installed_parts`, without a word.
        if point.name in BUILT_IN:
            raise PluginError(f"an installed package claims the name of the part {point.name!r}. Uninstall it.")
        found[point.name] = point
    return found


def describe_parts(points: Iterable[EntryPoint]) -> Iterator[Variable]:
    """Every variable that these parts declare, except the variables of sinks. Skips a part that cannot be loaded."""
    for point in points:
        # The broken package of one part must not hide the settings of all others.
        with suppress(PluginError):
            yield from describe(load_part(point).settings)


def built_in_commands() -> list[Command]:
    """The commands that the parts of Hermes bring."""
    return [command for name in BUILT_IN for command in load_part(_find(name)).commands]


def describe_built_in() -> Iterator[tuple[str, Sequence[Variable]]]:
    """Yield the name of each part of Hermes that declares variables, with these, but without those of sinks."""
    for name, place in BUILT_IN.items():
        variables = list(describe(load_part(EntryPoint(name, place, ENTRY_POINT_GROUP)).settings))
        if variables:
            yield name, variables


def commands_of_others() -> list[Command]:
    """The commands that the parts of other distributions bring. Raises `PluginError`."""
    return [command for point in parts_of_others().values() for command in load_part(point).commands]


# Asked for each letter of a page: to find the part of another distribution reads through all that are installed.
@cache
def letter_view(name: str) -> LetterView:
    """How the dead letters of a part are shown; plainly, if no part of this name is installed."""
    # Here: a list of the commands does without.
    from hermes.dead_letters.view import PLAIN

    try:
        view = load_part(_find(name)).letters
    except (ConfigError, PluginError):
        return PLAIN
    return PLAIN if view is None else view()


def load_part(point: EntryPoint) -> Part:
    """The part behind an entry point. Raises `PluginError`."""
    try:
        part = point.load()
    # AttributeError: the module is there, but has no such name.
    except (ImportError, AttributeError) as error:
        raise PluginError(f"part {point.name!r} cannot be loaded: {error}") from error
    # An entry point may lead to any object, whose first use would end in a traceback.
    if not isinstance(part, Part):
        raise PluginError(f"part {point.name!r}: {point.value} is not a hermes.part.Part")
    return part


def collect_parts(
    names: Sequence[str], environ: Mapping[str, str], settings: Settings, mistakes: Mistakes, *, asked: bool = False
) -> tuple[ConfiguredPart, ...]:
    """The parts of these names and the parts that they need, in the order in which they are opened.

    ``mistakes`` are collected; the name ``all`` means every installed part. The names are those of PARTS, or, if they
    are ``asked`` for, arguments of ``hermes serve``.
    """
    with mistakes.collect():
        wrong = dict(_find_wrong_names(names))
        if wrong:
            told = [f"{f'serve: {name!r}' if asked else f'PARTS={name!r}'}: {why}" for name, why in wrong.items()]
            # Arguments of a command are no variable: PARTS itself may be right, and does not count as unread.
            mistakes.add(ConfigError(*told), "" if asked else "PARTS")
        # The default stands for a list without any right name, so that the mistakes of its settings are told too.
        right = [name for name in names if name not in wrong] or RunSettings().parts
        wanted = [*(installed_parts() if ALL in right else ()), *(name for name in right if name != ALL)]
        parts = in_order(wanted, lambda name: load_part(_find(name)))
        return tuple(configure_part(part, environ, settings, mistakes) for part in parts)
    # Reached only if `collect` has taken an error of the block: then it is not known which parts would run.
    return ()


def _find_wrong_names(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each name, or list of names, that cannot be taken, and the reason with its mend."""
    if len(set(names)) != len(names):
        # The whole list instead of a name, so that the names themselves still count as right.
        yield ",".join(names), "a part is named twice"
    for name in dict.fromkeys(names):
        # The other distributions are searched last, since the search takes longer than the rest.
        if name != ALL and name not in BUILT_IN and name not in (points := installed_parts()):
            yield name, f"no such part is installed; {suggest(name, [*points, ALL])}"


def _find(name: str) -> EntryPoint:
    # Found at once: to look through the installed distributions takes longer than all the rest.
    if name in BUILT_IN:
        return EntryPoint(name, BUILT_IN[name], ENTRY_POINT_GROUP)
    points = installed_parts()
    if name not in points:
        raise PluginError(f"no part {name!r} is installed, and another part needs it. Install its package.")
    return points[name]
