"""Says in plain words which member of a JSON text has a wrong value, what it is, and what is expected. Pure.

msgspec tells it in words of Python. Invariant: a message without such words stays as it is, and no value of the client
is added to a message.
"""

from __future__ import annotations

import re

from msgspec import Raw

# The advice that an owner of the message has added, after a colon, takes the place of the expected type.
_WRONG = re.compile(
    r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>\w+)`)?"
    r"(?: of length (?P<length><=|>=) (?P<count>\d+)| (?P<bound><=|>=|<|>) (?P<limit>-?\d[\d.e+-]*)"
    r"| (?P<regex>matching regex '.*?'))?"
    r"(?: - at `(?:\$\.?)?(?P<member>[^`]*)`)?(?P<advised>(?=: expected ))?"
)
_WANTED = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}
_FOUND = _WANTED | {"int": "a number", "float": "a number with a fraction", "bool": "a truth value"}
_LENGTHS = {">=": ("short", "at least"), "<=": ("long", "at most")}
_BOUNDS = {
    ">=": ("small", "of at least"),
    "<=": ("large", "of at most"),
    ">": ("small", "of more than"),
    "<": ("large", "of less than"),
}
_KINDS = {b"{": "object", b"[": "array", b'"': "str", b"t": "bool", b"f": "bool", b"n": "null"}


def in_words(message: str) -> str:
    """Return a message of msgspec about a wrong value in plain words.

    >>> in_words("Expected `str`, got `int` - at `$.id`")
    '`id` is a number: expected text'
    >>> in_words("Expected `str` of length <= 256 - at `$.id`")
    '`id` is too long: expected text, at most 256 characters'
    """
    return _WRONG.sub(_translate, message)


def kind_of(text: bytes | Raw) -> str:
    """Return msgspec's name for the type of a JSON value, from its first byte.

    >>> kind_of(b"[1]"), kind_of(b"-1")
    ('array', 'int')
    """
    # A view, because `Raw` has no slices and a copy could be long. Any other first byte begins a number.
    return _KINDS.get(bytes(memoryview(text)[:1]), "int")


def _translate(found: re.Match[str]) -> str:
    wanted = _join(found["wanted"].split(" | "))
    fault = f"is {_FOUND.get(found['got'], found['got'])}" if found["got"] else "has another type"
    if found["length"]:
        size, words = _LENGTHS[found["length"]]
        unit = "characters" if found["wanted"] == "str" else "items"
        # Shorter than one character is empty.
        fault = f"is too {size}" if found["count"] != "1" or size == "long" else "is empty"
        unit = unit[:-1] if found["count"] == "1" else unit
        wanted = f"{wanted}, {words} {found['count']} {unit}"
    elif found["bound"]:
        size, words = _BOUNDS[found["bound"]]
        fault, wanted = f"is too {size}", f"{wanted} {words} {found['limit']}"
    elif found["regex"]:
        fault, wanted = "has another form", f"{wanted} {found['regex']}"
    member = f"`{found['member']}`" if found["member"] else "the value"
    return f"{member} {fault}" if found["advised"] is not None else f"{member} {fault}: expected {wanted}"


def _join(types: list[str]) -> str:
    # A number may be whole.
    words = [_WANTED.get(each, each) for each in types if each != "int" or "float" not in types]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
