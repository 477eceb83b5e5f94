"""The table of a message's states, cell by cell: each is reached by commands alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from hermes.broker.machine import commands as c
from hermes.broker.machine.states import TRANSITIONS, MessageEvent, MessageState
from tests.broker.machine.driver import Driver

VISIBILITY_MS = 100
DELAY_MS = 50


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


def delayed() -> Driver:
    broker = leased()
    put_off(broker)
    return broker


def with_one_before() -> Driver:
    """Message 1 is fresh, and stands behind message 0, which has its fourth lease, 3."""
    broker = Driver()
    broker.apply(c.SetRetention("t", 2, 0), c.Register("t", "g"), c.Register("t", "holds all"))
    broker.produce(key="k")
    for _ in range(3):
        broker.nack(*broker.poll())
    broker.poll()
    broker.produce(key="k")
    # So that the newest lease is that of neither.
    broker.poll("holds all", 1)
    return broker


def behind() -> Driver:
    broker = with_one_before()
    hold_up(broker)
    return broker


SUBJECT = {MessageState.BEHIND: 1}
"""The message that is looked at, where it is not 0."""

STATES = {
    MessageState.FRESH: fresh,
    MessageState.LEASED: leased,
    MessageState.DELAYED: delayed,
    MessageState.BEHIND: behind,
    MessageState.RETURNED: returned,
    MessageState.DONE: done,
}


def take(broker: Driver) -> None:
    assert broker.offsets(visibility_ms=VISIBILITY_MS) == [0]


def take_auto(broker: Driver) -> None:
    assert broker.offsets(auto=True) == [0]


def newest(broker: Driver) -> tuple[int, ...]:
    return (broker.machine.next_lease - 1,)


def ack(broker: Driver) -> None:
    broker.apply(c.Ack("t", "g", newest(broker)))


def nack(broker: Driver) -> None:
    broker.apply(c.Nack("t", "g", newest(broker)))


def put_off(broker: Driver) -> None:
    broker.apply(c.Nack("t", "g", newest(broker), DELAY_MS))


def spend(broker: Driver) -> None:
    broker.apply(c.SetGroup("t", "g", max_attempts=1), c.Nack("t", "g", newest(broker)))


def hold_up(broker: Driver) -> None:
    assert broker.offsets() == []


def free(broker: Driver) -> None:
    broker.apply(c.Ack("t", "g", (3,)))


def expire(broker: Driver) -> None:
    broker.now_ms += VISIBILITY_MS
    broker.poll(most=0)


def ack_the_first_lease(broker: Driver) -> None:
    broker.apply(c.Ack("t", "g", (0,)), c.Nack("t", "g", (0,)))


def commit(broker: Driver) -> None:
    broker.commit(broker.machine.topics["t"].messages.next)


def purge(broker: Driver) -> None:
    broker.produce()
    broker.produce()


EVENTS: dict[MessageEvent, list[Callable[[Driver], None]]] = {
    MessageEvent.TAKEN: [take],
    MessageEvent.TAKEN_AUTO: [take_auto],
    MessageEvent.ACKED: [ack],
    MessageEvent.NACKED: [nack],
    MessageEvent.PUT_OFF: [put_off],
    MessageEvent.EXPIRED: [expire],
    MessageEvent.SPENT: [spend],
    MessageEvent.HELD_UP: [hold_up],
    MessageEvent.FREED: [free],
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
        MessageState.DELAYED: offset in group.delays.by_id().values(),
        MessageState.BEHIND: offset in group.behind.offsets(),
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
    before, event = cell
    is_held_up = event is MessageEvent.HELD_UP
    broker = with_one_before() if is_held_up else STATES[before]()
    subject = 1 if is_held_up else SUBJECT.get(before, 0)
    assert state_of(broker, subject) is before
    bring(broker)
    assert state_of(broker, subject) is TRANSITIONS[cell]


# Without a lease there is none to end, and what is leased or done is not taken.
IMPOSSIBLE = [
    (state, event)
    for state, event in itertools.product(MessageState, MessageEvent)
    # A message that was returned has nothing before it any more.
    if (state, event) not in {*TRANSITIONS, (MessageState.RETURNED, MessageEvent.HELD_UP)}
    # The last attempt is a return too, where there is a lease or a delay.
    and (state, event) != (MessageState.DELAYED, MessageEvent.SPENT)
]


@pytest.mark.parametrize("cell", IMPOSSIBLE, ids=str)
def test_a_pair_that_the_table_lacks_changes_nothing(cell: tuple[MessageState, MessageEvent]) -> None:
    state, event = cell
    broker = STATES[state]()
    if event in {MessageEvent.TAKEN, MessageEvent.TAKEN_AUTO}:
        assert broker.offsets(auto=event is MessageEvent.TAKEN_AUTO) == []
    else:
        for bring in EVENTS[event]:
            bring(broker)
    assert state_of(broker, SUBJECT.get(state, 0)) is state
