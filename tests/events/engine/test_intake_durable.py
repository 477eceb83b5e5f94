"""The intake with a journal: when a request is answered with what, and what becomes of its events then."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.base.errors import BatchRejected, LogFull
from hermes.events.ack import Ack, Outcome
from hermes.events.engine import journal_intake, journal_record
from hermes.events.engine import receipts as receipts_module
from hermes.events.event import Event
from hermes.testing import ScriptedSink, make_events
from tests.events.engine.durable import (
    MIB,
    Asked,
    ScriptedLog,
    backlog_of,
    durable_engine_running,
    make_durable_engine,
)
from tests.events.engine.kit import Watch, ids, settings

AT_ONCE = settings(batch_size=1)


# Durable


async def test_a_durable_request_is_answered_when_its_events_are_committed_and_not_before(autojump_clock: None) -> None:
    engine = await make_durable_engine()
    engine.log.delay["append"] = 2.0
    async with durable_engine_running(engine):
        asked = engine.ask()
        assert engine.intake.accepted == 0
        await trio.sleep(1.9)
        assert asked.outcome is None
        await trio.sleep(0.2)
        assert (asked.outcome, asked.heard_at) == (Outcome.TAKEN, engine.durable.start + 2.0)
        assert engine.intake.accepted == 1


async def test_durable_is_the_default_with_a_journal(autojump_clock: None) -> None:
    assert (await make_durable_engine()).intake.ack is Ack.DURABLE


async def test_requests_that_come_during_a_commit_share_the_next_one(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=AT_ONCE)
    engine.log.delay["append"] = 0.5
    async with durable_engine_running(engine):
        first = engine.ask()
        await wait_all_tasks_blocked()
        others = [engine.ask(count=2) for _ in range(100)]
        await trio.sleep(3)
        assert engine.log.calls["append"] == 2
        assert first.heard_at == engine.durable.start + 0.5
        assert {(asked.outcome, asked.heard_at) for asked in others} == {(Outcome.TAKEN, others[0].heard_at)}
        assert engine.durable.journal.next == 2  # and a record


async def test_an_event_is_not_in_a_sink_before_it_is_in_the_journal(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=AT_ONCE)
    engine.log.stall("append")
    async with durable_engine_running(engine):
        engine.ask()
        engine.ask(Ack.ACCEPTED)
        await trio.sleep(10)
        assert not engine.sinks["fake"].writes
        engine.log.resume("append")
        await engine.sinks["fake"].wait_stored(2)


async def test_many_answers_leave_the_loop_to_others_between(autojump_clock: None) -> None:
    engine = await make_durable_engine(sinks=ScriptedSink(max_batch=100), service=settings(queue_size=10_000))
    engine.log.delay["append"] = 0.5
    asked: list[Asked] = []
    answered = [0]
    async with durable_engine_running(engine):
        engine.ask()
        await wait_all_tasks_blocked()
        asked += [engine.ask() for _ in range(3000)]
        with Watch(lambda: answered.append(sum(each.outcome is not None for each in asked))):
            await trio.sleep(2)
    assert answered[-1] == 3000
    assert max(after - before for before, after in itertools.pairwise(answered)) <= 600


# Accepted


async def test_requests_that_share_a_record_keep_it_small(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=settings(batch_size=1, queue_bytes=200 * MIB))
    engine.log.stall("append")
    async with durable_engine_running(engine):
        engine.ask()
        await wait_all_tasks_blocked()
        for _ in range(100):
            engine.ask(size=MIB // 4)
        engine.log.resume("append")
        await engine.sinks["fake"].wait_stored(101)
        assert engine.durable.journal.next == 1 + 25


async def test_what_was_accepted_and_never_committed_is_counted_as_lost(autojump_clock: None) -> None:
    engine = await make_durable_engine()
    engine.log.stall("append")
    with trio.CancelScope() as scope:
        async with durable_engine_running(engine):
            assert engine.ask(Ack.ACCEPTED, 3).outcome is Outcome.TAKEN
            assert engine.ask(Ack.DURABLE, 4).outcome is None
            await wait_all_tasks_blocked()
            assert (engine.intake.accepted, engine.intake.uncommitted) == (3, 3)
            scope.cancel()
    account = engine.account()
    assert (account.accepted, account.dropped, account.spilled) == (3, {"shutdown": 3}, 0)


async def test_answers_to_one_record_leave_the_loop_to_others_too(autojump_clock: None) -> None:
    engine = await make_durable_engine(sinks=ScriptedSink(max_batch=5000), service=settings(queue_size=10_000))
    async with durable_engine_running(engine):
        asked = [engine.ask() for _ in range(2000)]
        while asked[0].outcome is None:
            await trio.lowlevel.checkpoint()
        assert asked[-1].outcome is None
        await trio.sleep(1)
        assert asked[-1].outcome is Outcome.TAKEN


async def test_an_accepted_request_is_answered_at_once_and_committed_all_the_same(autojump_clock: None) -> None:
    engine = await make_durable_engine()
    engine.log.stall("append")
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.ACCEPTED)
        assert (asked.outcome, asked.receipt) == (Outcome.TAKEN, None)
        await trio.sleep(1)
        engine.log.resume("append")
        await engine.sinks["fake"].wait_stored(1)
    assert engine.durable.journal.events == 1


async def test_when_the_log_fails_what_was_accepted_goes_on_without_a_place_in_the_journal(
    autojump_clock: None,
) -> None:
    engine = await make_durable_engine(service=AT_ONCE)
    engine.log.fail("append")
    async with durable_engine_running(engine):
        accepted, durable = engine.ask(Ack.ACCEPTED, 3), engine.ask(Ack.DURABLE, 2)
        await engine.sinks["fake"].wait_stored(3)
        assert durable.outcome is Outcome.FAILED
        assert ids(engine.sinks["fake"].stored) == accepted.ids
    assert engine.intake.accepted == 3
    assert engine.durable.journal.events == 0


# A log that fails


async def test_a_request_whose_commit_fails_is_refused_whole_and_the_next_one_is_taken(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=AT_ONCE)
    async with durable_engine_running(engine):
        for error in (None, LogFull("the disk is full")):
            engine.log.fail("append", error=error)
            refused = [engine.ask(count=3), engine.ask(Ack.DELIVERED, 2), engine.ask(count=5000)]
            await trio.sleep(1)
            assert {asked.outcome for asked in refused} == {Outcome.FAILED}
            assert engine.durable.journal.failing
            engine.log.mend()
        taken = engine.ask()
        await engine.sinks["fake"].wait_stored(1)
        assert taken.outcome is Outcome.TAKEN
        assert engine.durable.journal.failing is None
        assert (engine.intake.admission.events, engine.intake.admission.bytes) == (0, 0)
    assert ids(engine.sinks["fake"].stored) == taken.ids
    assert engine.intake.accepted == engine.aggregator.received.total() == 1
    assert engine.account().accepted == 1
    assert len(engine.intake.receipts) == 0


async def test_a_failing_log_does_not_make_the_intake_run_in_circles(autojump_clock: None) -> None:
    engine = await make_durable_engine()
    engine.log.fail("append")
    async with durable_engine_running(engine):
        engine.ask(Ack.ACCEPTED)
        await trio.sleep(100)
        assert engine.log.calls["append"] == 1


# Room


async def test_what_is_not_committed_yet_holds_room_in_the_queue(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=settings(queue_size=10))
    engine.log.stall("append")
    async with durable_engine_running(engine):
        assert engine.ask(count=10).outcome is None
        assert engine.ask().outcome is Outcome.NO_ROOM
        engine.log.resume("append")
        await wait_all_tasks_blocked()
        assert engine.ask(count=10).outcome is None


async def test_a_dead_sink_does_not_fill_the_queue(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=settings(queue_size=10), required=True)
    async with durable_engine_running(engine):
        for _ in range(100):
            asked = engine.ask(count=10)
            await trio.sleep(0.1)
            assert asked.outcome is Outcome.TAKEN
        sink.resume()
    assert engine.account().accepted == 1000


async def test_in_block_mode_a_request_waits_for_room_and_then_for_its_commit(autojump_clock: None) -> None:
    engine = await make_durable_engine(service=settings(queue_size=10), blocking=True)
    engine.log.delay["append"] = 1.0
    async with durable_engine_running(engine):
        first = engine.ask(count=10)
        waiting = [engine.ask(ack, 5) for ack in (Ack.DURABLE, Ack.ACCEPTED, Ack.DELIVERED)]
        left = engine.ask(count=5)
        assert left.call_off is not None
        left.call_off()
        assert left.outcome is Outcome.NO_ROOM
        await trio.sleep(10)
        start = engine.durable.start
        assert (first.outcome, first.heard_at) == (Outcome.TAKEN, start + 1)
        assert [asked.outcome for asked in waiting] == [Outcome.TAKEN] * 3
        assert [asked.heard_at - start for asked in waiting[:2] if asked.heard_at] == [2.0, 1.0]
        assert left.ids[0] not in ids(engine.sinks["fake"].stored)


async def test_a_full_journal_refuses_and_takes_again_when_a_sink_has_caught_up(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=AT_ONCE, max_bytes=3000, required=True)
    async with durable_engine_running(engine):
        outcomes = []
        for _ in range(10):
            asked = engine.ask(count=5, size=500)
            await trio.sleep(0.1)
            outcomes.append(asked.outcome)
        assert outcomes == [Outcome.TAKEN] * outcomes.count(Outcome.TAKEN) + [Outcome.NO_SPACE] * (
            10 - outcomes.count(Outcome.TAKEN)
        )
        assert 3 <= outcomes.count(Outcome.TAKEN) <= 6
        sink.resume()
        await trio.sleep(1)
        asked = engine.ask(count=5, size=500)
        await trio.sleep(0.1)
        assert asked.outcome is Outcome.TAKEN
    assert engine.account().dropped == {}


async def test_what_the_journal_could_never_take_is_refused_for_good_and_the_service_goes_on(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_record, "MAX_RECORD_BYTES", 2**20)
    engine = await make_durable_engine(max_bytes=3000)
    async with durable_engine_running(engine):
        for ack in Ack:
            assert engine.ask(ack, size=3001).outcome is Outcome.TOO_LARGE
            # The same text in id and user_id, each character six times as long in the record as in the event.
            asked = Asked([])
            engine.intake.submit([Event("\x01" * 256, "\x01" * 256, "x", 0)] * 1000, 3000, ack, asked.hear)
            assert asked.outcome is Outcome.TOO_LARGE
        asked = engine.ask(size=2999)
        await trio.sleep(0.1)
        assert asked.outcome is Outcome.TAKEN


async def test_a_request_is_judged_by_the_records_that_it_is_cut_into(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_intake, "MOST_IN_A_RECORD", 3)
    event = Event("1" * 20, "u" * 50, "x", 0)  # some 130 bytes of a record
    engine = await make_durable_engine()
    async with durable_engine_running(engine):
        for most, outcome in ((500, Outcome.TAKEN), (150, Outcome.TOO_LARGE)):
            monkeypatch.setattr(journal_record, "MAX_RECORD_BYTES", most)
            asked = Asked([])
            engine.intake.submit([event] * 9, 1000, Ack.DURABLE, asked.hear)
            await trio.sleep(0.1)
            assert asked.outcome is outcome


async def test_a_request_of_several_records_has_a_commit_of_its_own(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_intake, "_MOST_BYTES_IN_A_RECORD", 100)
    monkeypatch.setattr(journal_intake, "_COUNTED_AT_ONCE", 2)
    monkeypatch.setattr("hermes.events.engine.intake._MOST_JOINED_BYTES", 100)
    engine = await make_durable_engine()
    async with durable_engine_running(engine):
        engine.log.stall("append")
        requests = [Asked([]) for _ in range(4)]
        for asked, (count, size) in zip(requests, ((1, 10), (1, 10), (9, 900), (1, 10)), strict=True):
            engine.intake.submit([Event("1", "u", "x", 0)] * count, size, Ack.DURABLE, asked.hear)
            await trio.sleep(0.01)
        engine.log.resume("append")
        await trio.sleep(0.1)
        assert [asked.outcome for asked in requests] == [Outcome.TAKEN] * 4
        # The first that came, the small one behind it, and the large one with the one behind that.
        assert (engine.log.statistics().commits, engine.log.next) == (3, 12)
    assert engine.engine.aggregator.received.total() == 12


async def test_what_is_not_committed_yet_counts_against_the_journals_room(autojump_clock: None) -> None:
    engine = await make_durable_engine(max_bytes=1000)
    engine.log.stall("append")
    async with durable_engine_running(engine):
        assert [engine.ask(size=400).outcome for _ in range(3)] == [None, None, Outcome.NO_SPACE]
        engine.log.resume("append")


# Delivered


async def test_a_request_for_delivery_is_answered_when_every_required_sink_has_its_events(autojump_clock: None) -> None:
    sinks = {name: ScriptedSink() for name in ("slow", "fast", "other")}
    sinks["slow"].stall()
    sinks["other"].stall()
    required = {"required": True}
    engine = await make_durable_engine(sinks=sinks, service=AT_ONCE, each={"slow": required, "fast": required})
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED, 3)
        await trio.sleep(7)
        assert asked.outcome is None
        sinks["slow"].resume()
        await trio.sleep(1)
        assert asked.outcome is Outcome.TAKEN
        assert asked.receipt is not None
        assert list(asked.receipt.sinks) == ["slow", "fast"]
        sinks["other"].resume()


async def test_where_no_sink_is_required_the_first_is_waited_for(autojump_clock: None) -> None:
    sinks = {"first": ScriptedSink(), "second": ScriptedSink()}
    sinks["second"].stall()
    engine = await make_durable_engine(sinks=sinks, service=AT_ONCE)
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED)
        await trio.sleep(1)
        assert asked.outcome is Outcome.TAKEN
        sinks["second"].resume()


async def test_a_request_larger_than_a_batch_is_one_record_and_delivered_as_a_whole(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=10)
    engine = await make_durable_engine(sinks=sink, service=settings(queue_size=100, batch_size=10))
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED, 95)
        await sink.wait_stored(95)
        await wait_all_tasks_blocked()
        assert asked.outcome is Outcome.TAKEN
        assert engine.durable.journal.next == 1
    assert ids(sink.stored) == asked.ids


async def test_a_sink_that_refuses_an_event_for_good_is_said(autojump_clock: None) -> None:
    sink = ScriptedSink.following(BatchRejected({1: "bad"}))
    engine = await make_durable_engine(sinks=sink, service=AT_ONCE)
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED, 3)
        await trio.sleep(1)
        assert asked.outcome is Outcome.REFUSED
        assert asked.receipt is not None
        told = asked.receipt.sinks["fake"]
        assert (told.delivered, told.dead_lettered, told.dropped) == (2, 1, 0)


async def test_ack_timeout_answers_with_what_is_known_and_the_events_are_delivered_later(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=AT_ONCE, ack_timeout=5.0)
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED)
        await trio.sleep(20)
        assert (asked.outcome, asked.heard_at) == (Outcome.LATE, engine.durable.start + 5.0)
        assert asked.receipt is not None
        assert (asked.receipt.durable, asked.receipt.sinks["fake"].delivered) == (True, 0)
        sink.resume()
        await sink.wait_stored(1)
    assert engine.durable.journal.receipts == {}


async def test_a_client_that_leaves_no_longer_waits_and_its_events_are_delivered(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=AT_ONCE)
    async with durable_engine_running(engine):
        asked = engine.ask(Ack.DELIVERED)
        await trio.sleep(1)
        assert asked.call_off is not None
        asked.call_off()
        assert (asked.outcome, len(engine.intake.receipts)) == (Outcome.LATE, 0)
        sink.resume()
        await sink.wait_stored(1)


async def test_the_request_that_would_be_one_too_many_to_wait_for_delivery_is_refused_whole(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts_module, "MAX_OPEN", 2)
    sink = ScriptedSink()
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=AT_ONCE)
    async with durable_engine_running(engine):
        asked = [engine.ask(Ack.DELIVERED) for _ in range(3)]
        assert [each.outcome for each in asked] == [None, None, Outcome.NO_ROOM]
        assert engine.intake.admission.events == 2
        sink.resume()
    assert engine.account().accepted == 2


# Derived events, stops, starts


async def test_derived_events_are_journaled_and_delivered_but_not_counted_again(autojump_clock: None) -> None:
    log, sink = ScriptedLog(), ScriptedSink()
    sink.fail()
    engine = await make_durable_engine(log, sink, service=AT_ONCE)
    async with durable_engine_running(engine):
        assert engine.intake.offer_derived(make_events(2, prefix="derived"), 100)
        await trio.sleep(1)
    assert engine.aggregator.received.total() == 0
    assert engine.account().spilled == 2
    again = ScriptedSink()
    engine = await make_durable_engine(log, again, service=AT_ONCE)
    async with durable_engine_running(engine):
        await again.wait_stored(2)


async def test_closing_commits_what_waits_and_leaves_to_the_journal_what_a_dead_sink_does_not_take(
    autojump_clock: None,
) -> None:
    log, dead = ScriptedLog(), ScriptedSink()
    dead.fail()
    log.delay["append"] = 1.0
    engine = await make_durable_engine(log, {"well": ScriptedSink(), "dead": dead}, service=AT_ONCE)
    async with durable_engine_running(engine):
        asked = [engine.ask(count=10) for _ in range(30)]
    assert {each.outcome for each in asked} == {Outcome.TAKEN}
    assert engine.account("well").delivered == 300
    assert (engine.account("dead").spilled, engine.account("dead").dropped) == (300, {})
    again = ScriptedSink()
    engine = await make_durable_engine(log, {"well": ScriptedSink(), "dead": again}, service=AT_ONCE)
    assert (engine.account("well").replayed, engine.account("dead").replayed) == (0, 300)
    async with durable_engine_running(engine):
        await again.wait_stored(300)


async def test_what_was_committed_but_not_handed_on_when_it_was_cancelled_stays_in_the_journal(
    autojump_clock: None,
) -> None:
    log, sink = ScriptedLog(), ScriptedSink(max_batch=100)
    engine = await make_durable_engine(log, sink, service=settings(queue_size=10_000))
    with trio.CancelScope() as scope:
        async with durable_engine_running(engine):
            asked = [engine.ask() for _ in range(2000)]
            while asked[0].outcome is None:
                await trio.lowlevel.checkpoint()
            assert asked[-1].outcome is None
            scope.cancel()
    account = engine.account()
    assert (account.accepted, account.spilled) == (2000, 2000)
    engine = await make_durable_engine(log, again := ScriptedSink(), service=settings())
    async with durable_engine_running(engine):
        await again.wait_stored(2000)
    assert len(set(ids(again.stored))) == 2000


async def test_a_sink_that_falls_behind_costs_disk_and_not_requests(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=50)
    sink.stall()
    engine = await make_durable_engine(sinks=sink, service=settings(queue_size=100), max_bytes=64 * MIB, timeout=1e6)
    async with durable_engine_running(engine):
        for _ in range(600):
            asked = engine.ask(count=20, size=2000)
            await trio.sleep(0.1)
            assert asked.outcome is Outcome.TAKEN
        assert backlog_of(engine.durable.delivery).events > 11_000
        sink.resume()
        await sink.wait_stored(12_000)
    assert len(set(ids(sink.stored))) == 12_000
