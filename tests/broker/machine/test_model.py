"""The machine does as the model of the specification does, for any sequence of commands."""

from __future__ import annotations

import os

from hypothesis import given, settings

from hermes.broker.machine.machine import Machine, Reply, TooManyTopics
from tests.broker.machine.model import REFUSED, Kept, Model
from tests.broker.machine.sequences import BOUNDS, ENTRIES, Entries, Sequence, small_bounds

SEQUENCES = int(os.environ.get("HERMES_TEST_SEQUENCES", "400"))
"""More of them prove more: 10,000 take some minutes."""


def plain(reply: Reply) -> object:
    """A reply of the machine, as the model gives it."""
    if isinstance(reply, TooManyTopics):
        return REFUSED
    if isinstance(reply, list):
        return [(each.lease_id, each.offset, Kept(**each.message._asdict())) for each in reply]
    return reply


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
    for name, topic in model.topics.items():
        assert set(machine.topics[name].groups) == set(topic.groups)
        for group in (*topic.groups, "another"):
            for now_ms in (machine.time_ms, machine.time_ms + 6):
                expected = bool(topic.waiting(topic.groups.get(group), now_ms))
                assert machine.has_some(name, group, now_ms) is expected
