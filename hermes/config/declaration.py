"""Reads and describes a group of settings from its one declaration.

A group of settings is a frozen msgspec ``Struct`` whose fields carry ``Meta``: the description, the bounds, and for the
types of `hermes.config.notation` the notation of the text. The service declares one group, each sink another.

Invariant: a bad value is a mistake of one line that names the variable, the value and the accepted values.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from hermes.base.errors import ConfigError
from hermes.base.quoting import explain_undecodable
from hermes.config.mistakes import Mistakes
from hermes.config.notation import Address, Notation, parse_bool

GroupT = TypeVar("GroupT", bound=msgspec.Struct)


@dataclass(frozen=True)
class Variable:
    """One declared variable: its name in the environment, and the facts that documents and checks need.

    ``default`` is msgspec's ``NODEFAULT`` where the variable must be set. ``type``, ``notation`` and ``bounds`` serve
    code that writes the same rules in another language, such as a schema: the Python type of the value, the notation of
    its text (None for a plain type), and the given ones of msgspec's ``ge``, ``gt``, ``le``, ``lt``. ``secret``: the
    value is never shown. ``guards``: without a value something is open to everybody, so an empty value is refused;
    every secret guards.

    >>> class LinesSettings(msgspec.Struct, frozen=True):
    ...     timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 90.0
    >>> [(variable.name, variable.default_text) for variable in describe(LinesSettings, "SINK_LINES_")]
    [('SINK_LINES_TIMEOUT', '1m30s')]
    """

    name: str
    field: str
    type: Any
    notation: Notation | None
    bounds: Mapping[str, float]
    description: str
    default: Any
    default_words: str
    secret: bool
    guards: bool
    accepts: str
    show: Callable[[Any], str]
    _read: Callable[[str], Any]

    @property
    def default_text(self) -> str:
        """The default in the notation of the environment; empty if there is no default."""
        return "" if self.required else self.show(self.default)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is msgspec.NODEFAULT

    def look_up(self, environ: Mapping[str, str]) -> str | None:
        """Return the text that an environment gives to the variable, or None. Raises `ConfigError` as `lookup` does."""
        return lookup(environ, self.name, guards=self.guards)

    def read(self, text: str) -> Any:
        """Return the value that ``text`` stands for. Raises `ConfigError`."""
        try:
            return self._read(text)
        # The errors that a notation raises by its contract, and msgspec's for a value out of bounds.
        except (ValueError, KeyError, msgspec.ValidationError):
            shown = "(hidden)" if self.secret else repr(text)
            # `from None`: the cause's message may quote the secret, and a traceback would print it.
            raise ConfigError(f"{self.name}={shown}: expected {self.accepts}") from None


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
# msgspec converts text to int and float. For a bool it takes neither yes and no nor on and off, and it knows no Path.
_PLAIN_PARSERS: dict[Any, Callable[[str], Any]] = {bool: parse_bool, Path: Path}


def _flatten(annotation: Any) -> tuple[Any, list[Meta]]:
    if get_origin(annotation) is not Annotated:
        return annotation, []
    base, *metas = get_args(annotation)
    return base, [meta for meta in metas if isinstance(meta, Meta)]


def _show(value: Any) -> str:
    if value is None:
        return ""
    # The spelling that reads back, as for every value of a table: `true`, and not Python's `True`.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _accepts(base: Any, metas: list[Meta], notation: Notation | None) -> str:
    """Return the phrase for the accepted values of a setting, from its type and bounds."""
    # A notation knows its phrase best; a plain type has the phrase of the table below.
    if notation is not None:
        words = notation.accepts
    elif get_origin(base) is Literal:
        return "one of " + ", ".join(get_args(base)) if len(get_args(base)) > 1 else str(get_args(base)[0])
    else:
        words = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}.get(base, "text")
    show = notation.format if notation else str
    limits = [
        f"{phrase} {show(getattr(meta, key))}"
        for meta in metas
        for key, phrase in _BOUNDS.items()
        if getattr(meta, key) is not None
    ]
    return f"{words}, {' and '.join(limits)}" if limits else words


def _read_text(parse: Callable[[str], Any], checked: Any, text: str) -> Any:
    # Not strict: msgspec then takes the text of a number for the number.
    return msgspec.convert(parse(text), checked, strict=False)


def describe(
    group: type[msgspec.Struct], prefix: str = "", defaults: msgspec.Struct | None = None
) -> Iterator[Variable]:
    """Yield every variable that a group of settings declares, in order; ``prefix`` goes before each name.

    ``defaults`` is an instance of the group whose values replace the declared defaults.

    >>> [variable.name for variable in describe(DeliverySettings, "SINK_ECHO_")][:1]
    ['SINK_ECHO_REQUIRED']
    """
    # include_extras keeps Annotated; without it the descriptions and bounds are gone.
    hints = typing.get_type_hints(group, include_extras=True)
    for field in msgspec.structs.fields(group):
        base, metas = _flatten(hints[field.name])
        extra: dict[str, Any] = {}
        # A field may have several: that of its type has the notation, that of `about` the words for the default.
        for meta in metas:
            extra.update(meta.extra or {})
        notation: Notation | None = extra.get("notation")
        bounded = [meta for meta in metas if any(getattr(meta, key) is not None for key in _BOUNDS)]
        # msgspec checks a bound only where it stands in the annotation, so the bounds are put around the base type
        # again.
        checked: Any = base
        for meta in bounded:
            checked = Annotated[checked, meta]
        # A notation replaces the plain parser, even for a type that the table knows.
        parse = notation.parse if notation is not None else _PLAIN_PARSERS.get(base, str)
        default = field.default
        # A factory's default depends on the machine (the number of processors): call it now, for this machine.
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if defaults is not None:
            default = getattr(defaults, field.name)
        yield Variable(
            name=(prefix + field.name).upper(),
            field=field.name,
            type=base,
            notation=notation,
            bounds={key: limit for meta in bounded for key in _BOUNDS if (limit := getattr(meta, key)) is not None},
            description=" ".join(meta.description for meta in metas if meta.description),
            default=default,
            default_words=extra.get("default", ""),
            secret=bool(extra.get("secret")),
            guards=bool(extra.get("secret") or extra.get("guards")),
            accepts=_accepts(base, bounded, notation),
            show=notation.format if notation else _show,
            # msgspec cannot convert to a bool, a Path or an Address from what the parser returns; they have no bounds
            # to check.
            _read=parse if base in (bool, Path, Address, Address | None) else partial(_read_text, parse, checked),
        )


def lookup(environ: Mapping[str, str], name: str, *, guards: bool = False) -> str | None:
    """Return the text of a variable, from the variable itself or from the file that ``NAME_FILE`` names.

    An empty variable counts as unset, because a compose file or a chart passes empty variables on. An empty variable
    that ``guards`` something is an error: a secret that was not filled in must not open the door that it closes. A
    named file that is empty is an error for every variable.

    >>> lookup({"LOG_LEVEL": " debug "}, "LOG_LEVEL")
    'debug'
    >>> lookup({"API_KEYS": ""}, "API_KEYS", guards=True)
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: API_KEYS is set but empty: ...
    """
    text, path = environ.get(name, ""), environ.get(name + "_FILE", "")
    # Neither may win silently: the operator believes that the other one is in force.
    if text and path:
        raise ConfigError(f"{name} and {name}_FILE are both set: keep one")
    if path:
        return _read_file(name, path)
    text = text.strip()
    if guards and not text:
        for given in (name, name + "_FILE"):
            if given in environ:
                raise ConfigError(f"{given} is set but empty: give it a value, or unset it to go without {name}")
    return text or None


def _read_file(name: str, path: str) -> str:
    try:
        # utf-8-sig: editors of Windows begin a file with a byte order mark, and the key would not match with it.
        # strip: a file that `echo` wrote ends in a line feed.
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigError(
            f"{name}_FILE={path!r}: cannot be read: {error.strerror}; is it there, and for this user?"
        ) from None
    except UnicodeDecodeError as error:
        line, words = explain_undecodable(error)
        raise ConfigError(f"{name}_FILE={path!r}: cannot be read: line {line}: {words}") from None
    if not text:
        raise ConfigError(f"{name}_FILE={path!r}: the file is empty: put the value in it, or unset {name}_FILE")
    return text


def read(group: type[GroupT], environ: Mapping[str, str], prefix: str = "", defaults: GroupT | None = None) -> GroupT:
    """Return the values of a group of settings from an environment.

    Raises `ConfigError` with one line for each bad or missing variable. ``defaults`` are as in `describe`.

    >>> class LinesSettings(msgspec.Struct, frozen=True):
    ...     timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    >>> read(LinesSettings, {"SINK_LINES_TIMEOUT": "1m30s"}, "SINK_LINES_")
    LinesSettings(timeout=90.0)
    >>> read(LinesSettings, {"SINK_LINES_TIMEOUT": "soon"}, "SINK_LINES_")
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: SINK_LINES_TIMEOUT='soon': expected a duration such as ...
    """
    mistakes = Mistakes()
    values = try_read(group, environ, mistakes, prefix, defaults)
    mistakes.raise_any()
    if values is None:
        # A group lacks a value only after a mistake, which `raise_any` has raised.
        raise AssertionError(f"{group.__name__} lacks a value, and no mistake says which")
    return values


def try_read(
    group: type[GroupT],
    environ: Mapping[str, str],
    mistakes: Mistakes,
    prefix: str = "",
    defaults: GroupT | None = None,
) -> GroupT | None:
    """Return the values as `read` does, but collect the errors in ``mistakes``.

    A bad value is replaced by the default. Returns None if a required variable has no value. ::

        mistakes = Mistakes()
        settings = try_read(MySettings, os.environ, mistakes, "SINK_MINE_")
        mistakes.raise_any()
    """
    # From `defaults`, so that a variable which is not set keeps the sink's own default.
    values = {} if defaults is None else msgspec.structs.asdict(defaults)
    complete = True
    for variable in describe(group, prefix, defaults):
        # One variable a block: a bad one does not keep the next ones from being checked.
        with mistakes.collect(variable.name):
            text = variable.look_up(environ)
            if text is not None:
                values[variable.field] = variable.read(text)
            elif variable.required:
                raise ConfigError(f"{variable.name} is not set: expected {variable.accepts}")
        # Collected, not returned at once, so that every variable is checked.
        complete = complete and not (variable.required and variable.field not in values)
    return group(**values) if complete else None
