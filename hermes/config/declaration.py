"""One declaration, many readers: what a group of settings declares, read from an environment or described.

A group of settings is a frozen msgspec ``Struct`` whose fields carry ``Meta``: the description, the bounds, and for the
types of `hermes.config.notation` how the text is read. Invariant: a bad value is a mistake of one line that names the
variable, the value and what is accepted. Called for the service's settings, and for those that each sink declares.
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

from hermes.config.mistakes import Mistakes
from hermes.config.notation import Address, Notation, parse_bool
from hermes.errors import ConfigError

GroupT = TypeVar("GroupT", bound=msgspec.Struct)


@dataclass(frozen=True)
class Variable:
    """One declared variable: its name in the environment, and all that a reader of the documentation wants.

    ``default`` is msgspec's ``NODEFAULT`` where the variable must be set. ``type``, ``notation`` and ``bounds`` are for
    those who write the same rules in another language, such as a schema: the Python type of the value, how its text is
    written where that is not plain, and msgspec's ``ge``, ``gt``, ``le``, ``lt`` as far as they are given. ``secret``:
    the value is never shown. ``guards``: without it something is open, so that an empty value is refused; every secret
    does.
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
        """The default as one would write it in the environment; empty for none."""
        return "" if self.required else self.show(self.default)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is msgspec.NODEFAULT

    def look_up(self, environ: Mapping[str, str]) -> str | None:
        """The text that an environment gives it, or None. Raises `ConfigError`, as `lookup` does."""
        return lookup(environ, self.name, guards=self.guards)

    def read(self, text: str) -> Any:
        """The value that ``text`` stands for. Raises `ConfigError`."""
        try:
            return self._read(text)
        except (ValueError, KeyError, msgspec.ValidationError):
            shown = "(hidden)" if self.secret else repr(text)
            raise ConfigError(f"{self.name}={shown}: expected {self.accepts}") from None


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_PLAIN_PARSERS: dict[Any, Callable[[str], Any]] = {bool: parse_bool, Path: Path}


def _flatten(annotation: Any) -> tuple[Any, list[Meta]]:
    if get_origin(annotation) is not Annotated:
        return annotation, []
    base, *metas = get_args(annotation)
    return base, [meta for meta in metas if isinstance(meta, Meta)]


def _show(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _accepts(base: Any, metas: list[Meta], notation: Notation | None) -> str:
    """The words for what a setting takes, from its type and bounds."""
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
    return msgspec.convert(parse(text), checked, strict=False)


def describe(
    group: type[msgspec.Struct], prefix: str = "", defaults: msgspec.Struct | None = None
) -> Iterator[Variable]:
    """Every variable that a group of settings declares, in order; ``prefix`` goes before each name.

    ``defaults`` is an instance of the group whose values stand for the defaults that it declares.
    """
    hints = typing.get_type_hints(group, include_extras=True)
    for field in msgspec.structs.fields(group):
        base, metas = _flatten(hints[field.name])
        extra: dict[str, Any] = {}
        for meta in metas:
            extra.update(meta.extra or {})
        notation: Notation | None = extra.get("notation")
        bounded = [meta for meta in metas if any(getattr(meta, key) is not None for key in _BOUNDS)]
        checked: Any = base
        for meta in bounded:
            checked = Annotated[checked, meta]
        parse = notation.parse if notation is not None else _PLAIN_PARSERS.get(base, str)
        default = field.default
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
            _read=parse if base in (bool, Path, Address, Address | None) else partial(_read_text, parse, checked),
        )


def lookup(environ: Mapping[str, str], name: str, *, guards: bool = False) -> str | None:
    """The text of a variable: its own, or that of the file that ``NAME_FILE`` names.

    An empty variable counts as unset, unless it ``guards`` something: then it is an error, for a secret that was not
    filled in must not open what it closes. A file that was named and holds nothing is an error for every variable.
    """
    text, path = environ.get(name, ""), environ.get(name + "_FILE", "")
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
        # Editors of Windows begin a file with a byte order mark, which is no part of a key.
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigError(
            f"{name}_FILE={path!r}: cannot be read: {error.strerror}; is it there, and for this user?"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}_FILE={path!r}: cannot be read: {error}; it must be text in UTF-8") from None
    if not text:
        raise ConfigError(f"{name}_FILE={path!r}: the file is empty: put the value in it, or unset {name}_FILE")
    return text


def read(group: type[GroupT], environ: Mapping[str, str], prefix: str = "", defaults: GroupT | None = None) -> GroupT:
    """The values of a group of settings from an environment. Raises `ConfigError` for all that are bad or missing.

    ``defaults`` has other defaults than the class has.

    >>> class LinesSettings(msgspec.Struct, frozen=True):
    ...     timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    >>> read(LinesSettings, {"SINK_LINES_TIMEOUT": "1m30s"}, "SINK_LINES_")
    LinesSettings(timeout=90.0)
    >>> read(LinesSettings, {"SINK_LINES_TIMEOUT": "soon"}, "SINK_LINES_")
    Traceback (most recent call last):
    hermes.errors.ConfigError: SINK_LINES_TIMEOUT='soon': expected a duration such as ...
    """
    mistakes = Mistakes()
    values = try_read(group, environ, mistakes, prefix, defaults)
    mistakes.raise_any()
    if values is None:
        raise AssertionError(f"{group.__name__} lacks a value, and no mistake says which")
    return values


def try_read(
    group: type[GroupT],
    environ: Mapping[str, str],
    mistakes: Mistakes,
    prefix: str = "",
    defaults: GroupT | None = None,
) -> GroupT | None:
    """The same, with ``mistakes`` collected: the default stands for a bad value; None where a required one lacks."""
    values = {} if defaults is None else msgspec.structs.asdict(defaults)
    complete = True
    for variable in describe(group, prefix, defaults):
        with mistakes.collect(variable.name):
            text = variable.look_up(environ)
            if text is not None:
                values[variable.field] = variable.read(text)
            elif variable.required:
                raise ConfigError(f"{variable.name} is not set: expected {variable.accepts}")
        complete = complete and not (variable.required and variable.field not in values)
    return group(**values) if complete else None
