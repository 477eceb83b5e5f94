"""Reads settings from a file of TOML, as texts of the variables that the same settings have in the environment.

A key is the name of a variable, ``queue_size`` that of QUEUE_SIZE. A `Table` of the file holds things of one kind, each
in a table of its own: ``path`` in ``[sinks.eu]`` is SINK_EU_PATH. So one declaration serves both, with its notation,
its bounds, its words and its ``_FILE``.

Invariant: an error names the file, the line and the key, and repeats no value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hermes.base.errors import ConfigError
from hermes.base.spelling import close_words
from hermes.config.group import owning_prefix

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
# What to do about a fault of the notation, by the first words of tomllib.
_MENDS = {
    "Cannot declare": ": a name can stand for one table alone, and not for a key too; keep one of them",
    "Cannot overwrite a value": ": this key is set twice; keep one",
    "Invalid value": ": write text in quotes, a number without a unit, or true or false",
    "Illegal character": ": close the quote, or write text of several lines in three quotes",
    'Expected "\'"': ": close the quote",
    "Expected '=' after a key": ": a line is `key = value`, and a table is [table]",
}
_VALUES = "text, a number, true or false, or a list of them"


@dataclass(frozen=True)
class Table:
    """A table whose tables are things of one kind, such as ``[sinks.eu]``.

    ``names`` is the variable that lists the things, ``prefix`` what the variables of each begin with, before its name.
    ``kind`` is the key that says what a thing is, which by default is its name.

    >>> Table("SINKS", "SINK_", "plugin").prefix_of("my-sink")
    'SINK_MY_SINK_'
    """

    names: str
    prefix: str
    kind: str

    def prefix_of(self, name: str) -> str:
        """What the variables of the thing of this name begin with."""
        return f"{self.prefix}{name.replace('-', '_').upper()}_"


@dataclass(frozen=True)
class Entry:
    """What a file says about one variable: the text of the value, and the path of its key."""

    text: str
    path: tuple[str, ...]

    @property
    def key(self) -> str:
        """The path as it is written in a file with dots: ``sinks.eu.path``."""
        return ".".join(self.path)


class TomlFile:
    """The entries of a file, by their variables.

    ::

        file = read_toml(Path("hermes.toml"), {"sinks": Table("SINKS", "SINK_", "plugin")})
        file.entries["QUEUE_SIZE"].text, file.locate(("queue_size",))  # '5000', 'hermes.toml:3'
    """

    def __init__(self, path: Path, text: str, tables: Mapping[str, Table]) -> None:
        self.path, self._text, self._tables = path, text, tables
        self.entries: dict[str, Entry] = {}
        self._things: dict[str, tuple[str, ...]] = {}
        # Here: most starts have no file, and save the time for the import.
        import tomllib

        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(self._explain_syntax(str(error))) from None
        mistakes = [*self._collect(document)]
        if mistakes:
            raise ConfigError(*mistakes)

    def locate(self, path: tuple[str, ...]) -> str:
        """The place of a key, as ``hermes.toml:3``; that of its table if the key itself is not written."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.path}:{self._lines[path]}" if path else str(self.path)

    def path_of(self, variable: str) -> tuple[str, ...] | None:
        """The path of a variable's key, also of one that is not written, in the table of its thing; else None."""
        for ending in ("", "_FILE"):
            if entry := self.entries.get(variable + ending):
                return (*entry.path[:-1], entry.path[-1][: len(entry.path[-1]) - len(ending)])
        prefix = owning_prefix(variable, self._things)
        option = variable.removeprefix(prefix).lower()
        return (*self._things[prefix], option) if prefix and option else None

    @property
    def prefixes(self) -> dict[str, str]:
        """What the variables of each thing begin with, and the thing's name: ``{"SINK_EU_": "eu"}``."""
        return {prefix: path[-1] for prefix, path in self._things.items()}

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        # Only a message needs lines, so a start without one does not look for them.
        from hermes.config.toml_lines import find_lines

        return find_lines(self._text)

    def _explain_syntax(self, words: str) -> str:
        place = _PLACE.search(words)
        last = self._text.rstrip().count("\n") + 1
        line = place[1] if place is not None and place[1] else last
        words = _PLACE.sub("", words)
        mend = next((mend for beginning, mend in _MENDS.items() if words.startswith(beginning)), "")
        return f"{self.path}:{line}: {words}{mend}"

    def _collect(self, document: dict[str, Any]) -> Iterator[str]:
        """Fill `entries` from a document; yield the mistakes."""
        for key, value in document.items():
            table = self._tables.get(key.lower())
            if table is not None and isinstance(value, dict):
                yield from self._collect_things(table, key, value)
            elif isinstance(value, dict):
                close = close_words(key, self._tables)
                mend = f"did you mean [{close[0]}.…]?" if close else f"there is [{'], ['.join(self._tables)}]"
                yield f"{self.locate((key,))}: [{key}]: there is no such table; {mend}"
            else:
                yield from self._add(key.upper(), (key,), value)

    def _collect_things(self, table: Table, key: str, things: dict[str, Any]) -> Iterator[str]:
        names = []
        for name, options in things.items():
            if not isinstance(options, dict):
                yield f"{self.locate((key, name))}: {key}.{name}: expected a table of settings, [{key}.{name}]"
                continue
            names.append(name)
            self._things[table.prefix_of(name)] = (key, name)
            # Written down for a table without it too, so that a message about the kind has a place.
            kind = {table.kind: name} if table.kind not in map(str.lower, options) else {}
            for option, value in (kind | options).items():
                yield from self._add(table.prefix_of(name) + option.upper(), (key, name, option), value)
        yield from self._add(table.names, (key,), names)

    def _add(self, variable: str, path: tuple[str, ...], value: Any) -> Iterator[str]:
        mistake, text = "", _text_of(value)
        if not _KEY.fullmatch(path[-1]):
            meant = re.sub(r"\W", "_", path[-1], flags=re.ASCII)
            mistake = f"there is no such setting; did you mean {meant}?"
        # TOML tells queue_size and QUEUE_SIZE apart, but both are one variable.
        elif variable in self.entries:
            mistake = f"{self.entries[variable].key} is the same setting; keep one"
        elif text is None:
            mistake = f"expected {_VALUES}, without a comma within an item"
        else:
            self.entries[variable] = Entry(text, path)
        if mistake:
            yield f"{self.locate(path)}: {'.'.join(path)}: {mistake}"


def read_toml(path: Path, tables: Mapping[str, Table]) -> TomlFile:
    """Read a file. Raises `OSError` if it cannot be read, `ConfigError` with one line for each mistake."""
    try:
        # utf-8-sig: editors of Windows begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: {error}; it must be text in UTF-8") from None
    return TomlFile(path, text, tables)


def _text_of(value: Any) -> str | None:
    """Return the text that a variable of the environment has for a value; None if there is no such text.

    >>> _text_of(["a", "b"]), _text_of(True), _text_of(5000), _text_of({})
    ('a,b', 'true', '5000', None)
    """
    match value:
        # First, because True is an int too.
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case list():
            # The text of a list has commas between its items, so no item can hold one.
            items = [_text_of(item) if not isinstance(item, list) else None for item in value]
            return None if any(item is None or "," in item for item in items) else ",".join(map(str, items))
    return None
