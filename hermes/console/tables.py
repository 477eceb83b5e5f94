"""Lays out tables for the terminal: at every width no text is cut off, and no row wraps at the terminal's edge.

If a terminal is too narrow for a row, the columns that do not fit become labelled lines under it:

    number  rejected at           sink      type
    17      2023-11-14 22:15:00Z  postgres  song_played
            event id  0189c1f8-7c1e-7a5e-9d5c-4f1d2b3a4c5d
            reason    22003: value overflows numeric format

Invariants: a value that people copy stands on one line, unless it is longer than the terminal is wide; brackets in a
value are not markup. The layout is a pure function of the rows and the width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Two spaces: one occurs within values, so it would not separate columns.
_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``least``: the width from which its text may wrap within the row; 0: the text never wraps, because people copy it.
    ``below``: always a labelled line under the row. ``right``: flush right, as numbers are.

    >>> columns = Column("number", right=True), Column("reason", least=30)
    """

    name: str
    least: int = 0
    below: bool = False
    right: bool = False


def print_table(columns: Sequence[Column | str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under these columns; a column given by name alone never wraps, because people copy from it.

    ::

        print_table(("number", Column("reason", least=30)), [("17", "22003: value overflows numeric format")])
    """
    console = open_console(markup=False, highlight=False)
    given = [Column(column) if isinstance(column, str) else column for column in columns]
    for line in lay_out(given, rows, console.width):
        # rich would wrap once more, by its own rules.
        console.print(line, soft_wrap=True)


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """Return the lines of the table on a terminal of this width.

    >>> [str(line) for line in lay_out([Column("number"), Column("reason")], [("17", "too large")], width=40)]
    ['number  reason', '17      too large']
    """
    inside = [place for place, column in enumerate(columns) if not column.below]
    widths = [_least_width(columns[place], [row[place] for row in rows]) for place in inside]
    # From the right: the first columns name the row.
    while len(inside) > 1 and _sum(widths) > width:
        inside.pop()
        widths.pop()
    # The first column of text that may wrap gets the remaining room.
    for n, place in enumerate(inside):
        if columns[place].least:
            longest = _least_width(Column(columns[place].name), [row[place] for row in rows])
            widths[n] = min(longest, widths[n] + max(0, width - _sum(widths)))
    head = [columns[place] for place in inside]
    under = [place for place in range(len(columns)) if place not in inside]
    # One width for all labels, so that the values below a row are aligned.
    label = max((len(columns[place].name) for place in under), default=0)
    # Under the second column where the terminal is wide enough, so that the first column stays free to scan.
    indent = widths[0] + _GAP if widths[0] + _GAP + label <= width // 3 else _GAP
    lines = []
    if any(column.name for column in head):
        lines += _row([column.name for column in head], head, widths, width, style="bold")
    for row in rows:
        lines += _row([row[place] for place in inside], head, widths, width)
        for place in under:
            if row[place]:
                cells = "", columns[place].name, row[place]
                rest = max(1, width - indent - label - _GAP)
                # An empty first cell makes the indentation.
                lines += _row(cells, [Column("")] * 3, [indent - _GAP, label, rest], width)
    return lines


def _least_width(column: Column, values: Iterable[str]) -> int:
    """Return the least width at which the column can stand beside the others."""
    from rich.cells import cell_len

    # Cells, not characters: a Chinese character takes two columns, a combining one none.
    longest = max((cell_len(line) for value in values for line in value.split("\n")), default=0)
    return max(cell_len(column.name), min(longest, column.least) if column.least else longest)


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _row(
    cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], most: int, style: str = ""
) -> list[Text]:
    """Return the lines of one row: each cell wrapped within its width, and no line longer than ``most``."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    wrapped = [wrap(cell, min(width, most)) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for n in range(max(map(len, wrapped))):
        parts = []
        for column, cell, width in zip(columns, wrapped, widths, strict=True):
            part = cell[n] if n < len(cell) else ""
            parts.append(" " * (width - cell_len(part)) + part if column.right else set_cell_size(part, width))
        # rstrip: spaces at the end would wrap on a narrow terminal.
        lines.append(Text((" " * _GAP).join(parts).rstrip(), style))
    return lines


def wrap(value: str, width: int) -> list[str]:
    """Return the lines of a text: broken between words, or within a word that is longer than a line.

    >>> wrap("no room for this", 8)
    ['no room', 'for this']
    """
    from rich.cells import cell_len, chop_cells

    lines = []
    for given in value.split("\n"):
        line = ""
        for word in given.split(" "):
            longer = f"{line} {word}" if line else word
            if cell_len(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            # A word longer than a line is cut; the rest of it begins the next line.
            # Nothing is cut from an empty word, which stands between two spaces.
            *full, line = chop_cells(word, max(1, width)) or [""]
            lines += full
        lines.append(line)
    return lines


def open_console(**options: Any) -> Console:
    """Return a rich Console that lets BrokenPipeError through, so that `Program.main` handles it."""
    from rich.console import Console

    # rich's own method ends the process with exit code 1, as if the command had failed.
    class LoudConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return LoudConsole(**options)
