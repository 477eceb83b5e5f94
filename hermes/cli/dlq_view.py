"""Prints dead letters for ``hermes dlq``: many as a table, one whole, in the words of the part that wrote them.

Invariant: a letter of any part can be printed, also while its part is not installed; no text of a letter
is a command to the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from hermes.base.quoting import printable
from hermes.console.tables import Column, print_table
from hermes.dead_letters import DeadLetter
from hermes.dead_letters.notation import format_time
from hermes.dead_letters.view import PLAIN, body_as_text
from hermes.parts import letter_view

# The reason alone may wrap: the other columns are copied into other commands.
_REASON = Column("reason", least=30)


@dataclass(frozen=True)
class Row:
    """What a table shows of a letter, without the body: there may be many rows. ``facts`` are titles and texts."""

    number: int
    rejected_at: float
    part: str
    source: str
    facts: Sequence[tuple[str, str]]
    reason: str


def make_row(letter: DeadLetter) -> Row:
    """Return the row of a letter."""
    part, source = letter.source
    facts = [*letter_view(part).facts(letter, as_row=True)]
    return Row(letter.number, letter.rejected_at, part, source, facts, letter.reason)


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table. The letters of one part have a column for each fact; those of several share one column."""
    parts = {row.part for row in rows}
    if len(parts) > 1:
        columns: list[Column | str] = ["part", "source", Column("facts", least=20)]
        cells = [(row.part, row.source, ", ".join(f"{title} {text}" for title, text in row.facts)) for row in rows]
    else:
        (part,) = parts
        # By first mention: letters of one part may have different facts.
        titles = [*dict.fromkeys(title for row in rows for title, _ in row.facts)]
        named = _names_its_part(part)
        columns = [*(() if named else ("part",)), letter_view(part).source, *titles]
        cells = [
            (*(() if named else (part,)), row.source, *(dict(row.facts).get(title, "") for title in titles))
            for row in rows
        ]
    print_table(
        ("number", "rejected at", *columns, _REASON),
        [
            _printable((str(row.number), format_time(row.rejected_at), *found, row.reason))
            for row, found in zip(rows, cells, strict=True)
        ],
    )


def print_letter(letter: DeadLetter) -> None:
    """Print all of one letter."""
    part, source = letter.source
    view = letter_view(part)
    facts = (
        ("number", str(letter.number)),
        *(() if _names_its_part(part) else (("part", part),)),
        (view.source, source),
        ("reason", letter.reason),
        ("attempts", str(letter.attempts)),
        ("rejected at", format_time(letter.rejected_at)),
        ("received at", format_time(letter.received_at)),
        *view.facts(letter),
        (view.body, f"{len(letter.body)} bytes"),
    )
    print_table((Column(""), Column("", least=20)), [_printable(pair) for pair in facts])
    body = body_as_text(letter)
    click.echo("\nIt is not text; --payload writes its bytes." if body is None else f"\n{body}")


def _names_its_part(part: str) -> bool:
    """Whether the part has a word of its own for its sources, such as sink, which tells the part."""
    return letter_view(part).source != PLAIN.source


def _printable(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(printable, texts))
