"""Finds the lines of the keys in a text of TOML, which Python's own parser does not tell. Pure.

A statement of TOML begins on a line of its own. So the statements of a text are, one after the other, the fewest lines
that `tomllib` can read: a text that ends inside a value is an error, and there is no second parser to keep in step.

Invariants: each key and each table that `tomllib` finds has the line where its statement begins; of two statements that
clash, both are found.
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
    found: dict[Path, int] = {}
    for start, _end, paths in _walk_statements(text):
        for path in paths:
            # The first mention: a table is named again in the headers of its own tables.
            found.setdefault(path, start)
    return found


def find_clash(text: str, line: int) -> tuple[Path, Path, int] | None:
    """Return the key or table whose statement ends on a line or after it, the name that it repeats, and its first line.

    None if the statement repeats nothing. Raises `tomllib.TOMLDecodeError` if it cannot be read by itself.

    >>> find_clash("sinks = 1\\n[sinks.eu]", 2)
    (('sinks', 'eu'), ('sinks',), 1)
    """
    found: dict[Path, int] = {}
    for start, end, paths in _walk_statements(text):
        if end >= line:
            # TOML lets a header name its parents again, so the longest of the repeated paths is the clash.
            repeated = max((path for path in paths if path in found), key=len, default=None)
            return None if repeated is None else (max(paths, key=len), repeated, found[repeated])
        for path in paths:
            found.setdefault(path, start)
    return None


def _walk_statements(text: str) -> Iterator[tuple[int, int, list[Path]]]:
    """Yield the first and the last line of each statement, and the paths of its keys and tables."""
    # As tomllib does first of all: a line may end in CR LF, and a lone CR is an error.
    lines = text.replace("\r\n", "\n").split("\n")
    table: Path = ()
    start = 0
    while start < len(lines):
        statement, length = _read_statement(lines[start:])
        paths = list(_walk(statement))
        # No key begins with a bracket, and a value never begins a statement.
        if lines[start].lstrip().startswith("["):
            # A header holds the name of its table alone, whose path is the longest.
            table = max(paths, key=len)
            paths = [table[:end] for end in range(1, len(table) + 1)]
        else:
            paths = [table + path for path in paths]
        yield start + 1, start + length, paths
        start += length


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
