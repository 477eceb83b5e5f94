"""Snapshots and the trim behind them: the log becomes short, and every payload that is needed stays."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker.keeper import Keeper
from hermes.broker.machine.commands import Ack, AnyCommand, Bury, Entry, Nack, Poll, Produce, SetGroup, encode_entry
from hermes.broker.machine.machine import Machine
from hermes.broker.machine.messages import Message
from hermes.broker.machine.snapshot import restore
from hermes.broker.payloads import Payloads
from hermes.store.log import Log
from hermes.store.log.memory import open_memory_log

STEP = st.sampled_from(["produce", "later", "poll", "ack", "lose", "bury", "keep", "wait"])


def needed(machine: Machine) -> list[tuple[Message, bytes]]:
    """Every message whose payload may be asked for, and the payload that was stored."""
    found = [
        message
        for topic in machine.topics.values()
        for message in topic.messages.read(range(topic.messages.first, topic.messages.next))
    ]
    found += [Message(*later.message) for topic in machine.topics.values() for _, later in topic.scheduled.items()]
    found += [letter.message for letter in machine.dead.values()]
    return [(message, b"%d" % message.record) for message in found]


async def follow(log: Log, steps: Sequence[str]) -> None:
    machine, payloads, now_ms = Machine(), Payloads(log, most_bytes=0), 1000
    keeper = Keeper(log, machine, payloads)

    async def apply(command: AnyCommand) -> None:
        entry = Entry(now_ms, (command,))
        index = await log.append([encode_entry(entry)], expected_index=log.next)
        machine.apply(index, entry)

    await apply(SetGroup("t", "g", max_attempts=1))
    for step in steps:
        last = machine.next_lease - 1
        match step:
            case "produce":
                await apply(Produce("t", b"%d" % log.next))
            case "later":
                await apply(Produce("t", b"%d" % log.next, delay_ms=30))
            case "poll":
                await apply(Poll("t", "g", 1))
            case "ack":
                await apply(Ack("t", "g", (last,)))
            case "lose":
                await apply(Nack("t", "g", (last,)))
            case "bury":
                await apply(Bury(tuple(machine.dead)))
            case "wait":
                now_ms += 20
            case "keep":
                await keeper.keep()
        for message, payload in needed(machine):
            # Not out of the memory: what the log lacks is lost with a restart.
            assert await Payloads(log, most_bytes=0).load(message) == payload
    await apply(Ack("t", "g", ()))
    await keeper.keep()
    assert log.snapshot is not None
    assert restore(log.snapshot.state).retained == machine.retained
    if not needed(machine):
        assert log.first == log.next


@settings(max_examples=60)
@given(st.lists(STEP, max_size=30))
def test_whatever_is_needed_survives_a_trim(steps: list[str]) -> None:
    async def run() -> None:
        async with open_memory_log() as log:
            await follow(log, steps)

    trio.run(run)
