"""The words for a wrong value: each message of msgspec about a type or a bound names member, fault and expectation."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from hermes.base.json.wrong_types import in_words, kind_of

TYPES: list[Any] = [
    str, int, float, bool, None, list[int], dict[str, int], int | float, int | float | str | None, str | None,
    Annotated[str, Meta(min_length=1)], Annotated[str, Meta(min_length=9, max_length=9)],
    Annotated[str, Meta(pattern="^x")], Annotated[int, Meta(ge=100)], Annotated[int, Meta(lt=-100)],
    Annotated[float, Meta(gt=1e3)], Annotated[list[int], Meta(min_length=2)],
]  # fmt: skip
VALUES = [b"7", b"-1", b"1.5", b"true", b"null", b'""', b'"text"', b"[]", b"[1]", b"{}"]


def fault(kind: Any, text: bytes) -> str:
    """The message of msgspec about a text; empty for a valid one."""
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_each_wrong_value_of_a_type_is_told_in_words(kind: Any) -> None:
    outer = msgspec.defstruct("Outer", [("inner", kind)])
    faults = {value: told for value in VALUES if (told := fault(kind, value))}
    assert len(faults) > 3
    for value, told in faults.items():
        words, inner = in_words(told), fault(outer, b'{"inner":%b}' % value)
        assert re.fullmatch(r"the value (is|has) [\w ]+: expected [^`$]+", words)
        assert in_words(inner) == words.replace("the value", "`inner`")
        assert (
            in_words(f"{inner}: expected more")
            == words.replace("the value", "`inner`").partition(":")[0] + ": expected more"
        )


def test_another_message_stays_as_it_is() -> None:
    for kind, text in ((datetime, b'"soon"'), (dict[str, int], b"{"), (msgspec.defstruct("S", [("a", int)]), b"{}")):
        with pytest.raises(msgspec.MsgspecError) as error:
            msgspec.json.decode(text, type=kind)
        assert in_words(str(error.value)) == str(error.value)


@pytest.mark.parametrize("value", [b for b in VALUES if b != b"1.5"])
def test_the_type_of_a_value_is_known_by_its_first_byte(value: bytes) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"got `{kind_of(value)}`"):
        msgspec.json.decode(value, type=bytearray if value[:1] != b'"' else int)
