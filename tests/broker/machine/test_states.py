"""The table of a message's states, cell by cell: each is reached by commands alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from hermes.broker.machine import commands as c
from hermes.broker.machine.states import TRANSITIONS, MessageEvent, MessageState
from tests.broker.machine.driver import Driver

VISIBILITY_MS = 100


def fresh() -> Driver:
    broker = Driver()
    broker.apply(c.SetRetention("t", 2, 0))
    broker.produce()
    broker.apply(c.Register("t", "g"), c.Register("t", "holds all"))
    return broker


def leased() -> Driver:
    """Message 0 has its second lease, 1; its first was 0."""
    broker = returned()
    broker.poll(visibility_ms=VISIBILITY_MS)
    return broker


def returned() -> Driver:
    broker = fresh()
    broker.nack(*broker.poll())
    return broker


def done() -> Driver:
    broker = leased()
    broker.apply(c.Ack("t", "g", (1,)))
    return broker


STATES = {
    MessageState.FRESH: fresh,
    MessageState.LEASED: leased,
    MessageState.RETURNED: returned,
    MessageState.DONE: done,
}


def take(broker: Driver) -> None:
    assert broker.offsets(visibility_ms=VISIBILITY_MS) == [0]


def take_auto(broker: Driver) -> None:
    assert broker.offsets(auto=True) == [0]


def ack(broker: Driver) -> None:
    broker.apply(c.Ack("t", "g", (1,)))


def nack(broker: Driver) -> None:
    broker.apply(c.Nack("t", "g", (1,)))


def expire(broker: Driver) -> None:
    broker.now_ms += VISIBILITY_MS
    broker.poll(most=0)


def ack_the_first_lease(broker: Driver) -> None:
    broker.apply(c.Ack("t", "g", (0,)), c.Nack("t", "g", (0,)))


def commit(broker: Driver) -> None:
    broker.commit(1)


def purge(broker: Driver) -> None:
    broker.produce()
    broker.produce()


EVENTS: dict[MessageEvent, list[Callable[[Driver], None]]] = {
    MessageEvent.TAKEN: [take],
    MessageEvent.TAKEN_AUTO: [take_auto],
    MessageEvent.ACKED: [ack],
    MessageEvent.NACKED: [nack],
    MessageEvent.EXPIRED: [expire],
    MessageEvent.LATE: [ack_the_first_lease],
    MessageEvent.PASSED_OVER: [commit, purge],
}


def state_of(broker: Driver, offset: int) -> MessageState:
    """The one state that the machine has the message in."""
    topic = broker.machine.topics["t"]
    group = topic.group("g")
    assert group is not None
    watermark = group.done.watermark
    messages = topic.messages
    found = {
        MessageState.DONE: offset in group.done,
        MessageState.LEASED: offset in group.leases.by_id().values(),
        MessageState.RETURNED: offset in group.waiting.returned(watermark),
        MessageState.FRESH: watermark <= offset >= group.waiting.fresh(messages, watermark)[0],
    }
    [state] = [state for state, holds in found.items() if holds]
    return state


CELLS = [(cell, reach) for cell in TRANSITIONS for reach in EVENTS[cell[1]]]


@pytest.mark.parametrize(("cell", "bring"), CELLS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_machine_moves_a_message_as_the_table_says(
    cell: tuple[MessageState, MessageEvent], bring: Callable[[Driver], None]
) -> None:
    before, _ = cell
    broker = STATES[before]()
    assert state_of(broker, 0) is before
    bring(broker)
    assert state_of(broker, 0) is TRANSITIONS[cell]


# Without a lease there is none to end, and what is leased or done is not taken.
IMPOSSIBLE = [cell for cell in itertools.product(MessageState, MessageEvent) if cell not in TRANSITIONS]


@pytest.mark.parametrize("cell", IMPOSSIBLE, ids=str)
def test_a_pair_that_the_table_lacks_changes_nothing(cell: tuple[MessageState, MessageEvent]) -> None:
    state, event = cell
    broker = STATES[state]()
    if event in {MessageEvent.TAKEN, MessageEvent.TAKEN_AUTO}:
        assert broker.offsets(auto=event is MessageEvent.TAKEN_AUTO) == []
    else:
        for bring in EVENTS[event]:
            bring(broker)
    assert state_of(broker, 0) is state
