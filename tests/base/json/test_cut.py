"""Large JSON bodies cut into pieces: nothing is lost, each piece is small, and mistakes are found as in the whole."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.base.json.cut import Cutter, Path, Pieces, Refused, cut_json, cut_lines
from hermes.base.json.rules import BadBody
from hermes.events.protocols.otlp_pieces import cut_messages
from tests.events.protocols.kit import mutations

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.sampled_from(['"},{"', "]\\", "\\u0000", "é"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
LAYOUTS = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}])
PATH: Path = (("outer", "old"), ("inner",))


def texts(pieces: Pieces) -> list[bytes]:
    return [piece for piece in pieces if isinstance(piece, bytes)]


@settings(max_examples=80)
@given(st.lists(VALUES, max_size=30), LAYOUTS, st.integers(8, 200))
def test_the_pieces_of_an_array_hold_its_elements_in_their_order(elements: list[Any], layout: Any, size: int) -> None:
    body = json.dumps(elements, **layout).encode()
    pieces = texts(cut_json(b" \n" + body + b"\t", size))
    assert [element for piece in pieces for element in json.loads(piece)] == elements
    longest = max((len(json.dumps(element, **layout).encode()) for element in elements), default=0)
    assert all(len(piece) <= 2 + max(size, 2 * longest) for piece in pieces)


@settings(max_examples=50)
@given(st.lists(st.lists(VALUES, max_size=8), max_size=5), VALUES, LAYOUTS, st.integers(20, 200))
def test_every_piece_along_a_path_has_what_its_elements_share(
    groups: list[list[Any]], shared: Any, layout: Any, size: int
) -> None:
    body = {"before": shared, "old": [{"n": n, "inner": group, "x": shared} for n, group in enumerate(groups)], "a": 1}
    found: list[list[Any]] = [[] for _ in groups]
    for piece in texts(Cutter(size).cut_along(json.dumps(body, **layout).encode(), PATH)):
        cut = json.loads(piece)
        assert (cut["before"], cut["a"]) == (shared, 1)
        for group in cut["old"]:
            assert group["x"] == shared
            found[group["n"]] += group["inner"]
    assert found == groups


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))), st.integers(1, 50))
def test_the_pieces_of_lines_are_whole_lines(lines: list[str], size: int) -> None:
    body = "\n".join(lines).encode()
    pieces = texts(cut_lines(body, size))
    assert b"".join(pieces) == body.removeprefix(b"\xef\xbb\xbf")
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


@pytest.mark.parametrize(
    "body",
    [
        b'[{"a":1},{"a":"x]',
        b'[{"a":1}',
        b'[{"a":1},]',
        b'[,{"a":1}]',
        b'[{"a":1}] {',
        b'[{"a":1} {"a":2}]',
        b"[" + b" " * 2**18 + b"]",
        b"[" * 2**20,
        b'[{"a":[' + b"[]," * 2**20 + b"0]}]",
    ],
)
def test_an_array_that_does_not_end_as_one_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        list(cut_json(body, 8))


def test_a_long_element_that_is_nested_too_deeply_is_refused_alone() -> None:
    deep = b'{"a":' + b"[" * 600 + b'"' + b"x" * 2**18 + b'"' + b"]" * 600 + b"}"
    found = [piece for piece in cut_json(b'[{"n":1},' + deep + b',{"n":2}]', 64) if piece is not None]
    assert [isinstance(piece, Refused) for piece in found] == [False, True, False]


@pytest.mark.parametrize(
    "body", [b'{"outer":[],"old":[]}', b'{"other":"%b"}' % (b"x" * 2**18), b'{"x":"%b","outer":[1]}' % (b"x" * 100)]
)
def test_an_object_that_cannot_be_cut_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        list(Cutter(32, most_shared=64).cut_along(body, PATH))


@pytest.mark.parametrize("text", [b"[]", b'""', b"0", b'{"a":1}', b'"a,}]"'], ids=repr)
def test_what_happens_between_two_items_is_bounded(text: bytes) -> None:
    """In bytes of which each piece or pause has its share: never more than a few hundred thousand of them at once."""
    body = b"[" + b",".join([text] * (2**22 // len(text))) + b"]"
    items = 0
    for item in cut_json(body, 2**14):
        items += 1
        assert item is None or (isinstance(item, bytes) and len(item) <= 2**14 + 2)
    assert items >= len(body) // 2**18


@pytest.mark.parametrize("member", [b'"a":1', b'"":0', b'"a":""', b'"a":{}', b'  "a" : [ ] '], ids=repr)
@pytest.mark.parametrize("most_shared", [0, 2**16])
def test_the_members_of_an_object_are_walked_in_short_steps(member: bytes, most_shared: int) -> None:
    body = b"{" + b",".join([member] * (2**21 // len(member))) + b"}"
    steps = 0
    with pytest.raises(BadBody, match="expected a member" if not most_shared else "share is larger"):  # noqa: PT012
        for item in Cutter(2**14, most_shared=most_shared).cut_along(body, PATH):
            assert item is None
            steps += 1
    looked_at = len(body) if not most_shared else 2**17
    assert steps >= looked_at // 2**13
    assert most_shared == 0 or steps <= 2**17 // 2**11  # what is too much already is not walked to its end


def test_there_is_a_pause_after_each_guess_that_fails() -> None:
    element = b"[" * 40 + b"0," * 4000 + b"0" + b"]" * 40
    items = list(cut_json(b"[" + b",".join([element] * 9) + b"]", 2**12))
    assert len(items) - len(texts(iter(items))) >= 9 * 2


def test_the_name_of_a_member_is_bounded() -> None:
    with pytest.raises(BadBody, match="a name of at most"):
        list(Cutter(2**14).cut_along(b'{"%b":1,"inner":[]}' % (b"n" * 2**18), PATH))


TEXT = json.dumps(
    {
        "n": [1],
        "old": [{"x": {"y": 1}, "inner": [{"a": '"},{"'}, [], "b", 1.5, None]}, {"inner": []}, {"inner": [{}] * 9}],
    }
).encode()


@settings(max_examples=150)
@given(mutations(TEXT), st.integers(4, 80))
def test_no_bytes_raise_anything_else(body: bytes, size: int) -> None:
    for pieces in (
        cut_lines(body, size),
        cut_json(body, size),
        cut_json(b"[" + body + b"]", size),
        Cutter(size, most_shared=40, most_element=30, most_objects=4).cut_along(body, PATH),
        cut_messages(body, size),
    ):
        with suppress(BadBody):
            assert all(piece is None or isinstance(piece, bytes | Refused) for piece in pieces)
