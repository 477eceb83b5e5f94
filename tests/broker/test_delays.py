"""Delays, orders, attempts and pauses on the virtual clock: who waits is served to the millisecond."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from hermes.base.errors import LogUnavailable
from hermes.broker.burial import SOURCE, Burial
from hermes.broker.machine.commands import Ack, Nack, Poll, Produce, SetGroup
from hermes.broker.machine.machine import MAX_LET_IN, Stored
from hermes.broker.sequencer import commit_all
from hermes.broker.wire import hermesmq_pb2 as pb
from hermes.dead_letters import Selection
from hermes.dead_letters.memory import MemoryDeadLetters
from tests.broker.client import Served, open_served

ALL = Selection()


async def commit(served: Served, *commands: Any) -> list[Any]:
    return list(await commit_all(served.node.sequencer, commands))


@pytest.mark.parametrize("delay_ms", [1, 199, 200, 1234, 86_400_000])
async def test_a_message_that_enters_later_is_pushed_at_its_time(delay_ms: int, autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.subscribe(prefetch=10)
        await trio.sleep(0.05)
        begun = trio.current_time()
        assert await commit(served, Produce("t", b"later", delay_ms=delay_ms)) == [Stored(0)]
        assert (await client.pushed()).payload == b"later"
        assert trio.current_time() - begun == pytest.approx(delay_ms / 1000, abs=0.0015)


async def test_a_delay_that_is_given_while_a_longer_one_runs_ends_first(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.subscribe(prefetch=10)
        await commit(served, Produce("t", b"long", delay_ms=5000))
        await trio.sleep(0.09)
        begun = trio.current_time()
        await commit(served, Produce("t", b"short", delay_ms=30))
        assert (await client.pushed()).payload == b"short"
        assert trio.current_time() - begun == pytest.approx(0.03, abs=0.0015)


async def test_a_message_given_back_with_a_delay_comes_to_a_parked_poll_at_its_time(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        (item,) = await client.poll()
        begun = trio.current_time()
        ((lease,),) = await commit(served, Nack("t", "g", (item.lease_id,), delay_ms=777))
        assert [each.offset for each in await client.poll(wait_ms=5000)] == [0]
        assert trio.current_time() - begun == pytest.approx(0.777, abs=0.0015)
        assert lease > item.lease_id


async def test_many_messages_of_one_time_enter_in_several_entries(autojump_clock: object) -> None:
    count = 2 * MAX_LET_IN + 5
    async with open_served() as served:
        await commit(served, *(Produce("t", b"%d" % number, delay_ms=1000) for number in range(count)))
        await trio.sleep(0.999)
        assert served.machine.retained == 0
        begun = served.machine.next_index
        await trio.sleep(0.2)
        assert served.machine.retained == count
        assert served.machine.next_index - begun >= 3
        offsets = [each.offset for each in await served.connect().poll(max=1024)]
        assert offsets == list(range(1024))


async def test_the_next_of_a_key_is_pushed_in_the_entry_of_the_ack(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await commit(served, *(Produce("t", b"%d" % number, key="k") for number in range(3)))
        await client.subscribe(prefetch=10)
        for number in range(3):
            item = await client.pushed()
            assert item.payload == b"%d" % number
            with trio.move_on_after(1) as silence:
                await client.pushed()
            assert silence.cancelled_caught
            before = served.machine.next_index
            await client.send_ack(item.lease_id)
            await trio.testing.wait_all_tasks_blocked()
            assert served.machine.next_index - before == 1


async def test_a_long_row_of_a_key_holds_up_no_other_key(autojump_clock: object) -> None:
    async with open_served() as served:
        await commit(served, *(Produce("t", b"k", key="k") for _ in range(3000)), Produce("t", b"other"))
        found = []
        for _ in range(8):
            (reply,) = await commit(served, Poll("t", "g", 16))
            found += [each.offset for each in reply]
        assert found == [0, 3000]


async def test_without_consumers_a_paused_group_makes_no_entries(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        await commit(served, SetGroup("t", "g", paused=True))
        await client.subscribe()
        await trio.sleep(1)
        before = served.machine.next_index
        await trio.sleep(60)
        assert served.machine.next_index == before
        await commit(served, SetGroup("t", "g", paused=False))
        assert (await client.pushed()).payload == b"x"


async def test_dead_letters_wait_while_their_store_is_away_and_are_stored_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryDeadLetters(100)
    async with open_served() as served, trio.open_nursery() as nursery:
        add, away = store.add, True

        async def try_to_add(letters: Any) -> None:
            if away:
                raise LogUnavailable("the disk is full")
            await add(letters)

        monkeypatch.setattr(store, "add", try_to_add)
        nursery.start_soon(Burial(served.node.sequencer, store).run)
        await commit(served, SetGroup("t", "g", max_attempts=1), Produce("t", b"bad"), Produce("t", b"good"))
        await commit(served, Poll("t", "g", 2), Nack("t", "g", (0,), reason="no"), Ack("t", "g", (1,)))
        await trio.sleep(60)
        assert len(served.machine.dead) == 1
        assert served.machine.retained == 0
        assert served.machine.lowest_record is not None
        away = False
        await trio.sleep(10)
        assert served.machine.dead == {}
        assert served.machine.lowest_record is None
        ((source, count),) = (await store.count(ALL)).items()
        assert (source, count) == (SOURCE, 1)
        (letter,) = await store.page(ALL)
        assert (letter.body, letter.reason, letter.attempts, letter.facts["offset"]) == (b"bad", "no", 1, 0)
        nursery.cancel_scope.cancel()


async def test_a_sent_again_message_that_still_waits_is_stored_once_over_the_wire_too(autojump_clock: object) -> None:
    async with open_served() as served:
        assert await commit(served, Produce("t", b"x", producer_id="p", seq=1, delay_ms=1000)) == [Stored(0)]
        client = served.connect()
        answer = await client.ask(produce=pb.Produce(topic="t", payload=b"x", producer_id="p", seq=1))
        assert answer.offset == 2**63
        await trio.sleep(1.1)
        assert await client.produce("t", b"x", producer_id="p", seq=1) == 0
        assert served.machine.retained == 1
