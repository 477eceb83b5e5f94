"""What the journal owes a sink: what stays on disk when there is no room, how it is read back, what is given up."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.events.event import Event
from hermes.testing import ScriptedSink
from tests.events.engine.durable import Durable, ScriptedLog, backlog_of, durable_running, make_durable
from tests.events.engine.kit import ids, settings

SMALL = settings(queue_size=10, batch_size=5, worker_count=1)
"""Memory for ten events, in two batches of five."""

AGE = 11.0
"""Seconds after which what has arrived no longer counts for the rate of arrival."""


async def behind(**delivery: Any) -> Durable:
    """A sink that takes five events a batch and stalls; ten events fit in memory."""
    sink = ScriptedSink(max_batch=5)
    sink.stall()
    return await make_durable(sinks=sink, service=SMALL, **delivery)


# Falling behind, and catching up


async def test_a_sink_that_keeps_up_never_reads_the_journal(autojump_clock: None) -> None:
    durable = await make_durable(service=SMALL)
    async with durable_running(durable):
        events = []
        for _ in range(50):
            events += await durable.put_events(3)
            await trio.sleep(0.2)
    assert durable.sink.stored == events
    assert durable.log.calls["read"] == 0
    assert durable.account.delivered == 150


async def test_what_finds_no_room_is_read_back_in_order_when_there_is_room(autojump_clock: None) -> None:
    durable = await behind()
    async with durable_running(durable):
        events = [event for _ in range(30) for event in await durable.put_events(2)]
        await wait_all_tasks_blocked()
        assert backlog_of(durable.delivery).events == 48  # ten are in memory, and a record waits for room
        assert durable.account.in_flight == 60
        durable.sink.resume()
        await durable.sink.wait_stored(60)
    assert durable.sink.stored == events
    assert durable.account.delivered == 60
    assert durable.account.dropped == {}


async def test_what_comes_while_older_ones_are_on_disk_waits_behind_them(autojump_clock: None) -> None:
    durable = await behind(catch_up_floor=10.0)
    async with durable_running(durable):
        events = [event for _ in range(10) for event in await durable.put_events(2)]
        await trio.sleep(AGE)
        durable.sink.resume()
        await trio.sleep(0.5)
        assert len(durable.sink.stored) < 20
        events += await durable.put_events(3)
        await durable.sink.wait_stored(23)
    assert durable.sink.stored == events


async def test_when_it_has_caught_up_what_comes_goes_on_in_memory_again(autojump_clock: None) -> None:
    durable = await behind()
    async with durable_running(durable):
        for _ in range(10):
            await durable.put_events(2)
        durable.sink.resume()
        await durable.sink.wait_stored(20)
        await trio.sleep(1)
        reads = durable.log.calls["read"]
        for _ in range(10):
            await durable.put_events(2)
            await trio.sleep(0.2)
        assert durable.log.calls["read"] == reads
    assert len(durable.sink.stored) == 40


async def test_falling_behind_and_catching_up_are_said_once_and_not_at_every_turn(autojump_clock: None) -> None:
    durable = await behind()
    with structlog.testing.capture_logs() as lines:
        async with durable_running(durable):
            for _ in range(20):  # behind and caught up, five times a second
                durable.sink.stall()
                for _ in range(10):
                    await durable.put_events(2)
                durable.sink.resume()
                await trio.sleep(0.2)
            durable.sink.stall()
            for _ in range(100):
                await durable.put_events(1)
                await trio.sleep(0.1)
            assert [line["event"] for line in lines if line["event"] != "account"][-1].startswith("behind")
    said = [line["event"] for line in lines if "caught up" in line["event"] or "behind" in line["event"]]
    assert 2 <= said.count("behind: the backlog stays on disk") <= 4
    assert said.count("caught up") == said.count("behind: the backlog stays on disk") - 1


@pytest.mark.parametrize("order", ["oldest", "interleaved"])
async def test_a_backlog_that_is_read_into_memory_while_the_sink_is_away_is_not_caught_up(
    autojump_clock: None, order: str
) -> None:
    first = await behind()
    async with durable_running(first):
        await first.put_events(2, 2, 2)
        first.deliveries["fake"].close()
    sink = ScriptedSink(max_batch=5)
    with structlog.testing.capture_logs() as lines:
        sink.fail()
        again = await make_durable(first.log, sink, service=SMALL, catch_up_order=order, breaker_open=1.0)
        async with durable_running(again):
            await trio.sleep(10)
            assert backlog_of(again.delivery).events == 0  # all of it is in memory
            assert not sink.stored
            assert "caught up" not in [line["event"] for line in lines]
            sink.resume()
            await sink.wait_stored(6)
            await trio.sleep(1)
            assert [line["event"] for line in lines].count("caught up") == 1


async def test_no_wake_up_is_lost_between_reading_and_new_arrivals(autojump_clock: None) -> None:
    """Room and news come at every possible moment of the feeder: it never sleeps while there is something to do."""
    durable = await behind()
    durable.log.delay["read"] = 0.01
    durable.sink.resume()
    async with durable_running(durable):
        count = 0
        for pause in [n / 1000 for n in range(40)] * 5:
            await durable.put_events(4, 4, 4)
            count += 12
            await trio.sleep(pause)
        with trio.fail_after(10):
            await durable.sink.wait_stored(count)


# Records and pieces


async def test_a_record_larger_than_a_batch_is_settled_when_its_last_piece_is(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=5)
    gate = trio.Event()
    sink.script.extend([None, gate])
    durable = await make_durable(sinks=sink, service=settings(queue_size=100, worker_count=1))
    async with durable_running(durable):
        events = await durable.put_events(12)
        await sink.wait_writes(2)
        assert durable.delivery.cursor == 0
        gate.set()
        await sink.wait_stored(12)
        await wait_all_tasks_blocked()
        assert durable.delivery.cursor == 1
    assert sink.stored == events
    assert [len(write.events) for write in sink.writes] == [5, 5, 2]


@pytest.mark.parametrize("count", [11, 100, 101])
async def test_a_record_larger_than_all_memory_goes_through_in_pieces(autojump_clock: None, count: int) -> None:
    durable = await make_durable(sinks=ScriptedSink(max_batch=5), service=SMALL)
    async with durable_running(durable):
        events = await durable.put_events(count, 1)
        await durable.sink.wait_stored(count + 1)
    assert durable.sink.stored == events
    assert backlog_of(durable.delivery).records.loaded == {}


async def test_a_record_with_more_bytes_than_the_buffer_has_room_for_goes_through_alone(autojump_clock: None) -> None:
    service = settings(queue_bytes=1000, max_body_bytes=1000, worker_count=1, batch_size=1)
    durable = await make_durable(service=service)
    async with durable_running(durable):
        events = await durable.put_events(1, 1, 1, payload=b'{"v":"' + b"x" * 5000 + b'"}')
        await durable.sink.wait_stored(3)
    assert ids(durable.sink.stored) == ids(events)
    assert [len(write.events) for write in durable.sink.writes] == [1, 1, 1]


async def test_a_queue_of_one_event_is_slow_and_right(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=1)
    durable = await make_durable(sinks=sink, service=settings(queue_size=1, batch_size=1, worker_count=4))
    async with durable_running(durable):
        events = await durable.put_events(3, 1, 2, 1, 1)
        await sink.wait_stored(8)
    assert sink.stored == events


async def test_chunks_without_a_place_in_the_journal_pass_between_the_others(autojump_clock: None) -> None:
    durable = await behind()
    async with durable_running(durable):
        first = await durable.put_events(2)
        loose = durable.offer_unkept(2, prefix="loose")
        second = await durable.put_events(2, 2, 2, 2)
        lost = durable.offer_unkept(2, prefix="lost")
        assert durable.account.dropped == {"queue_full": 2}
        durable.sink.resume()
        await durable.sink.wait_stored(12)
    assert sorted(ids(durable.sink.stored)) == sorted(ids(first + loose + second))
    assert not set(ids(lost)) & set(ids(durable.sink.stored))
    assert durable.delivery.cursor == durable.journal.next == 5


# Pace


@pytest.mark.parametrize("size", [1, 5])
async def test_the_backlog_is_read_at_the_floor_when_nothing_new_arrives(autojump_clock: None, size: int) -> None:
    durable = await behind(catch_up_floor=50.0)
    async with durable_running(durable):
        for _ in range(1000 // size):
            await durable.put_events(size)
        await trio.sleep(AGE)
        durable.sink.resume()
        await trio.sleep(1)
        before = len(durable.sink.stored)
        await trio.sleep(5)
        assert len(durable.sink.stored) - before == pytest.approx(250, abs=10)


async def test_the_backlog_is_read_a_little_faster_than_new_events_arrive(autojump_clock: None) -> None:
    durable = await behind(catch_up=1.5, catch_up_floor=1.0)
    async with durable_running(durable):
        for _ in range(400):
            await durable.put_events(5)
        await trio.sleep(AGE)
        durable.sink.resume()
        stored = []
        for _ in range(30):
            for _ in range(10):
                await durable.put_events(10)  # 100/s
                await trio.sleep(0.1)
            stored.append(len(durable.sink.stored))
        assert stored[-1] - stored[-11] == pytest.approx(10 * 150, rel=0.1)


async def test_a_huge_record_does_not_bind_the_pace_to_what_it_was_when_it_was_read(autojump_clock: None) -> None:
    durable = await behind(catch_up=2.0, catch_up_floor=1.0)
    async with durable_running(durable):
        await durable.put_events(5, 5, 1000, 5)
        durable.sink.resume()
        await durable.sink.wait_stored(1010)  # and at one event a second nothing more for a quarter of an hour
        began = trio.current_time()
        for _ in range(1000):
            await durable.put_events(10)
            await trio.sleep(0.1)
        assert len(durable.sink.stored) > 1015
        assert trio.current_time() - began < 200
        durable.sink.stall()


async def test_a_time_without_a_backlog_is_no_credit_for_a_stampede(autojump_clock: None) -> None:
    durable = await behind(catch_up_floor=50.0)
    async with durable_running(durable):
        await trio.sleep(1000)
        for _ in range(100):
            await durable.put_events(5)
        await trio.sleep(AGE)
        durable.sink.resume()
        await trio.sleep(1)
        assert 50 <= len(durable.sink.stored) <= 70


# New and old interleaved


async def test_interleaved_new_events_do_not_wait_for_all_the_old_ones(autojump_clock: None) -> None:
    durable = await behind(catch_up_order="interleaved", catch_up_floor=20.0)
    async with durable_running(durable):
        for _ in range(100):
            await durable.put_events(2)
        await trio.sleep(AGE)
        durable.sink.resume()
        await trio.sleep(1)
        new = await durable.put_events(2)
        await trio.sleep(0.3)
        assert set(ids(new)) <= set(ids(durable.sink.stored))
        assert backlog_of(durable.delivery).events > 100
        await durable.sink.wait_stored(202)
    assert len(set(ids(durable.sink.stored))) == 202


class SlowSink(ScriptedSink):
    """Five events each tenth of a second."""

    async def write(self, batch: object) -> None:
        await trio.sleep(0.1)
        await super().write(batch)  # type: ignore[arg-type]


async def test_interleaved_neither_old_nor_new_starve_when_the_sink_is_slower_than_both(autojump_clock: None) -> None:
    sink = SlowSink(max_batch=5)
    durable = await make_durable(sinks=sink, service=SMALL, catch_up_order="interleaved")
    async with durable_running(durable):
        for _ in range(200):
            await durable.put_events(5)
        old = durable.journal.events
        new: list[Event] = []
        for _ in range(400):  # 100/s arrive, and the sink takes 50/s
            new += await durable.put_events(2)
            await trio.sleep(0.02)
        stored = ids(sink.stored)
        of_new = len(set(stored) & set(ids(new)))
        assert 0.25 < of_new / len(stored) < 0.75
        assert len(stored) - of_new < old


async def test_interleaved_the_ranges_on_disk_are_bounded(autojump_clock: None) -> None:
    durable = await behind(catch_up_order="interleaved")
    durable.sink.resume()
    durable.log.fail("read")
    async with durable_running(durable):
        backlog = backlog_of(durable.delivery)
        for _ in range(1500):  # one goes on in memory, and the next finds no room: a range each
            await durable.put_events(11, 5)
            await trio.sleep(0.2)
        assert len(backlog.records.ranges) == 1000
        assert len(backlog.records.progress._stops) <= 1000


# A journal that cannot be read, or has lost records


async def test_a_journal_that_cannot_be_read_is_read_again_later(autojump_clock: None) -> None:
    durable = await behind()
    durable.log.fail("read")
    with structlog.testing.capture_logs() as lines:
        async with durable_running(durable):
            events = [event for _ in range(20) for event in await durable.put_events(2)]
            durable.sink.resume()
            await trio.sleep(30)
            assert len(durable.sink.stored) == 10
            durable.log.mend()
            await durable.sink.wait_stored(40)
    assert durable.sink.stored == events
    told = [line for line in lines if line["event"] == "the backlog cannot be read"]
    assert 2 <= len(told) <= 7
    assert told[0]["reason"] == "the test says so"


@pytest.mark.parametrize(
    "lost",
    [{0}, {19}, {3, 4, 5}, {0, 1, 2, 17, 18, 19}, set(range(20))],
    ids=["first", "last", "middle", "both ends", "all"],
)
async def test_records_that_a_repair_found_lost_are_counted_once_and_for_good(
    autojump_clock: None, lost: set[int]
) -> None:
    log = ScriptedLog()
    durable = await make_durable(log)
    await durable.journal.save()
    events = await durable.put_events(*[2] * 20)
    durable.deliveries["fake"].abandon(40)
    await durable.journal.save()
    log.lost = lost

    durable = await make_durable(log)
    async with durable_running(durable):
        assert durable.account.replayed == 40
        more = await durable.put_events(1)
        await durable.sink.wait_stored(41 - 2 * len(lost))
        await wait_all_tasks_blocked()
        assert durable.account.in_flight == 0
    kept = [event for number, event in enumerate(events) if number // 2 not in lost]
    assert ids(durable.sink.stored) == ids(kept + more)
    assert durable.account.dropped == {"damaged": 2 * len(lost)}
    assert log.first == log.next

    durable = await make_durable(log)
    assert durable.account.accepted == 0
