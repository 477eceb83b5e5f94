"""Looks up the letters and sinks that a command of ``hermes dlq`` names, and reports the names that do not exist.

Invariant: a command that was given a name that does not exist does not end with exit code 0, for a script would take
"there was nothing to do" for success. A filter that matches nothing is no mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from hermes.config import Settings
from hermes.dead_letters import DeadLetters, Selection
from hermes.sink import installed_sinks, suggest

_SHOWN = 10  # numbers that are named one by one


async def find_missing(store: DeadLetters, selection: Selection) -> list[int]:
    """The numbers of the selection that no letter in the store has."""
    if selection.numbers is None:
        return []
    named = Selection(numbers=selection.numbers)
    found: set[int] = set()
    after = 0
    while page := await store.page(named, after=after):
        found.update(letter.number for letter in page)
        after = page[-1].number
    return sorted(set(selection.numbers) - found)


def tell_missing(numbers: Sequence[int]) -> None:
    """Print on stderr which letters do not exist, if any."""
    if not numbers:
        return
    shown = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
    letters = "letter" if len(numbers) == 1 else "letters"
    click.echo(f"hermes: there is no dead {letters} {shown}; `hermes dlq list` shows the letters that exist", err=True)


async def check_sink(store: DeadLetters, settings: Settings, name: str | None) -> None:
    """Raise `click.UsageError` for the name of a sink that is neither installed nor in SINKS and has no letter."""
    if name is None:
        return
    known = {*settings.sink_names(), *installed_sinks()}
    if name in known or await store.count(Selection(sink=name)):
        return
    known.update(await store.count(Selection()))
    raise click.UsageError(f"--sink: there is no sink {name!r}: {suggest(name, known)}")
