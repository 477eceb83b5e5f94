"""Long values are judged in pieces as one call of the decoder judges them, and come back byte for byte."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from hermes.base.json.long_values import Slim, hide_long_values
from hermes.base.json.rules import UNDECODABLE, BadBody, check_text

decode_raw = msgspec.json.Decoder(Raw).decode
SCALARS = (1, -2.5e10, True, None, "", "a", 'é😀\\"\n', "x" * 200, 'é😀\\"\n' * 30)
NAMES = ("a", "é", 'b\\"', "},", "],", "n" * 100)
DAMAGE = (b",", b"]", b"}", b'"', b"\\ud800", b"\xff", b"\\u0000", b"\\\\u0000", b"0", b"")


def make(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(9)
    if depth > 4 or kind < 5:
        return random.choice(SCALARS)
    if kind < 7:
        return [make(random, depth + 1) for _ in range(random.randrange(12))]
    return {f"{random.choice(NAMES)}{n}": make(random, depth + 1) for n in range(random.randrange(12))}


def run(text: bytes, size: int) -> Slim:
    steps = hide_long_values(text, size)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            slim: Slim = end.value
            return slim


def is_valid(text: bytes) -> bool:
    try:
        decode_raw(text)
        check_text(text)
    except UNDECODABLE:
        return False
    return text.lstrip()[:1] == b"{"


@pytest.mark.parametrize("seed", range(4))
def test_whole_and_in_pieces_the_same_texts_are_valid_and_come_back_as_they_were(seed: int) -> None:
    random = Random(seed)
    for number in range(400):
        value = {f"k{number}": make(random) for number in range(5)}
        text = json.dumps(value, ensure_ascii=random.random() < 0.5, indent=random.choice([None, None, 1])).encode()
        for _ in range(random.choice([0, 1, 2])):
            place = random.randrange(len(text))
            text = text[:place] + random.choice(DAMAGE) + text[place + random.randrange(2) :]
        size = random.choice([20, 60, 200, 1000])
        try:
            slim = run(text, size)
            proved = is_valid(slim.text)
        except BadBody:
            proved = False
        assert proved is is_valid(text), (number, size, text)
        if proved:
            assert slim.restore(slim.text) == text


def test_a_text_that_stands_where_a_long_one_stood_is_refused() -> None:
    long = "x" * 1000
    stand_in = json.loads(run(json.dumps({"a": long}).encode(), 100).text)["a"]
    assert run(json.dumps({"a": long, "b": long}).encode(), 100).hidden[0] == (
        f'"{stand_in}"'.encode(),
        f'"{long}"'.encode(),
    )
    with pytest.raises(BadBody, match="digest of another"):
        run(json.dumps({"a": long, "b": stand_in}).encode(), 500)
