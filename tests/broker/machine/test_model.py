"""The machine does as the model of the specification does, for any sequence of commands."""

from __future__ import annotations

import os

from hypothesis import given, settings

from hermes.broker.machine.machine import Delivery, LeaseGone, Machine, Reply, Stored, TooManyGroups, TooManyTopics
from tests.broker.machine.model import GONE, LATER, REFUSED, Kept, Model
from tests.broker.machine.sequences import BOUNDS, ENTRIES, Entries, Sequence, small_bounds

SEQUENCES = int(os.environ.get("HERMES_TEST_SEQUENCES", "400"))
"""More of them prove more: 10,000 take some minutes."""


def plain(reply: Reply) -> object:
    """A reply of the machine, as the model gives it."""
    if isinstance(reply, TooManyTopics | TooManyGroups):
        return REFUSED
    if isinstance(reply, LeaseGone):
        return GONE
    if isinstance(reply, Stored):
        return LATER + reply.id
    if isinstance(reply, list):
        return [plain_delivery(each) if isinstance(each, Delivery) else each for each in reply]
    return reply


def plain_delivery(delivery: Delivery) -> object:
    return delivery.lease_id, delivery.offset, Kept(**delivery.message._asdict()), delivery.attempt


def counts(machine: Machine) -> list[tuple[str, int, int, int]]:
    return [(name, len(topic.messages), topic.in_flight, topic.messages.next) for name, topic in machine.topics.items()]


def counts_of_model(model: Model) -> list[tuple[str, int, int, int]]:
    return [
        (name, len(topic.messages), sum(len(group.leases) for group in topic.groups.values()), topic.next)
        for name, topic in model.topics.items()
    ]


@settings(max_examples=SEQUENCES)
@given(ENTRIES)
def test_every_reply_and_count_is_the_specification_s(entries: Entries) -> None:
    with small_bounds():
        sequence, model = Sequence(), Model(BOUNDS)
        for pause_ms, steps in entries:
            entry = sequence.entry(pause_ms, steps)
            index = sequence.machine.next_index
            assert list(map(plain, sequence.apply(entry))) == model.apply(index, entry)
            # Not always: to be asked may change nothing, but who asks each time would not see that it does.
            if pause_ms:
                compare(sequence.machine, model)
        compare(sequence.machine, model)


def compare(machine: Machine, model: Model) -> None:
    """The counts, and whether there is something for each group."""
    assert counts(machine) == counts_of_model(model)
    assert machine.retained == sum(len(topic.messages) for topic in model.topics.values())
    letters = {id_: (d.topic, d.group, d.offset, d.attempts, d.reason) for id_, d in machine.dead.items()}
    assert letters == model.dead
    for name, topic in model.topics.items():
        assert set(machine.topics[name].groups) == set(topic.groups)
        assert {id_: later.due_ms for id_, later in machine.topics[name].scheduled.items()} == {
            id_: due_ms for id_, (due_ms, _, _) in topic.later.items()
        }
        for group_name, one in topic.groups.items():
            found_group = machine.topics[name].group(group_name)
            assert found_group is not None
            assert found_group.lag(machine.topics[name].messages) == sum(map(one.is_open, topic.messages))
        for group in (*topic.groups, "another"):
            for now_ms in (machine.time_ms, machine.time_ms + 6):
                known = topic.groups.get(group)
                waiting = topic.waiting(known, now_ms)
                expected = bool(waiting) if known is None else any(not topic.is_behind(known, each) for each in waiting)
                # A message behind another one, or without an attempt left, may be taken for one that is there.
                # So may one whose time has come, for a group that is paused.
                is_due = any(due_ms <= now_ms for due_ms, _, _ in topic.later.values())
                is_rough = is_due or bool(topic.order) or (known is not None and known.max_attempts != 0)
                found = machine.has_some(name, group, now_ms)
                assert found is expected or (found and is_rough)
