"""A machine that was dumped and restored gives the same replies for ever after; other bytes are refused."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.base.errors import LogDamaged
from hermes.broker.machine import commands as c
from hermes.broker.machine import pieces as p
from hermes.broker.machine.machine import Machine
from hermes.broker.machine.snapshot import dump, restore
from tests.broker.machine.sequences import ENTRIES, LATER, Entries, Sequence, small_bounds
from tests.broker.machine.test_model import counts


def pieces_of(state: bytes) -> list[object]:
    """The pieces, but one for all rows of a topic: where a block ends is no part of the state."""
    pieces: list[object] = []
    for piece in p.decode(state):
        if isinstance(piece, p.Rows) and isinstance(pieces[-1], bytes):
            pieces[-1] += piece.rows
        else:
            pieces.append(piece.rows if isinstance(piece, p.Rows) else piece)
    return pieces


@settings(max_examples=80)
@given(before=ENTRIES, meanwhile=LATER, after=LATER)
def test_a_restored_machine_replies_as_the_dumped_one_would_have(
    before: Entries, meanwhile: Entries, after: Entries
) -> None:
    with small_bounds():
        sequence = Sequence()
        for pause_ms, steps in before:
            sequence.apply(sequence.entry(pause_ms, steps))
        original = sequence.machine
        at_once = b"".join(dump(original))
        # The machine goes on while the snapshot is made, a chunk before each entry.
        chunks = dump(original)
        made = b""
        for pause_ms, steps in meanwhile:
            made += next(chunks, b"")
            sequence.apply(sequence.entry(pause_ms, steps))
        assert made + b"".join(chunks) == at_once

        restored = restore(at_once)
        assert pieces_of(b"".join(dump(restored))) == pieces_of(at_once)
        twin = restore(b"".join(dump(original)))
        assert pieces_of(b"".join(dump(twin))) == pieces_of(b"".join(dump(original)))
        for pause_ms, steps in after:
            entry = sequence.entry(pause_ms, steps)
            index = original.next_index
            assert sequence.apply(entry) == twin.apply(index, entry)
            assert counts(original) == counts(twin)
            assert list(original.topics) == list(twin.topics)


def a_machine() -> Machine:
    """A machine with some of everything."""
    machine = Machine()
    produce = [c.Produce("orders", b"hi", n % 3, 0, "p" if n % 2 else "", n) for n in range(12)]
    machine.apply(0, c.Entry(1000, (c.Bootstrap(((1, "localhost:7700"),)), c.Lead(1), *produce)))
    polls = (c.Poll("orders", "billing", 4), c.Poll("orders", "billing", 2), c.Poll("orders", "audit", 1))
    machine.apply(1, c.Entry(1001, (*polls, c.Ack("orders", "billing", (1, 4)), c.Nack("orders", "billing", (2,)))))
    keyed = [c.Produce("orders", b"hi", 0, 0, "", 0, 50 * (n % 2), "k") for n in range(4)]
    machine.apply(
        2, c.Entry(1002, (*keyed, c.Nack("orders", "billing", (3,), 40), c.SetGroup("orders", "audit", True)))
    )
    machine.apply(3, c.Entry(1060, (c.SetGroup("orders", "late", None, 1), c.Poll("orders", "late", 1, 0), *keyed)))
    machine.apply(4, c.Entry(1061, (c.Poll("orders", "late", 99), c.Poll("orders", "billing", 99))))
    last = machine.next_lease - 1
    machine.apply(
        5, c.Entry(1062, (c.Nack("orders", "billing", (last,), 10**6), c.Nack("orders", "billing", (last - 1,))))
    )
    return machine


STATE = b"".join(dump(a_machine()))


def test_a_snapshot_that_is_cut_off_anywhere_is_refused() -> None:
    for end in range(len(STATE)):
        with pytest.raises(LogDamaged, match="the broker's snapshot cannot be read"):
            restore(STATE[:end])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"\x00" * 100, "no snapshot of a broker"),
        (STATE.replace(b"version 1\n", b"version 2\n"), "its version is 2"),
        (STATE + STATE[-9:], "behind its end"),
        (b"".join(p.encode([p.End()])), "an? End stands where a Head is due"),
    ],
)
def test_bytes_of_another_kind_are_refused_with_a_reason(state: bytes, reason: str) -> None:
    with pytest.raises(LogDamaged, match=reason):
        restore(state)


def test_a_snapshot_without_one_of_its_pieces_is_refused() -> None:
    """Without some that stand for themselves it is whole."""
    pieces = list(p.decode(STATE))
    assert {type(piece) for piece in pieces} == set(get_args(p.Piece))
    for place, left_out in enumerate(pieces):
        if not isinstance(left_out, p.Keys | p.Dead | p.Orders | p.Late | p.Waits | p.Fails):
            with pytest.raises(LogDamaged):
                restore(b"".join(p.encode(pieces[:place] + pieces[place + 1 :])))


@settings(max_examples=300)
@given(st.integers(0, len(STATE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_gives_a_machine_that_can_be_used(place: int, change: int) -> None:
    """The log has the checksum, so here it is enough that no other error comes out, and no broken machine."""
    state = bytearray(STATE)
    state[place] ^= change
    try:
        machine = restore(bytes(state))
    except LogDamaged:
        return
    for name in list(machine.topics):
        for group in list(machine.topics[name].groups):
            machine.apply(9, c.Entry(2000, (c.Poll(name, group, 100), c.Commit(name, group, 5), c.Produce(name, b""))))
    restore(b"".join(dump(machine)))
