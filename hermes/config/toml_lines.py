"""Finds the lines of the keys in a text of TOML, which Python's own parser does not tell. Pure.

A statement of TOML begins on a line of its own. So the statements of a text are, one after the other, the fewest lines
that `tomllib` can read: a text that ends inside a value is an error, and there is no second parser to keep in step.

Invariant: each key and each table that `tomllib` finds has the line where its statement begins.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

Path = tuple[str, ...]


def find_lines(text: str) -> dict[Path, int]:
    r"""Return the line of each key and of each table of a valid text, counted from 1, by the path of its names.

    >>> find_lines('queue_size = 5\n\n[sinks.eu]\npath = "eu.db"\n')[("sinks", "eu", "path")]
    4
    """
    # As tomllib does first of all: a line may end in CR LF, and a lone CR is an error.
    lines = text.replace("\r\n", "\n").split("\n")
    found: dict[Path, int] = {}
    table: Path = ()
    start = 0
    while start < len(lines):
        statement, length = _read_statement(lines[start:])
        paths = list(_walk(statement))
        if lines[start].lstrip().startswith("["):
            # A header holds the name of its table alone, whose path is the longest.
            table = max(paths, key=len)
            paths = [table[:end] for end in range(1, len(table) + 1)]
        else:
            paths = [table + path for path in paths]
        for path in paths:
            # The first mention: a table is named again in the headers of its own tables.
            found.setdefault(path, start + 1)
        start += length
    return found


def _read_statement(lines: list[str]) -> tuple[dict[str, object], int]:
    """Return the values of the statement at the beginning of the lines, and its number of lines."""
    # The fewest lines that tomllib can read: a text that ends inside a value is an error. So there is no second parser
    # to keep in step with tomllib.
    for length in range(1, len(lines) + 1):
        try:
            return tomllib.loads("\n".join(lines[:length])), length
        except tomllib.TOMLDecodeError:
            if length == len(lines):
                raise
    raise AssertionError("a text has at least one line")


def _walk(value: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    # A header in two brackets begins an item of a list of tables, all of which have one path.
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, dict):
            for name, inner in item.items():
                yield from _walk(inner, (*path, name))
