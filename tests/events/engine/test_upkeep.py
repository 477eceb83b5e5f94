"""The upkeep of the journal: what is saved and trimmed when, and who loses what when the journal is crowded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
import trio

from hermes.events.engine.upkeep import keep_up, save_at_the_end
from hermes.testing import ScriptedSink
from tests.events.engine.durable import Durable, ScriptedLog, backlog_of, durable_running, make_durable
from tests.events.engine.kit import ids, settings

RECORD = 500
"""About the bytes of a record of five events here."""

SMALL = settings(queue_size=10, batch_size=5, worker_count=1)


@asynccontextmanager
async def kept_up(durable: Durable) -> AsyncIterator[Durable]:
    """Deliveries and upkeep run; the upkeep ends first, as in the app."""
    async with durable_running(durable), trio.open_nursery() as nursery:
        nursery.start_soon(keep_up, durable.journal, list(durable.deliveries.values()))
        yield durable
        nursery.cancel_scope.cancel()


def stalled() -> ScriptedSink:
    sink = ScriptedSink(max_batch=5)
    sink.stall()
    return sink


async def crowd(durable: Durable, records: int) -> list[str]:
    """Put so many records of five events, ten a second."""
    put: list[str] = []
    for _ in range(records):
        put += ids(await durable.put_events(5))
        await trio.sleep(0.1)
    return put


async def test_progress_is_saved_and_the_journal_trimmed_within_half_a_second(autojump_clock: None) -> None:
    durable = await make_durable(service=SMALL)
    async with kept_up(durable):
        await crowd(durable, 10)
        await durable.sink.wait_stored(50)
        await trio.sleep(0.5)
        assert (durable.log.first, durable.log.next) == (10, 10)
        assert durable.journal.bytes == 0
        saved = durable.log.calls["snapshot"]
        await trio.sleep(100)
        assert durable.log.calls["snapshot"] == saved  # nothing new to say


async def test_nothing_is_trimmed_that_one_sink_has_not_had(autojump_clock: None) -> None:
    slow = stalled()
    durable = await make_durable(sinks={"fast": ScriptedSink(), "slow": slow}, service=SMALL)
    async with kept_up(durable):
        await crowd(durable, 20)
        await trio.sleep(2)
        assert len(durable.sinks["fast"].stored) == 100
        assert durable.log.first == 0
        slow.resume()
        await slow.wait_stored(100)
        await trio.sleep(1)
        assert durable.log.first == 20


async def test_room_is_made_soon_after_a_request_found_none(autojump_clock: None) -> None:
    durable = await make_durable(
        sinks={"main": ScriptedSink(), "dead": stalled()},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=20 * RECORD,
    )
    durable.deliveries["main"].awaited = True
    async with kept_up(durable):
        await trio.sleep(0.51)
        for _ in range(25):
            await durable.put_events(5)
        assert durable.journal.room < 0
        durable.journal.want_room()  # what the intake does with a request that it has to refuse
        await trio.sleep(0.1)
        assert durable.journal.room > 0


async def test_a_best_effort_sink_loses_its_oldest_events_and_the_journal_forgets_them(autojump_clock: None) -> None:
    dead = stalled()
    durable = await make_durable(
        sinks={"main": ScriptedSink(), "dead": dead},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
    )
    durable.deliveries["main"].awaited = True
    async with kept_up(durable):
        put = await crowd(durable, 1000)
        assert durable.journal.room > 0
        assert len(durable.sinks["main"].stored) > 4900
        account = durable.deliveries["dead"].account()
        assert account.dropped["journal_full"] > 4000
        dead.resume()
        await trio.sleep(60)  # its breaker is open
        account = durable.deliveries["dead"].account()
        assert account.delivered == len(dead.stored) == 5000 - account.dropped["journal_full"]
        # What was in memory all the time (ten events, and a record that waited for room), and the newest.
        stored = ids(dead.stored)
        assert stored == put[:15] + put[15 - len(stored) :]
    assert durable.deliveries["main"].account().dropped == {}


async def test_events_in_memory_whose_records_were_forgotten_are_lost_only_by_a_stop(autojump_clock: None) -> None:
    log, dead = ScriptedLog(), stalled()
    durable = await make_durable(
        log,
        sinks={"main": ScriptedSink(), "dead": dead},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
        timeout=1.0,
    )
    async with kept_up(durable):
        await crowd(durable, 300)
    account = durable.deliveries["dead"].account()
    assert account.dropped["shutdown"] == 15  # ten in memory, and a record that waited for room
    assert account.spilled + account.dropped["journal_full"] + 15 == account.accepted == 1500
    assert log.first > 0

    durable = await make_durable(
        log, sinks={"main": ScriptedSink(), "dead": ScriptedSink()}, each={"main": {"required": True}}
    )
    async with durable_running(durable):
        await durable.sinks["dead"].wait_stored(account.spilled)
    again = durable.deliveries["dead"].account()
    assert (again.accepted, again.replayed, again.delivered) == (account.spilled,) * 3


async def test_a_sink_that_is_waited_for_loses_nothing_and_nobody_else_does_in_vain(autojump_clock: None) -> None:
    durable = await make_durable(
        sinks={"main": stalled(), "dead": stalled()},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
    )
    async with kept_up(durable):
        await crowd(durable, 150)
        assert durable.journal.room < 0
        assert durable.journal.crowded
        for delivery in durable.deliveries.values():
            assert delivery.account().dropped == {}
            assert backlog_of(delivery).events > 700
        durable.sinks["main"].resume()
        await trio.sleep(20)
        assert not durable.journal.crowded
        assert durable.deliveries["dead"].account().dropped["journal_full"] > 0


async def test_a_best_effort_sink_that_keeps_up_loses_nothing_because_of_another(autojump_clock: None) -> None:
    durable = await make_durable(
        sinks={"main": ScriptedSink(), "well": ScriptedSink(), "dead": stalled()},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
    )
    async with kept_up(durable):
        await crowd(durable, 500)
        await durable.sinks["well"].wait_stored(2500)
    assert durable.deliveries["well"].account().dropped == {}


async def test_a_backlog_in_many_parts_makes_room_as_fast_as_one_in_one(autojump_clock: None) -> None:
    """Each part is small, and yet the journal does not fill up before they are gone."""
    dead = ScriptedSink(max_batch=5)
    durable = await make_durable(
        sinks={"main": ScriptedSink(), "dead": dead},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
        catch_up_order="interleaved",
    )
    durable.log.fail("read")
    async with durable_running(durable):
        for _ in range(32):
            await durable.put_events(11, 1)
            await trio.sleep(0.2)
        assert len(backlog_of(durable.deliveries["dead"]).records.ranges) > 30
        dead.stall()
        durable.log.mend()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_up, durable.journal, list(durable.deliveries.values()))
            for _ in range(300):
                await durable.put_events(5)
                await trio.sleep(0.1)
                assert durable.journal.room > 0
            nursery.cancel_scope.cancel()


async def test_a_journal_that_can_neither_be_read_nor_saved_is_not_asked_in_a_tight_loop(autojump_clock: None) -> None:
    durable = await make_durable(
        sinks={"main": ScriptedSink(), "dead": stalled()},
        each={"main": {"required": True}},
        service=SMALL,
        max_bytes=100 * RECORD,
    )
    with structlog.testing.capture_logs() as lines:
        async with kept_up(durable):
            for verbs in [("read",), ("snapshot",), ("trim",)]:
                durable.log.fail(*verbs)
                await crowd(durable, 120)
                calls = durable.log.calls.total()
                await trio.sleep(20)
                assert durable.log.calls.total() - calls < 200
                durable.log.mend()
                await trio.sleep(1)
            await trio.sleep(1)
            assert not durable.journal.crowded
    assert len([line for line in lines if line["event"] == "the journal cannot be read to make room"]) < 20


@pytest.mark.parametrize("verb", ["snapshot", "trim"])
async def test_the_last_save_is_bounded_in_time(autojump_clock: None, verb: str) -> None:
    durable = await make_durable(service=SMALL)
    await durable.put_events(1)
    durable.log.stall(verb)
    began = trio.current_time()
    with trio.CancelScope() as scope:
        scope.cancel()
        await save_at_the_end(durable.journal)
    assert trio.current_time() - began == 5.0


async def test_journals_without_an_owner_are_said_once_and_counted_all_the_while(autojump_clock: None) -> None:
    durable = await make_durable(service=SMALL)
    unowned = durable.journal.metrics
    with structlog.testing.capture_logs() as lines:
        async with kept_up(durable):
            await trio.sleep(20)
            durable.log.unowned = 2
            await trio.sleep(60)
            assert unowned.unowned == 2
            durable.log.fail("count_unowned")
            await trio.sleep(60)
            assert unowned.unowned == 2
            durable.log.mend()
            durable.log.unowned = 0
            await trio.sleep(20)
            assert unowned.unowned == 0
    said = [line for line in lines if line["event"].startswith("journals without an owner")]
    assert [line["journals"] for line in said] == [2]
