"""Looks up the letters and sinks that a command of ``hermes dlq`` names, and reports the names that do not exist.

Invariant: a command with a name that does not exist never exits with 0. A filter without a match is not a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from hermes.dead_letters import DeadLetters, Selection
from hermes.dead_letters.events import select_events
from hermes.events.sink import installed_sinks, suggest

# Numbers that the line names one by one; a script may have given thousands.
_SHOWN = 10


async def find_missing(store: DeadLetters, selection: Selection) -> list[int]:
    """Return the numbers of the selection that no letter in the store has."""
    if selection.numbers is None:
        return []
    # Without the other filters: a letter that a filter leaves out exists all the same.
    named = select_events(numbers=selection.numbers)
    found: set[int] = set()
    after = 0
    while page := await store.page(named, after=after):
        found.update(letter.number for letter in page)
        after = page[-1].number
    return sorted(set(selection.numbers) - found)


def tell_missing(numbers: Sequence[int]) -> None:
    """Print the missing letters on stderr, if there are any."""
    if not numbers:
        return
    shown = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
    letters = "letter" if len(numbers) == 1 else "letters"
    click.echo(f"hermes: there is no dead {letters} {shown}; `hermes dlq list` shows the letters that exist", err=True)


async def check_sink(store: DeadLetters, sinks: Iterable[str], name: str | None) -> None:
    """Raise `click.UsageError` for the name of a sink that is neither installed nor in SINKS and has no letter."""
    if name is None:
        return
    known = {*sinks, *installed_sinks()}
    # A sink that was uninstalled may have left letters behind.
    if name in known or await store.count(select_events(name)):
        return
    known.update(source.name for source in await store.count(select_events()))
    raise click.UsageError(f"--sink: there is no sink {name!r}: {suggest(name, known)}")
