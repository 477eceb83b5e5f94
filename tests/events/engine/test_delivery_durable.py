"""One sink with a journal behind it: nothing is given up, a stop leaves to the journal what is not done, receipts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.base.errors import BatchRejected, LogUnavailable, SinkUnavailable
from hermes.dead_letters import DeadLetter
from hermes.events.ack import Outcome, Receipt
from hermes.events.event import Batch
from hermes.events.letters import to_event
from hermes.testing import ScriptedSink, make_chunk, make_events, unavailable
from tests.events.engine.durable import Durable, ScriptedLog, backlog_of, durable_running, make_durable
from tests.events.engine.kit import ids, settings

SMALL = settings(queue_size=10, batch_size=5, worker_count=1)
AT_ONCE = settings(batch_size=1)


def began(durable: Durable) -> list[float]:
    return [round(write.began_at - durable.start, 6) for write in durable.sink.writes]


# Nothing is given up


async def test_a_batch_is_written_again_until_the_sink_takes_it_however_often_it_fails(autojump_clock: None) -> None:
    sink = ScriptedSink.following(*unavailable(500))
    durable = await make_durable(sinks=sink, service=AT_ONCE, retries=2, breaker_open=1.0)
    async with durable_running(durable):
        events = await durable.put_events(3)
        await sink.wait_stored(3)
    assert (sink.stored, len(sink.writes)) == (events, 501)
    assert (durable.account.delivered, durable.account.dropped) == (3, {})


async def test_an_open_breaker_keeps_a_batch_waiting_and_lets_one_trial_through_when_its_time_is_up(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.events.engine.sink_calls.random.uniform", lambda _low, high: high)
    sink = ScriptedSink.following(*unavailable(4))
    durable = await make_durable(sinks=sink, service=AT_ONCE, backoff=0.5, breaker_failures=3, breaker_open=30.0)
    async with durable_running(durable):
        await durable.put_events(1)
        await sink.wait_stored(1)
    assert began(durable) == [0, 0.5, 1.5, 31.5, 61.5]
    assert durable.deliveries["fake"].numbers.open_rejects > 0


async def test_all_that_wait_for_the_breaker_go_on_when_the_trial_succeeds(autojump_clock: None) -> None:
    sink = ScriptedSink.following(*unavailable(3), max_batch=1, concurrency=4)
    durable = await make_durable(sinks=sink, service=settings(batch_size=1, worker_count=4), breaker_open=10.0)
    async with durable_running(durable):
        for _ in range(20):
            await durable.put_events(1)
        await sink.wait_stored(20)
        assert trio.current_time() - durable.start < 10.2
    assert durable.account.delivered == 20


async def test_a_dead_sink_changes_nothing_for_the_others(autojump_clock: None) -> None:
    sinks = {"dead": ScriptedSink(), "well": ScriptedSink()}
    sinks["dead"].stall()
    durable = await make_durable(sinks=sinks, service=SMALL)
    async with durable_running(durable):
        for _ in range(300):
            events = await durable.put_events(5)
            await trio.sleep(0.1)
            assert sinks["well"].stored[-5:] == events
        assert durable.deliveries["dead"].account().in_flight == 1500
    assert durable.log.first == 0


async def test_memory_is_bounded_by_the_queue_with_what_the_workers_have_in_hand(autojump_clock: None) -> None:
    """`Durable.check` looks after each step; here it is seen to be reached."""
    sink = ScriptedSink(max_batch=10, concurrency=4)
    sink.stall()
    service = settings(queue_size=1000, queue_bytes=50_000, max_body_bytes=1, batch_size=1, worker_count=4)
    durable = await make_durable(sinks=sink, service=service)
    async with durable_running(durable):
        for _ in range(100):
            await durable.put_events(1, payload=b'{"v":"' + b"x" * 2000 + b'"}')
        await wait_all_tasks_blocked()
        delivery = durable.delivery
        in_memory = delivery._buffer.waiting.statistics().buffered_bytes + delivery._buffer._bytes_in_hand
        assert 45_000 < in_memory <= 50_000
        assert delivery._buffer._bytes_in_hand > 6000
        sink.resume()
        await sink.wait_stored(100)


# Dead letters


class FlakyLetters:
    """Cannot be written until told so, in the place of `MemoryDeadLetters.add`."""

    def __init__(self, durable: Durable) -> None:
        self.well = False
        self.calls = 0
        self._add = durable.dead_letters.add
        durable.dead_letters.add = self.add  # type: ignore[method-assign]

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        self.calls += 1
        await trio.lowlevel.checkpoint()
        if not self.well:
            raise LogUnavailable("the disk is full")
        await self._add(letters)


async def test_a_refused_event_is_settled_only_when_its_dead_letter_is_kept(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.fail(BatchRejected({1: "poison"}))
    durable = await make_durable(sinks=sink, service=AT_ONCE)
    letters = FlakyLetters(durable)
    async with durable_running(durable):
        events = await durable.put_events(3)
        await trio.sleep(60)
        assert letters.calls > 5
        assert (durable.delivery.cursor, durable.account.in_flight) == (0, 3)
        letters.well = True
        await trio.sleep(10)
        assert (durable.delivery.cursor, durable.account.in_flight) == (1, 0)
    assert (durable.account.delivered, durable.account.dead_lettered) == (2, 1)
    assert [to_event(letter).id for letter in durable.dead_letters] == [events[1].id]


async def test_a_store_of_dead_letters_that_hangs_holds_a_stop_up_for_five_seconds_and_loses_nothing(
    autojump_clock: None,
) -> None:
    log, sink = ScriptedLog(), ScriptedSink()
    sink.fail(BatchRejected({0: "poison"}))
    durable = await make_durable(log, sink, service=AT_ONCE)

    async def hang(_letters: Sequence[DeadLetter]) -> None:
        await trio.sleep_forever()

    durable.dead_letters.add = hang  # type: ignore[assignment,method-assign]
    with trio.move_on_after(1):
        async with durable_running(durable):
            await durable.put_events(2)
            await trio.sleep_forever()
    assert trio.current_time() - durable.start == pytest.approx(5.0, abs=0.1)
    assert durable.account.spilled == 2

    durable = await make_durable(log, sink, service=AT_ONCE)
    async with durable_running(durable):
        await trio.sleep(1)
    assert (durable.account.delivered, durable.account.dead_lettered) == (1, 1)


# Stops, and the start after them


async def test_a_stop_calls_a_sink_no_more_whose_last_call_has_failed(autojump_clock: None) -> None:
    log, sink = ScriptedLog(), ScriptedSink(max_batch=5)
    sink.fail()
    durable = await make_durable(log, sink, service=SMALL, breaker_failures=100, max_backoff=1000.0, backoff=1000.0)
    async with durable_running(durable):
        for _ in range(20):
            await durable.put_events(5)
        await trio.sleep(10)
        before, asked_to_stop = len(sink.writes), trio.current_time()
    assert trio.current_time() == asked_to_stop
    assert len(sink.writes) == before  # it would take the time of the stop, and the journal has them
    assert (durable.account.spilled, durable.account.dropped) == (100, {})

    sink.resume()
    durable = await make_durable(log, sink, service=SMALL)
    async with durable_running(durable):
        await sink.wait_stored(100)
    assert (durable.account.replayed, durable.account.delivered) == (100, 100)
    assert ids(sink.stored) == sorted(ids(sink.stored), key=lambda name: int(name.split("-")[1]) * 100 + int(name[-1]))
    assert (log.first, log.next) == (20, 20)


async def test_a_stop_while_the_breaker_is_open_calls_nobody_and_is_at_once(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.fail()
    durable = await make_durable(sinks=sink, service=AT_ONCE, breaker_open=300.0)
    async with durable_running(durable):
        await durable.put_events(1)
        await trio.sleep(100)
        calls, asked_to_stop = len(sink.writes), trio.current_time()
    assert (len(sink.writes), trio.current_time()) == (calls, asked_to_stop)
    assert durable.account.spilled == 1


async def test_a_stop_lets_a_write_under_way_come_to_its_end(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    durable = await make_durable(sinks=sink, service=AT_ONCE)
    async with durable_running(durable):
        await durable.put_events(4)
        await sink.wait_writes(1)
        durable.delivery.close()
        await trio.sleep(5)
        sink.resume()
    assert (durable.account.delivered, durable.account.spilled) == (4, 0)


async def test_a_stop_while_behind_is_clean_and_owes_the_rest_to_the_next_start(autojump_clock: None) -> None:
    """The feeder waits for room with a record in hand when the buffer closes."""
    log, sink = ScriptedLog(), ScriptedSink(max_batch=5)
    sink.stall()
    durable = await make_durable(log, sink, service=SMALL)
    async with durable_running(durable):
        events = [event for _ in range(20) for event in await durable.put_events(3)]
        await wait_all_tasks_blocked()
        sink.resume()
        durable.delivery.close()
    account = durable.account
    assert account.delivered == len(sink.stored) > 0
    assert (account.spilled, account.dropped) == (60 - account.delivered, {})

    again = ScriptedSink()
    durable = await make_durable(log, again)
    async with durable_running(durable):
        await again.wait_stored(account.spilled)
    assert ids(sink.stored + again.stored) == ids(events)


async def test_a_stop_in_the_middle_of_a_record_delivers_it_whole_at_the_next_start(autojump_clock: None) -> None:
    log, sink = ScriptedLog(), ScriptedSink(max_batch=5)
    sink.script.extend([None, SinkUnavailable("no more")])
    durable = await make_durable(log, sink, service=SMALL)
    async with durable_running(durable):
        events = await durable.put_events(10)
        await sink.wait_writes(2)
    assert (durable.account.delivered, durable.account.spilled) == (5, 5)

    again = ScriptedSink()
    durable = await make_durable(log, again)
    async with durable_running(durable):
        await again.wait_stored(10)
    assert again.stored == events
    assert (durable.account.replayed, durable.account.delivered) == (10, 10)


async def test_what_no_journal_has_is_lost_by_a_stop_and_counted(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.fail()
    durable = await make_durable(sinks=sink, service=AT_ONCE)
    async with durable_running(durable):
        await durable.put_events(4)
        durable.offer_unkept(3, prefix="loose")
        await trio.sleep(1)
    assert (durable.account.spilled, durable.account.dropped) == (4, {"shutdown": 3})


# Ends that are not graceful


async def in_the_buffer(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    return await make_durable(log, sink, service=settings(flush_interval=3600.0))


async def in_a_write(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    sink.stall()
    return await make_durable(log, sink, service=SMALL, timeout=3600.0)


async def in_a_pause(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    sink.fail(SinkUnavailable("later", retry_after=3600.0))
    return await make_durable(log, sink, service=SMALL)


async def before_an_open_breaker(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    sink.fail()
    return await make_durable(log, sink, service=SMALL, breaker_failures=1, breaker_open=3600.0)


async def in_a_read(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    log.delay["read"] = 3600.0
    return await make_durable(log, sink, service=SMALL)


async def waiting_to_read_again(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    log.fail("read")
    return await make_durable(log, sink, service=SMALL)


async def keeping_pace(log: ScriptedLog, sink: ScriptedSink) -> Durable:
    return await make_durable(log, sink, service=SMALL, catch_up_floor=0.1)


Phase = Callable[[ScriptedLog, ScriptedSink], Awaitable[Durable]]
PHASES: list[Phase] = [
    in_the_buffer,
    in_a_write,
    in_a_pause,
    before_an_open_breaker,
    in_a_read,
    waiting_to_read_again,
    keeping_pace,
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_a_cancelled_delivery_loses_nothing_and_repeats_nothing(autojump_clock: None, phase: Phase) -> None:
    log, sink = ScriptedLog(), ScriptedSink(max_batch=5)
    durable = await phase(log, sink)
    events: list[str] = []
    with trio.move_on_after(20) as scope:
        async with durable_running(durable):
            for _ in range(20):
                events += ids(await durable.put_events(3))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    account = durable.account
    assert account.delivered == len(sink.stored)
    assert (account.spilled, account.dropped) == (60 - account.delivered, {})

    log.mend()
    log.delay.clear()
    again = ScriptedSink()
    durable = await make_durable(log, again)
    async with durable_running(durable):
        await again.wait_stored(account.spilled)
    assert sorted(ids(sink.stored + again.stored)) == sorted(events)


async def test_an_undeclared_error_of_the_sink_ends_the_delivery_and_leaves_the_rest_to_the_journal(
    autojump_clock: None,
) -> None:
    log, sink = ScriptedLog(), ScriptedSink.following(None, RuntimeError("a bug"), max_batch=5)
    durable = await make_durable(log, sink, service=SMALL)
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with durable_running(durable):
            for _ in range(10):
                await durable.put_events(5)
            await trio.sleep_forever()
    account = durable.account
    assert (account.delivered, account.spilled, account.dropped) == (5, durable.offered - 5, {})
    assert account.spilled >= 10


# Receipts


async def followed(durable: Durable, count: int, heard: list[Outcome], sinks: Sequence[str] = ("fake",)) -> Receipt:
    """Put a chunk whose delivery somebody waits for."""
    for name in sinks:
        durable.deliveries[name].awaited = True
    chunk = make_chunk(make_events(count, prefix=f"followed-{durable.journal.next}"))
    chunk.receipt = Receipt(count, tuple(sinks), lambda outcome, _receipt: heard.append(outcome))
    await durable.put(chunk)
    return chunk.receipt


async def test_a_receipt_is_reached_through_pieces_and_from_the_disk(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=5)
    sink.stall()
    durable = await make_durable(sinks=sink, service=SMALL)
    heard: list[Outcome] = []
    async with durable_running(durable):
        await durable.put_events(5, 5)
        receipt = await followed(durable, 23, heard)
        assert backlog_of(durable.delivery).events == 23
        sink.resume()
        await sink.wait_stored(33)
        await wait_all_tasks_blocked()
        assert heard == [Outcome.TAKEN]
        assert receipt.sinks["fake"].delivered == 23
        await durable.journal.save()
        assert durable.journal.receipts == {}


async def test_a_sink_that_is_not_waited_for_says_nothing(autojump_clock: None) -> None:
    durable = await make_durable(sinks={"main": ScriptedSink(), "other": ScriptedSink()}, service=AT_ONCE)
    heard: list[Outcome] = []
    durable.sinks["main"].stall()
    async with durable_running(durable):
        receipt = await followed(durable, 2, heard, ["main"])
        await durable.sinks["other"].wait_stored(2)
        assert heard == []
        durable.sinks["main"].resume()
        await durable.sinks["main"].wait_stored(2)
    assert heard == [Outcome.TAKEN]
    assert list(receipt.sinks) == ["main"]


async def test_each_receipt_hears_of_its_own_refused_events(autojump_clock: None) -> None:
    sink = ScriptedSink.following(BatchRejected({0: "bad", 4: "bad", 3: "bad", 9: "bad"}))
    durable = await make_durable(sinks=sink, service=settings(batch_size=10))
    heard: list[Outcome] = []
    async with durable_running(durable):
        receipts = [await followed(durable, count, heard) for count in (1, 2, 3, 3, 1)]
        await trio.sleep(1)
    assert [(each.sinks["fake"].delivered, each.sinks["fake"].dead_lettered) for each in receipts] == [
        (0, 1),
        (2, 0),
        (1, 2),
        (3, 0),
        (0, 1),
    ]
    assert heard == [Outcome.REFUSED, Outcome.TAKEN, Outcome.REFUSED, Outcome.TAKEN, Outcome.REFUSED]


async def test_what_a_receipt_hears_is_in_the_account_already(autojump_clock: None) -> None:
    durable = await make_durable(service=AT_ONCE)
    accounts: list[int] = []
    durable.delivery.awaited = True
    async with durable_running(durable):
        chunk = make_chunk(3)
        chunk.receipt = Receipt(3, ("fake",), lambda *_: accounts.append(durable.account.delivered))
        await durable.put(chunk)
        await durable.sink.wait_stored(3)
    assert accounts == [3]


async def test_after_a_stop_a_receipt_has_heard_nothing_of_what_was_not_delivered(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.fail()
    durable = await make_durable(sinks=sink, service=AT_ONCE)
    heard: list[Outcome] = []
    async with durable_running(durable):
        receipt = await followed(durable, 3, heard)
        await trio.sleep(1)
    assert heard == []
    assert (receipt.durable, receipt.sinks["fake"].delivered) == (True, 0)


# Dead letters that are sent again


async def test_letters_that_are_sent_again_are_in_the_account_and_not_in_the_journal(autojump_clock: None) -> None:
    durable = await make_durable(service=AT_ONCE)
    async with durable_running(durable):
        await durable.put_events(2)
        await durable.delivery.redeliver(Batch([make_chunk(3)]))
        await durable.sink.wait_stored(5)
    account = durable.account
    assert (account.accepted, account.replayed, account.delivered) == (5, 3, 5)
    assert durable.journal.events == 2
