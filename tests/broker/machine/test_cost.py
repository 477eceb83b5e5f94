"""A poll and its acknowledgement cost what they deliver, not what the topic retains. Counted in steps, not in time."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from hermes.broker.machine import commands as c
from tests.broker.machine.driver import Driver

FEW, MANY = 2_000, 40_000
CYCLES = 8
BATCH = 64


def count_steps(do: Callable[[], object]) -> int:
    """How many instructions of Python are executed."""
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return steps


def a_topic(retained: int, priorities: int) -> tuple[Driver, random.Random]:
    broker, chance = Driver(), random.Random(1)
    broker.apply(c.Register("t", "g"), c.SetRetention("t", 10**9, 0))
    broker.apply(*(c.Produce("t", b"x", chance.randrange(priorities)) for _ in range(retained)))
    return broker, chance


def in_order(retained: int, priorities: int) -> int:
    broker, chance = a_topic(retained, priorities)

    def consume() -> None:
        for _ in range(CYCLES):
            broker.apply(*(c.Produce("t", b"x", chance.randrange(priorities)) for _ in range(BATCH)))
            broker.ack(*broker.poll(most=BATCH))

    return count_steps(consume)


def in_any_order(retained: int, priorities: int) -> int:
    """The first message stays leased, and the others are acknowledged late and at random."""
    broker, chance = a_topic(retained, priorities)
    leased = [*broker.poll(most=BATCH), *broker.poll(most=BATCH)][1:]

    def consume() -> None:
        nonlocal leased
        for _ in range(CYCLES):
            leased += broker.poll(most=BATCH)
            chance.shuffle(leased)
            broker.ack(*leased[:BATCH])
            leased = leased[BATCH:]

    return count_steps(consume)


def expiring(retained: int, priorities: int) -> int:
    broker, _ = a_topic(retained, priorities)

    def consume() -> None:
        for _ in range(CYCLES):
            broker.poll(most=BATCH, visibility_ms=1)
            broker.now_ms += 1

    return count_steps(consume)


def retained_by_count(retained: int, priorities: int) -> int:
    """Each message pushes another one out, under the eyes of many groups and of one with leases at the bottom."""
    broker, chance = a_topic(retained, priorities)
    broker.apply(*(c.Register("t", f"g{number}") for number in range(100)))
    broker.poll("g1", most=1000)
    broker.apply(c.SetRetention("t", retained, 0))

    def consume() -> None:
        for _ in range(CYCLES):
            broker.apply(*(c.Produce("t", b"x", chance.randrange(priorities)) for _ in range(BATCH)))
            broker.ack(*broker.poll("g1", most=BATCH), group="g1")

    return count_steps(consume)


@pytest.mark.parametrize("priorities", [1, 8])
@pytest.mark.parametrize("consume", [in_order, in_any_order, expiring, retained_by_count])
def test_a_poll_and_its_ack_cost_the_same_whatever_is_retained(
    consume: Callable[[int, int], int], priorities: int
) -> None:
    assert consume(MANY, priorities) < 1.1 * consume(FEW, priorities)


def at_the_cap(groups: int) -> int:
    """Each message pushes another one out, beside idle groups that have read nothing."""
    broker, _ = a_topic(BATCH, 1)
    broker.apply(*(c.Register("t", f"idle {number}") for number in range(groups)), c.SetRetention("t", BATCH, 0))

    def consume() -> None:
        for _ in range(4 * CYCLES):
            broker.produce()
            broker.ack(*broker.poll(most=BATCH))

    return count_steps(consume)


def test_at_the_cap_a_message_costs_the_same_however_many_groups_there_are() -> None:
    assert at_the_cap(400) < 1.1 * at_the_cap(4)


def test_leases_that_the_retention_has_taken_take_no_memory() -> None:
    broker, _ = a_topic(FEW, 1)
    broker.apply(c.SetRetention("t", FEW, 0))
    for _ in range(20):
        broker.apply(*(c.Produce("t", b"x") for _ in range(FEW)))
        broker.poll(most=FEW)
    assert len(broker.machine.topics["t"].groups["g"].leases._offsets) <= 2 * FEW
