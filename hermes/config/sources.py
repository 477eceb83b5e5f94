"""The sources of settings: the environment, and below the environment a TOML file that HERMES_CONFIG names.

Invariant: a variable of the environment wins over the file. A message about a setting of the file names the file, the
line and the key.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from hermes.base.errors import ConfigError
from hermes.config.declaration import lookup
from hermes.config.toml_file import Table, TomlFile, read_toml

VARIABLE = "HERMES_CONFIG"
DEFAULT_FILE = Path("hermes.toml")
OFF = "off"

_NAME = re.compile(r"\b[A-Z][A-Z0-9_]*\b", re.ASCII)
_ITEM = re.compile(r"([A-Z][A-Z0-9_]*)='([^']*)'(?=: )", re.ASCII)
_FILE = "_FILE"


class Sources(Mapping[str, str]):
    r"""The texts of all variables; the environment's come before the file's.

    >>> sources = Sources({"QUEUE_SIZE": "5"}, TomlFile(Path("h.toml"), "queue_size = 7\nbatch_size = 8", {}))
    >>> sources["QUEUE_SIZE"], sources["BATCH_SIZE"], sources.origin("BATCH_SIZE")
    ('5', '8', 'h.toml:2')
    """

    def __init__(self, environ: Mapping[str, str], file: TomlFile | None = None, path: Path | None = None) -> None:
        self.environ = environ
        self.file = file
        self.path = path
        entries = {} if file is None else file.entries
        # A variable of the environment wins over the file.
        self._of_file = {name: entry for name, entry in entries.items() if not _is_set(environ, name)}
        self.mistakes = () if file is None else tuple(file.mistakes)
        # The file's texts over the environment's: a variable that is set but empty counts as unset.
        self._texts = {**environ, **{name: entry.text for name, entry in self._of_file.items()}}

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def origin(self, variable: str) -> str:
        """Where the value of a setting comes from: its variable, that with _FILE, or a place in the file; or empty."""
        for name in (variable, variable + _FILE):
            entry = self._of_file.get(name)
            if entry is not None and self.file is not None and entry.written:
                return self.file.locate(entry.path)
            if self.environ.get(name, "").strip():
                return name
        return ""

    def explain(self, mistake: str) -> str:
        """Return a message with the file's keys in the place of the variables that the file sets.

        The place of the first key comes before the message.

        >>> file = TomlFile(Path("h.toml"), "queue_size = 'x'", {})
        >>> Sources({}, file).explain("QUEUE_SIZE='x': expected a whole number")
        "h.toml:1: queue_size='x': expected a whole number"
        """
        # A mistake of the file's own has its place.
        if self.file is None or any(mistake == each.words for each in self.mistakes):
            return mistake
        # The list of the tables' names is not written: its item is the name of a table.
        item = _ITEM.match(mistake)
        table = None if item is None or _is_set(self.environ, item[1]) else self.file.table_of(item[1], item[2])
        if item is not None and table is not None:
            rest = _NAME.sub(lambda found: self._name_of(found[0], []), mistake[item.end() :])
            return f"{self.file.locate(table)}: {'.'.join(table)}{rest}"
        # A message begins with the setting that it is about; the file's settings may be its advice alone.
        known = (name for name in _NAME.findall(mistake) if _is_set(self.environ, name) or self.file.path_of(name))
        if _is_set(self.environ, next(known, "")):
            return mistake
        places: list[str] = []
        told = _NAME.sub(lambda found: self._name_of(found[0], places), mistake)
        return f"{places[0]}: {told}" if places else told

    def _name_of(self, variable: str, places: list[str]) -> str:
        """Return the key for a variable that the file sets, and add its place; else the variable itself."""
        if self.file is None or _is_set(self.environ, variable):
            return variable
        path = self.file.path_of(variable)
        if path is None:
            return variable
        places.append(self.file.locate(path))
        return ".".join(path)

    def unknown(self, declared: Container[str]) -> Iterator[str]:
        """Yield the top-level keys of the file, as variables, that are not declared."""
        paths = {name: entry.path for name, entry in self._of_file.items()}
        # A key whose value cannot be taken is no entry, and its name may be unknown all the same.
        if self.file is not None:
            paths |= {each.variable: each.path for each in self.mistakes if self.file.path_of(each.variable)}
        for name, path in paths.items():
            # A key in the table of a sink is left to the part that knows the options of the sink's plugin.
            if len(path) == 1 and not is_declared(name, declared):
                yield name


def read_sources(environ: Mapping[str, str], tables: Mapping[str, Table]) -> Sources:
    """Return the sources of an environment, with the file that its HERMES_CONFIG names.

    Without HERMES_CONFIG the file is ``hermes.toml`` in the working directory, if it is there. Raises `ConfigError`
    for a file that cannot be read. A key that cannot be taken is left out, and is one of the `Sources.mistakes`.
    """
    given = lookup(environ, VARIABLE)
    if given is not None and given.lower() == OFF:
        return Sources(environ)
    path = DEFAULT_FILE if given is None else Path(given)
    try:
        file = read_toml(path, tables)
    except OSError as error:
        # A file that HERMES_CONFIG names has to be there. The default file may be missing.
        if given is not None:
            words = f"{VARIABLE}={given!r}: cannot be read: {error.strerror}; is it there, and for this user?"
            raise ConfigError(words) from None
        if isinstance(error, FileNotFoundError):
            return Sources(environ, path=path)
        words = f"{path}: cannot be read: {error.strerror}; make it readable for this user, or set {VARIABLE}={OFF}"
        raise ConfigError(words) from None
    if entry := file.entries.get(VARIABLE):
        place = f"{file.locate(entry.path)}: {entry.key}"
        raise ConfigError(f"{place}: a file cannot name another one; set {VARIABLE} in the environment")
    return Sources(environ, file, path)


def is_declared(name: str, declared: Container[str]) -> bool:
    """Whether a name is that of a declared variable, or of the file with its value.

    >>> is_declared("DB_DSN_FILE", {"DB_DSN"})
    True
    """
    return name in declared or name.removesuffix(_FILE) in declared


def _is_set(environ: Mapping[str, str], variable: str) -> bool:
    """Whether the environment gives a value to a variable, itself or by a file; an empty variable counts as unset."""
    # Of DB_DSN and DB_DSN_FILE either one in the environment replaces both in the file: two of them together are
    # refused.
    names = (variable, variable + _FILE, variable.removesuffix(_FILE))
    return any(environ.get(name, "").strip() for name in names)
