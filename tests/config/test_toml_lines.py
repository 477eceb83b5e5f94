"""The lines of the keys in a file of TOML: each where its statement begins, for every key that tomllib finds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.config.toml_lines import find_lines

KEYS = st.sampled_from(["{k}", '"{k}"', "'{k}'", "{k}.a", '{k}."b.c"'])
VALUES = st.sampled_from(
    [
        "1",
        "'a # b'",
        '"[x]"',
        "true # [sinks.eu]",
        "[\n  1, # ]\n\n  2,\n]",
        '"""\n[fake]\nk = 1\n"""',
        "'''a\n\"\"\"\n[also]'''",
        "{ a = 1, b = [2, 3] }",
        '["""\n]\n""", \'=\']',
        "1979-05-27T07:32:00Z",
    ]
)
BEFORE = st.sampled_from(["", "\n", "# k0 = 1\n", "  # [x]\n\n"])
HEADERS = st.sampled_from(["[{t}]", "[ {t} . inner ]", "[[{t}]]", '["{t}".x]', "[sinks.{t}]"])
STATEMENTS = st.lists(st.tuples(st.booleans(), BEFORE, KEYS, VALUES, HEADERS), max_size=8)


def leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of a document."""
    if path:
        yield path
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for name, inner in item.items():
                yield from leaves(inner, (*path, name))


@given(STATEMENTS, st.sampled_from(["\n", "\r\n"]))
def test_every_key_that_tomllib_finds_has_the_line_where_it_was_written(
    statements: list[tuple[bool, str, str, str, str]], newline: str
) -> None:
    text, written = "", {}
    for number, (is_header, before, key, value, header) in enumerate(statements):
        name = f"t{number}" if is_header else f"k{number}"
        text += before
        written[name] = text.count("\n") + 1
        text += header.format(t=name) if is_header else f"{key.format(k=name)} = {value}"
        text += "\n"
    text = text.replace("\n", newline)
    found = find_lines(text)
    assert set(found) == set(leaves(tomllib.loads(text)))
    for path, line in found.items():
        own = [name for name in path if name in written]
        # A path through a table of its own ends in a key, whose line it has; `sinks` has that of its first table.
        if own:
            assert line >= written[own[-1]]
            assert own[-1] != path[-1] or line == written[own[-1]]


def test_a_text_that_is_not_valid_is_an_error() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        find_lines("a = [1,\n")
