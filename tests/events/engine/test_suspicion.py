"""Whose fault a refusal is: the decision alone, and what a delivery makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import structlog
import trio

from hermes.base.errors import BatchRejected, SinkUnavailable
from hermes.events.engine import suspicion
from hermes.events.engine.suspicion import Suspicion
from hermes.events.event import Batch
from hermes.events.letters import to_event
from hermes.testing import ScriptedSink, make_batch, make_events
from tests.events.engine.durable import Durable, durable_running, make_durable
from tests.events.engine.kit import Bench, ids, make_bench, running, settings

NULL = 'null value in column "plan" of relation "events"'


def all_of(count: int, reason: str = NULL) -> dict[int, str]:
    return dict.fromkeys(range(count), reason)


# The decision


@pytest.mark.parametrize(
    ("writes", "accused"),
    [
        ([(all_of(1), 1)] * 9, False),
        ([(all_of(1), 1)] * 10, True),
        ([(all_of(10), 10)], True),
        ([(all_of(95), 100)], True),
        ([(all_of(94), 100)], False),
        ([(all_of(9), 9), ({}, 1), (all_of(9), 9)], False),
        ([(all_of(9), 9), ({0: NULL}, 2), (all_of(9), 9)], False),
        ([(all_of(9), 9), (all_of(9, "too long"), 9)], False),
        ([({n: f'invalid number: "{n}"' for n in range(10)}, 10)], True),
        ([({n: ("one", "two")[n % 2] for n in range(100)}, 100)], False),
    ],
    ids=[
        "fewer in a row than it takes",
        "single events in a row",
        "one write",
        "nearly all",
        "most",
        "something is written between",
        "a part is written between",
        "another reason",
        "the values of events differ",
        "two reasons",
    ],
)
def test_the_sink_is_accused_of_what_it_refuses_alike_and_in_a_row(
    writes: list[tuple[Mapping[int, str], int]], accused: bool
) -> None:
    suspicion = Suspicion(rows=10, hold=60)
    verdicts = []
    for reasons, total in writes:
        if reasons:
            verdicts.append(suspicion.accuse(reasons, total, 0, None))
        else:
            suspicion.wrote()
    assert verdicts[-1] is accused
    assert not any(verdicts[:-1])
    assert suspicion.holding is accused


def test_what_was_refused_before_and_after_a_witness_is_refused_for_its_own_fault() -> None:
    suspicion = Suspicion(rows=10, hold=60)
    assert suspicion.accuse(all_of(10), 10, 0, None)
    held_at = suspicion.witnesses
    assert suspicion.accuse(all_of(10), 10, 30, held_at)
    suspicion.wrote()
    assert not suspicion.holding
    assert not suspicion.accuse(all_of(10), 10, 31, held_at)
    assert not suspicion.accuse(all_of(90), 90, 32, None), "the next row has to be ten times as long"
    assert suspicion.accuse(all_of(10), 10, 33, None)


def test_nothing_is_held_longer_than_said_and_everything_again_after_a_success() -> None:
    suspicion = Suspicion(rows=10, hold=60)
    assert suspicion.accuse(all_of(10), 10, 100, None)
    assert suspicion.accuse(all_of(10), 10, 159, 0)
    assert not suspicion.accuse(all_of(10), 10, 160, 0)
    assert not suspicion.accuse(all_of(500), 500, 161, None)
    suspicion.wrote()
    assert suspicion.accuse(all_of(500), 500, 162, None)


def test_a_hold_of_nothing_holds_nothing() -> None:
    assert not Suspicion(rows=1, hold=0).accuse(all_of(5000), 5000, 0, None)


@pytest.mark.parametrize(("others", "accused"), [(3, True), (10, False)])
def test_of_thousands_of_reasons_that_differ_a_sample_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, others: int, accused: bool
) -> None:
    looked = 0

    class Counting:
        def sub(self, new: str, words: str) -> str:
            nonlocal looked
            looked += 1
            return value.sub(new, words)

    value = suspicion._VALUE
    monkeypatch.setattr(suspicion, "_VALUE", Counting())
    reasons = {n: f"{'too long' if n % 100 < others else 'invalid number'}: '{n}'" for n in range(10_000)}
    random.Random(1).shuffle(order := list(reasons))
    shuffled = {n: reasons[old] for n, old in enumerate(order)}
    assert Suspicion(10, 60).accuse(shuffled, 10_000, 0, None) is accused
    assert looked <= 500


# The delivery


class Judging(ScriptedSink):
    """Refuses the events that ``refuses`` names, one by one, and stores the others."""

    refuses: Callable[[str], bool] = staticmethod(lambda _id: False)

    async def write(self, batch: Batch) -> None:
        refused = {n: NULL for n, event in enumerate(batch) if self.refuses(event.id)}
        if refused:
            self.script.appendleft(BatchRejected(refused))
        await super().write(batch)


def faulty(**values: Any) -> Judging:
    sink = Judging(**values)
    sink.refuses = lambda _id: True
    return sink


def held(made: Durable | Bench) -> int:
    return made.delivery.statistics().held


SERVICE = settings(batch_size=50, worker_count=2)


async def test_a_sink_that_refuses_everything_gets_its_events_when_it_is_mended(autojump_clock: None) -> None:
    sink = faulty(max_batch=50, concurrency=2)
    durable = await make_durable(sinks=sink, service=SERVICE, refusal_rows=60)
    with structlog.testing.capture_logs() as lines:
        async with durable_running(durable):
            events = await durable.put_events(*[50] * 20)
            await trio.sleep(600)
            assert len(durable.dead_letters) < 60 + 50
            assert 0 < held(durable) <= durable.account.in_flight
            assert durable.delivery.statistics().breaker.name == "OPEN"
            assert NULL in durable.delivery.statistics().failure
            lost = {to_event(letter).id for letter in durable.dead_letters}
            sink.refuses = lambda _id: False
            await sink.wait_stored(1000 - len(lost))
        assert held(durable) == 0
    assert sorted([*ids(sink.stored), *lost]) == sorted(ids(events))
    said = [line["event"] for line in lines if "sink" in line["event"]]
    assert said == ["the sink refuses everything: events are held", "the sink takes events again"]


async def test_a_sink_that_stays_at_fault_holds_no_event_longer_than_said(autojump_clock: None) -> None:
    durable = await make_durable(sinks=faulty(max_batch=50), service=SERVICE, refusal_hold=300)
    async with durable_running(durable):
        await durable.put_events(*[50] * 20)
        await trio.sleep(290)
        assert len(durable.dead_letters) < 100
        await trio.sleep(60)
        assert durable.account.dead_lettered == 1000
        assert held(durable) == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_bad_events_of_one_client_do_not_stop_the_good_ones_behind_them(
    autojump_clock: None, workers: int
) -> None:
    sink = Judging(max_batch=50, concurrency=workers)
    durable = await make_durable(sinks=sink, service=SERVICE)
    async with durable_running(durable):
        sink.refuses = lambda name: int(name.split("-")[1]) < 300
        events = await durable.put_events(*[50] * 6, 10)
        await sink.wait_stored(10)
        assert trio.current_time() - durable.start < 120
        assert ids(sink.stored) == ids(events[300:])
        await trio.sleep(120)
        assert (durable.account.dead_lettered, held(durable)) == (300, 0)


async def test_good_events_among_the_refused_are_written_once(autojump_clock: None) -> None:
    sink = Judging(max_batch=100)
    durable = await make_durable(sinks=sink, service=settings(batch_size=100, worker_count=1), refusal_rows=50)
    async with durable_running(durable):
        events = await durable.put_events(*[10] * 10)
        good = {event.id for event in events[::25]}
        sink.refuses = lambda name: name not in good
        await trio.sleep(200)
        assert (durable.account.delivered, held(durable), durable.account.in_flight) == (4, 96, 96)
        sink.refuses = lambda _id: False
        await sink.wait_stored(100)
    assert sorted(ids(sink.stored)) == sorted(ids(events))
    assert durable.account.delivered == 100


async def test_held_events_stay_in_the_journal_at_a_stop(autojump_clock: None) -> None:
    durable = await make_durable(sinks=faulty(max_batch=50), service=SERVICE, refusal_rows=1)
    async with durable_running(durable):
        await durable.put_events(50, 50, 50)
        await trio.sleep(100)
    assert (durable.account.spilled, durable.account.dead_lettered) == (150, 0)
    assert len(durable.dead_letters) == 0


async def test_without_a_journal_held_events_are_kept_in_memory_and_not_dropped(autojump_clock: None) -> None:
    sink = faulty(max_batch=50)
    bench = make_bench(sink, service=SERVICE, refusal_rows=1, retries=1)
    async with running(bench):
        bench.offer_events(50)
        bench.offer_events(50)
        await trio.sleep(100)
        assert (bench.dropped, bench.delivery.account().in_flight) == ({}, 100)
        sink.refuses = lambda _id: False
        await sink.wait_stored(100)


async def test_a_stop_without_a_journal_does_not_wait_for_a_sink_that_refuses_everything(autojump_clock: None) -> None:
    bench = make_bench(faulty(max_batch=50), service=SERVICE, refusal_rows=1)
    async with running(bench):
        bench.offer_events(50)
        await trio.sleep(1)
        bench.offer_events(50)
        await trio.sleep(20)
        closed_at = trio.current_time()
    assert trio.current_time() - closed_at < 10
    account = bench.delivery.account()
    assert account.dead_lettered + account.dropped.get("circuit_open", 0) == 100


@pytest.mark.parametrize(("breaker_failures", "hiccups"), [(2, []), (1000, [SinkUnavailable("a hiccup")])])
async def test_refusals_of_the_sink_cost_a_held_batch_no_retry_afterwards(
    autojump_clock: None, breaker_failures: int, hiccups: list[Exception]
) -> None:
    class Slow(Judging):
        async def write(self, batch: Batch) -> None:
            if batch[0].id.startswith("good"):
                await trio.sleep(20)
                self.script.append(None)
                self.script += hiccups
                self.refuses = lambda _id: False
            await super().write(batch)

    sink = Slow(max_batch=5, concurrency=2)
    sink.refuses = lambda name: name.startswith("bad")
    bench = make_bench(
        sink,
        service=settings(batch_size=5, worker_count=2),
        refusal_rows=1,
        retries=1,
        max_backoff=1,
        breaker_failures=breaker_failures,
        breaker_open=60,
    )
    async with running(bench):
        bench.offer_events(5, prefix="good")
        bench.offer_events(5, prefix="bad")
        await trio.sleep(19)
        assert held(bench) == 5
        await trio.sleep(200)
        assert (bench.dropped, len(sink.stored)) == ({}, 10)


@pytest.mark.parametrize(("refused", "ends"), [(1, True), (94, True), (95, False), (100, False)])
async def test_a_replay_that_stores_something_is_a_witness_as_a_write_is(
    autojump_clock: None, refused: int, ends: bool
) -> None:
    """Only one that was taken whole ended a hold."""
    sink = faulty(max_batch=100, concurrency=2)
    durable = await make_durable(sinks=sink, service=SERVICE, refusal_rows=1)
    async with durable_running(durable):
        await durable.put_events(50)
        await trio.sleep(10)
        assert held(durable) == 50
        letters = make_events(100, prefix="letter")
        bad = {event.id for event in letters[:refused]}
        sink.refuses = lambda name: name in bad or not name.startswith("letter")
        await trio.sleep(60)  # the breaker allows a trial
        reasons: Mapping[int, str] = {}
        with structlog.testing.capture_logs() as lines:
            while not reasons:
                try:
                    await durable.delivery.redeliver(make_batch(letters))
                except SinkUnavailable as error:
                    await trio.sleep(error.retry_after or 1)
                except BatchRejected as error:
                    reasons = error.reasons
        assert len(reasons) == refused
        said = [line["event"] for line in lines]
        assert ("the sink takes events again" in said) is ends
        await trio.sleep(120)
        assert held(durable) == (0 if ends else 50)


@pytest.mark.parametrize("workers", [1, 2])
async def test_good_events_are_tried_however_many_bad_ones_are_held(autojump_clock: None, workers: int) -> None:
    """A worker that held 20 batches tried no other, and good events waited for the end of the hold."""
    sink = Judging(max_batch=50, concurrency=workers)
    durable = await make_durable(sinks=sink, service=settings(batch_size=50, worker_count=workers))
    async with durable_running(durable):
        sink.refuses = lambda name: int(name.split("-")[1]) < 3000
        await durable.put_events(*[50] * 60)
        await trio.sleep(1800)
        assert held(durable) > 1000
        asked_at = trio.current_time()
        await durable.put_events(10)
        await sink.wait_stored(10)
        assert trio.current_time() - asked_at < 120
