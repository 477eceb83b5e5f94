"""Reads settings from a file of TOML, as texts of the variables that the same settings have in the environment.

A key is the name of a variable, ``queue_size`` that of QUEUE_SIZE. A `Table` of the file holds things of one kind, each
in a table of its own: ``path`` in ``[sinks.eu]`` is SINK_EU_PATH. So one declaration serves both, with its notation,
its bounds, its words and its ``_FILE``.

Invariants: an error names the file, the line and the key, and repeats no value, which may be a secret; a mistake in one
key keeps no other key from being read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hermes.base.errors import ConfigError
from hermes.base.quoting import explain_undecodable
from hermes.base.spelling import close_words
from hermes.config.group import owning_prefix

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
# Until Python 3.14 a TOMLDecodeError has no attribute for the line: the place is in its message alone.
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
# What to do about a fault of the notation, by the first words of tomllib.
_LINE = ": a line is `key = value`, or the [name] of a table"
_VALUE = ": write text in quotes, a number without a unit, or true or false"
_QUOTE = ": close the quote, or write text of several lines in three quotes"
_MENDS = {
    "Duplicate inline table key": "; keep one",
    "Invalid value": _VALUE,
    "Illegal": _QUOTE,
    "Unterminated string": _QUOTE,
    'Expected "\'"': _QUOTE,
    "Expected '=' after a key": _LINE,
    "Invalid statement": _LINE,
    "Invalid initial character for a key": _LINE,
    "Expected newline": ": each key and each [name] has a line of its own, text has quotes, and a number has no unit",
    "Unescaped": ": write each backslash twice, or the text in single quotes",
    "Unclosed array": ": its items have commas between them, and a ] behind them",
    "Expected ']": ": a table is [name], without spaces in its name",
}
# tomllib has one class for all errors: only the first words tell that a name stands twice.
_CLASHES = ("Cannot declare", "Cannot overwrite", "Cannot mutate", "Cannot redefine")
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
    """What a file says about one variable: the text of the value, and the path of its key.

    ``written``: whether the key itself is in the file, and not implied by the name of its table.
    """

    text: str
    path: tuple[str, ...]
    written: bool = True

    @property
    def key(self) -> str:
        """The path as it is written in a file with dots: ``sinks.eu.path``."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Mistake:
    """A key or a table that cannot be taken: its variable, if it has one, its path, and the line for the operator."""

    variable: str
    path: tuple[str, ...]
    words: str


class TomlFile:
    """The entries of a file, by their variables, and the ``mistakes``: the keys and tables that cannot be taken.

    ::

        file = read_toml(Path("hermes.toml"), {"sinks": Table("SINKS", "SINK_", "plugin")})
        file.entries["QUEUE_SIZE"].text, file.locate(("queue_size",))  # '5000', 'hermes.toml:3'
    """

    def __init__(self, path: Path, text: str, tables: Mapping[str, Table]) -> None:
        self.path, self._text, self._tables = path, text, tables
        self.entries: dict[str, Entry] = {}
        self._things: dict[str, tuple[str, ...]] = {}
        # The variables whose names are those of tables.
        self._listed: set[str] = set()
        # The keys whose values no setting can have.
        self._untaken: dict[str, tuple[str, ...]] = {}
        # Here: most starts have no file, and save the time for the import.
        import tomllib

        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(self._explain_syntax(str(error))) from None
        self.mistakes = [*self._collect(document)]

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
        if variable in self._untaken:
            return self._untaken[variable]
        prefix = owning_prefix(variable, self._things)
        option = variable.removeprefix(prefix).lower()
        return (*self._things[prefix], option) if prefix and option else None

    def table_of(self, names: str, name: str) -> tuple[str, ...] | None:
        """The path of the thing of this name, if the variable ``names`` has the names of tables; else None."""
        things = self._things.values() if names in self._listed else ()
        return next((path for path in things if path[-1] == name), None)

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
        # tomllib names no line for a fault at the "end of document": the last line with text stands for that.
        line = place[1] if place is not None and place[1] else last
        words = _PLACE.sub("", words).replace(r"character '\n'", "end of a line within quotes")
        # tomllib tells the place of the repetition alone, and for a value not even the name.
        if words.startswith(_CLASHES) and (told := self._explain_clash(int(line))):
            return told
        mend = next((mend for beginning, mend in _MENDS.items() if words.startswith(beginning)), "")
        return f"{self.path}:{line}: {words}{mend}"

    def _explain_clash(self, line: int) -> str:
        """Return the words for a name that stands twice, in the statement that ends on this line; empty if unknown."""
        import tomllib

        from hermes.config.toml_lines import find_clash

        try:
            clash = find_clash(self._text, line)
        except tomllib.TOMLDecodeError:
            # The repetition is within the statement.
            return ""
        if clash is None:
            return ""
        name, repeated, first = clash
        what = "sets it" if name == repeated else f"has {'.'.join(repeated)}"
        mend = "keep one"
        if len(repeated) == 1 and repeated[0].lower() in self._tables:
            mend = _advise_names(self._tables[repeated[0].lower()], repeated[0])
        return f"{self.path}:{line}: {'.'.join(name)}: line {first} {what} already; {mend}"

    def _collect(self, document: dict[str, Any]) -> Iterator[Mistake]:
        """Fill `entries` from a document; yield the mistakes."""
        for key, value in document.items():
            if not isinstance(value, dict):
                yield from self._add(key.upper(), (key,), value)
                continue
            name = key.lower()
            if name not in self._tables:
                close = close_words(key, self._tables)
                mend = f"did you mean [{close[0]}.…]?" if close else f"there is [{'], ['.join(self._tables)}]"
                words = f"{self.locate((key,))}: [{key}]: there is no such table; {mend}"
                # With the variable of its names: what follows from their lack is not told.
                yield Mistake(self._tables[close[0]].names if close else "", (key,), words)
                name = close[0] if close else ""
            # The table that was meant is read too, so that all mistakes are told at once.
            if name:
                yield from self._collect_things(self._tables[name], key, value)

    def _collect_things(self, table: Table, key: str, things: dict[str, Any]) -> Iterator[Mistake]:
        names = []
        for name, options in things.items():
            path = (key, name)
            if not isinstance(options, dict):
                words = f"{self.locate(path)}: {key}.{name}: expected a table of settings, [{key}.{name}]"
                yield Mistake("", path, words)
                continue
            names.append(name)
            self._things[table.prefix_of(name)] = path
            # Implied for a table without it, so that its name counts as a sink's, and a message about it has a place.
            # In small letters: `PLUGIN` and `plugin` are one variable, as everywhere in the file.
            if table.kind not in map(str.lower, options):
                self.entries[table.prefix_of(name) + table.kind.upper()] = Entry(name, (*path, table.kind), False)
            for option, value in options.items():
                yield from self._add(table.prefix_of(name) + option.upper(), (*path, option), value)
        # Each table of a file runs, so that a file needs no list of its tables beside them.
        listed = self.entries.get(table.names)
        if listed is None:
            self.entries[table.names] = Entry(",".join(names), (key,))
            self._listed.add(table.names)
        elif table.names in self._listed:
            # A table of another spelling: its things are of the same kind.
            self.entries[table.names] = Entry(",".join([listed.text, *names]), listed.path)
        else:
            words = f"{self.locate(listed.path)}: {listed.key}: {_advise_names(table, key)}"
            yield Mistake(table.names, listed.path, words)

    def _add(self, variable: str, path: tuple[str, ...], value: Any) -> Iterator[Mistake]:
        mistake, text = "", _text_of(value)
        # A key in quotes may have any characters; the name of a variable may not.
        if not _KEY.fullmatch(path[-1]):
            meant = re.sub(r"\W", "_", path[-1], flags=re.ASCII)
            variable = ""
            mistake = f"there is no such setting; did you mean {meant}?"
        # TOML tells queue_size and QUEUE_SIZE apart, but both are one variable.
        elif variable in self.entries:
            mistake = f"{self.entries[variable].key} is the same setting; keep one"
        elif text is None:
            mistake = _explain_type(value)
            # Kept, so that a message about the variable, which looks unset, still has the place of its key.
            self._untaken[variable] = path
        else:
            self.entries[variable] = Entry(text, path)
        if mistake:
            yield Mistake(variable, path, f"{self.locate(path)}: {'.'.join(path)}: {mistake}")


def _advise_names(table: Table, key: str) -> str:
    return f"each [{key}.…] of a file runs; to run some of them, set {table.names} in the environment"


def read_toml(path: Path, tables: Mapping[str, Table]) -> TomlFile:
    """Read a file. Raises `OSError` if it cannot be read, `ConfigError` if it is no TOML in UTF-8."""
    try:
        # utf-8-sig: editors of Windows begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line, words = explain_undecodable(error)
        raise ConfigError(f"{path}:{line}: {words}") from None
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


def _explain_type(value: Any) -> str:
    """Say which value of TOML no setting can have. The value itself, which may be a secret, is not repeated."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict) for item in items):
        return (
            "a table cannot be the value of a setting; a table is [name], in single brackets and on a line of its own"
        )
    if any(isinstance(item, list) for item in items):
        return f"expected {_VALUES}, not a list within a list"
    if any(isinstance(item, str) for item in items):
        return "an item of the list holds a comma, which comes between items; write each item in quotes of its own"
    return f"expected {_VALUES}; write a date or a time in quotes"
