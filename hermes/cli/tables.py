"""Tables for the terminal that are whole at every width: nothing is cut off, and nothing wraps in the middle of a row.

Where a terminal is too narrow for a row, the columns that do not fit become labelled lines under it:

    number  rejected at           sink      type
    17      2023-11-14 22:15:00Z  postgres  song_played
            event id  0189c1f8-7c1e-7a5e-9d5c-4f1d2b3a4c5d
            reason    22003: value overflows numeric format

Invariant: a value that people copy stands on one line, unless it is longer than the terminal is wide. Values are shown
as they are: brackets are no markup. The layout is a pure function of the rows and the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column. ``least``: the width from which its text may wrap within the row; 0: it never does, one copies it.

    ``below``: always a labelled line under the row. ``right``: numbers, which end in one line.
    """

    name: str
    least: int = 0
    below: bool = False
    right: bool = False


def print_table(columns: Sequence[Column | str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under these columns; a column given by name alone is one that people copy from."""
    console = open_console(markup=False, highlight=False)
    given = [Column(column) if isinstance(column, str) else column for column in columns]
    console.print(lay_out(given, rows, console.width))


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """The table for a terminal of this width."""
    from rich.console import Group

    inside = [place for place, column in enumerate(columns) if not column.below]
    widths = [_width(columns[place], [row[place] for row in rows]) for place in inside]
    while len(inside) > 1 and sum(widths) + _GAP * (len(inside) - 1) > width:
        inside.pop()
        widths.pop()
    under = [place for place in range(len(columns)) if place not in inside]
    head = [columns[place] for place in inside]
    if not under:
        return _grid(head, rows, header=True)
    parts: list[RenderableType] = []
    # Every row is a grid of its own between the lines under it, so the widths are given.
    fixed = [Column(column.name, least=0, right=column.right) for column in head]
    if any(column.name for column in head):
        parts.append(_grid(fixed, [], header=True, widths=widths))
    indent = widths[0] + _GAP if widths[0] + _GAP <= width // 4 else _GAP
    for row in rows:
        parts.append(_grid(fixed, [[row[place] for place in inside]], widths=widths))
        lines = [(columns[place].name, row[place]) for place in under if row[place]]
        if lines:
            parts.append(_labelled(lines, indent))
    return Group(*parts)


def _width(column: Column, values: Sequence[str]) -> int:
    """The least width at which the column can stand beside the others."""
    from rich.cells import cell_len

    longest = max((cell_len(line) for value in values for line in value.split("\n")), default=0)
    return max(cell_len(column.name), min(longest, column.least) if column.least else longest)


def _grid(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, header: bool = False, widths: Sequence[int] = ()
) -> RenderableType:
    from rich import table

    made = [
        table.Column(
            column.name,
            justify="right" if column.right else "left",
            ratio=1 if column.least else None,
            min_width=widths[place] if widths else None,
            overflow="fold",
        )
        for place, column in enumerate(columns)
    ]
    grid = table.Table(*made, box=None, show_header=header, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False)
    for row in rows:
        grid.add_row(*map(_text, row))
    return grid


def _labelled(lines: Sequence[tuple[str, str]], indent: int) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Column as RichColumn
    from rich.table import Table

    grid = Table.grid(RichColumn(style="dim", no_wrap=True), RichColumn(overflow="fold"), padding=(0, _GAP, 0, 0))
    for name, value in lines:
        grid.add_row(_text(name), _text(value))
    return Padding(grid, (0, 0, 0, indent))


def _text(value: str) -> Any:
    from rich.text import Text

    return Text(value, overflow="fold")


def open_console(**options: Any) -> Console:
    """A console of rich that leaves a reader that went away to ``program``, which ends every run alike."""
    from rich.console import Console

    class LoudConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return LoudConsole(**options)
