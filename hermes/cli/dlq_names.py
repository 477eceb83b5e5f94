"""Looks up the letters, parts and sources that a command of ``hermes dlq`` names, and reports names without any.

Invariant: a command with a name that does not exist never exits with 0. A filter without a match is not a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from hermes.base.quoting import printable
from hermes.base.spelling import suggest
from hermes.dead_letters import DeadLetters, Selection
from hermes.dead_letters.contract import SINKS_PART
from hermes.dead_letters.replay import NO_SINK, Replayed
from hermes.events.sink import installed_sinks
from hermes.parts import installed_parts

# Numbers that the line names one by one; a script may have given thousands.
_SHOWN = 10


async def find_missing(store: DeadLetters, selection: Selection) -> list[int]:
    """Return the numbers of the selection that no letter in the store has."""
    if selection.numbers is None:
        return []
    # Without the other filters: a letter that a filter leaves out exists all the same.
    named = Selection(numbers=selection.numbers)
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


def tell_unconfigured(outcomes: Sequence[Replayed]) -> None:
    """Print on stderr how a replay finds the sinks that are not configured here, and who replays for other parts."""
    names = [printable(outcome.source.name) for outcome in outcomes if outcome.stopped == NO_SINK]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        click.echo(
            f"hermes: the settings of this command have no sink {shown}: set SINKS and its SINK_<NAME>_ variables, or "
            "HERMES_CONFIG, as the service has them",
            err=True,
        )
    parts = sorted(
        {outcome.source.part for outcome in outcomes if outcome.stopped and outcome.source.part != SINKS_PART}
    )
    for part in map(printable, parts):
        click.echo(
            f"hermes: this command replays events alone: a running service that has the part {part} replays its "
            f"letters, by `POST /dead-letters/replay?part={part}` at ADMIN_ADDR",
            err=True,
        )


async def check_source(store: DeadLetters, sinks: Iterable[str], selection: Selection) -> None:
    """Raise `click.UsageError` for a part or a source that does not exist and has no letter. SINKS names ``sinks``."""
    part, name = selection.part, selection.name
    # A part or a sink that was uninstalled may have left letters behind.
    sources = [*await store.count(Selection())]
    if part is not None:
        parts = {*installed_parts(), *(source.part for source in sources)}
        if part not in parts:
            raise click.UsageError(f"--part: there is no part {part!r}: {suggest(part, parts)}")
    if name is not None:
        known = {source.name for source in sources if part in (None, source.part)}
        if part in (None, SINKS_PART):
            # A sink without a letter is no mistake, and the usual case of a sink that works.
            known |= {*sinks, *installed_sinks()}
        if name not in known:
            kind = "sink" if part == SINKS_PART else "source"
            raise click.UsageError(f"--{kind}: there is no {kind} {name!r}: {suggest(name, known)}")
