"""One sink's delivery: when it flushes, how batches grow, retries, timeouts, rejected events. On the virtual clock."""

from __future__ import annotations

import errno
import gc
import itertools
import weakref

import pytest
import structlog
import trio
from msgspec import Raw

from hermes.base.errors import BatchRejected, PluginError, SinkUnavailable
from hermes.events.event import Event
from hermes.events.letters import to_event
from hermes.testing import ScriptedSink, make_chunk, make_event, unavailable
from tests.events.engine.kit import INTERVAL, ids, make_bench, running, settings

# Flushing


async def test_a_single_event_is_flushed_exactly_flush_interval_after_it_came(autojump_clock: None) -> None:
    bench = make_bench()
    async with running(bench):
        await trio.sleep(1.5)
        event = bench.offer_events(1)
        await bench.sink.wait_stored(1)
        assert bench.began() == [1.5 + INTERVAL]
        assert bench.sink.stored == event


async def test_later_events_do_not_put_the_flush_off(autojump_clock: None) -> None:
    bench = make_bench()
    async with running(bench):
        for _ in range(3):
            bench.offer_events(1)
            await trio.sleep(INTERVAL / 4)
        await bench.sink.wait_stored(3)
        assert bench.began() == [INTERVAL]
        assert [len(write.events) for write in bench.sink.writes] == [3]


async def test_a_buffer_that_reaches_batch_size_is_flushed_at_once(autojump_clock: None) -> None:
    bench = make_bench(service=settings(batch_size=5))
    async with running(bench):
        bench.offer_events(4)
        await trio.sleep(INTERVAL / 2)
        assert not bench.sink.writes
        bench.offer_events(1)
        await bench.sink.wait_stored(5)
        assert bench.began() == [INTERVAL / 2]


async def test_batch_size_above_the_sinks_own_maximum_means_the_maximum(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink(max_batch=3), service=settings(batch_size=1000))
    async with running(bench):
        for _ in range(3):
            bench.offer_events(1)
        await bench.sink.wait_stored(3)
        assert bench.began() == [0]


async def test_a_sink_may_have_a_flush_interval_of_its_own(autojump_clock: None) -> None:
    bench = make_bench(flush_interval=60.0)
    async with running(bench):
        bench.offer_events(1)
        await trio.sleep(30)
        bench.offer_events(1)
        await bench.sink.wait_stored(2)
        assert bench.began() == [60]


async def test_a_sink_may_have_a_batch_size_of_its_own(autojump_clock: None) -> None:
    bench = make_bench(service=settings(batch_size=5), flush_interval=60.0, batch_size=8)
    async with running(bench):
        bench.offer_events(7)
        await trio.sleep(1)
        assert not bench.sink.writes
        bench.offer_events(1)
        await bench.sink.wait_stored(8)
        assert bench.began() == [1]


async def test_a_stop_flushes_what_waits_for_a_long_interval(autojump_clock: None) -> None:
    bench = make_bench(flush_interval=3600.0)
    async with running(bench):
        bench.offer_events(3)
        await trio.sleep(1)
    assert bench.began() == [1]
    assert len(bench.sink.stored) == 3


async def test_a_buffer_of_half_the_events_that_may_be_in_the_house_waits_no_longer(autojump_clock: None) -> None:
    bench = make_bench(service=settings(queue_size=20), flush_interval=60.0, batch_size=1000)
    async with running(bench):
        bench.offer_events(9)
        await trio.sleep(1)
        assert not bench.sink.writes
        bench.offer_events(1)
        await bench.sink.wait_stored(10)
        assert bench.began() == [1]


async def test_a_buffer_of_half_the_bytes_that_may_be_in_the_house_waits_no_longer(autojump_clock: None) -> None:
    bench = make_bench(service=settings(queue_bytes=1000, max_body_bytes=500), flush_interval=60.0, batch_size=1000)
    async with running(bench):
        for size in (499, 1):
            assert not bench.sink.writes
            chunk = make_chunk(1)
            chunk.size = size
            bench.offer(chunk)
            await trio.sleep(1)
        assert bench.began() == [1]


async def test_batches_grow_under_load_up_to_max_batch(autojump_clock: None) -> None:
    first = trio.Event()
    bench = make_bench(ScriptedSink.following(first, max_batch=50), service=settings(batch_size=10))
    async with running(bench):
        bench.offer_events(10)
        await bench.sink.wait_writes(1)
        for _ in range(12):
            bench.offer_events(10)
        first.set()
    assert [len(write.events) for write in bench.sink.writes] == [10, 50, 50, 20]


async def test_events_reach_the_sink_in_the_order_they_came(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink(max_batch=7))
    offered: list[Event] = []
    async with running(bench):
        for n in range(10):
            offered += bench.offer_events(1 + n % 3)
            await trio.sleep(0.03)
    assert bench.sink.stored == offered


async def test_closing_flushes_at_once(autojump_clock: None) -> None:
    bench = make_bench(service=settings(flush_interval=3600.0))
    async with running(bench):
        bench.offer_events(2)
        await trio.sleep(1)
    assert bench.began() == [1]
    assert bench.delivery.account().delivered == 2


@pytest.mark.parametrize(("workers", "concurrency", "at_once"), [(8, 3, 3), (2, 5, 2), (1, 1, 1)])
async def test_as_many_writes_at_once_as_worker_count_and_the_sink_allow(
    autojump_clock: None, workers: int, concurrency: int, at_once: int
) -> None:
    bench = make_bench(
        ScriptedSink(max_batch=1, concurrency=concurrency), service=settings(worker_count=workers, batch_size=1)
    )
    bench.sink.stall()
    async with running(bench):
        for _ in range(10):
            bench.offer_events(1)
        await trio.sleep(1)
        assert len(bench.sink.writes) == at_once
        bench.sink.resume()
    assert bench.sink.most_at_once == at_once
    assert len(bench.sink.stored) == 10


@pytest.mark.parametrize("sink", [ScriptedSink(max_batch=0), ScriptedSink(concurrency=0)])
def test_a_sink_that_takes_nothing_is_refused_by_name(sink: ScriptedSink) -> None:
    with pytest.raises(
        PluginError, match=r"sink 'fake' has max_batch [0-9]+ and concurrency [0-9]+: each must be 1 or more"
    ):
        make_bench(sink)


# Retries


async def test_an_unavailable_sink_gets_the_same_batch_again(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(*unavailable(2)))
    async with running(bench):
        events = bench.offer_events(3)
        await bench.sink.wait_stored(3)
    assert [write.events for write in bench.sink.writes] == [events] * 3
    assert bench.delivery.numbers.retries == 2
    account = bench.delivery.account()
    assert (account.delivered, account.dropped, account.in_flight) == (3, {}, 0)


async def test_pauses_between_attempts_double_up_to_the_longest(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.events.engine.sink_calls.random.uniform", lambda _low, high: high)  # the longest jitter
    bench = make_bench(
        ScriptedSink.following(*unavailable(6)),
        service=settings(batch_size=1),
        retries=6,
        backoff=0.5,
        max_backoff=3.0,
        breaker_failures=100,
    )
    async with running(bench):
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
    assert bench.began() == [0, 0.5, 1.5, 3.5, 6.5, 9.5, 12.5]


async def test_each_pause_is_jittered_over_its_whole_range(autojump_clock: None) -> None:
    bench = make_bench(
        ScriptedSink.following(*unavailable(200)),
        service=settings(batch_size=1),
        retries=200,
        backoff=1.0,
        max_backoff=1.0,
        breaker_failures=1000,
    )
    async with running(bench):
        bench.offer_events(1)
    began = bench.began()
    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert len(pauses) == 200
    assert all(0 <= pause <= 1 for pause in pauses)
    assert min(pauses) < 0.1
    assert max(pauses) > 0.9


async def test_thousands_of_retries_do_not_overflow_the_backoff(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(*unavailable(1100)), retries=1100, max_backoff=1.0, breaker_failures=2000)
    async with running(bench):
        bench.offer_events(1)
    assert bench.delivery.account().delivered == 1


async def test_the_sinks_own_retry_after_is_the_shortest_pause(autojump_clock: None) -> None:
    bench = make_bench(
        ScriptedSink.following(*unavailable(2, retry_after=7.0)),
        service=settings(batch_size=1),
        backoff=0.001,
    )
    async with running(bench):
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
    assert bench.began() == [0, 7, 14]


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_a_batch_that_failed_too_often_is_dropped_and_counted(autojump_clock: None, retries: int) -> None:
    bench = make_bench(ScriptedSink(), retries=retries, breaker_failures=100)
    bench.sink.fail()
    async with running(bench):
        bench.offer_events(3)
        await trio.sleep(60)
        assert len(bench.sink.writes) == 1 + retries
        assert bench.dropped == {"unavailable": 3}
        bench.sink.resume()
        bench.offer_events(2)
    assert len(bench.sink.stored) == 2
    assert bench.dropped == {"unavailable": 3}


# Timeouts


async def test_a_write_without_an_answer_is_cancelled_at_the_timeout_and_tried_again(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(trio.Event()), service=settings(batch_size=1), timeout=4.0, backoff=1e-9)
    async with running(bench):
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
    assert [write.outcome for write in bench.sink.writes] == ["cancelled", "done"]
    assert bench.began() == [0, pytest.approx(4, abs=1e-6)]


async def test_the_log_names_the_variable_of_the_timeout_as_one_sets_it(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(trio.Event()), name="my-sink", timeout=1.0, retries=0)
    with structlog.testing.capture_logs() as lines:
        async with running(bench):
            bench.offer_events(2)
    assert [(line["event"], line.get("reason"), line.get("why")) for line in lines] == [
        ("write failed", "no answer within SINK_MY_SINK_TIMEOUT", None),
        ("events dropped", "unavailable", "no answer within SINK_MY_SINK_TIMEOUT"),
    ]


async def test_a_write_that_ends_just_in_time_counts(autojump_clock: None) -> None:
    gate = trio.Event()
    bench = make_bench(ScriptedSink.following(gate), service=settings(batch_size=1), timeout=4.0)
    async with running(bench):
        bench.offer_events(1)
        await trio.sleep(3.999)
        gate.set()
    assert [write.outcome for write in bench.sink.writes] == ["done"]


# Rejected events


async def test_exactly_the_named_events_are_buried_with_their_reasons(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(BatchRejected({3: "too long", 0: "no number"})))
    async with running(bench):
        events = bench.offer_events(5)
    assert bench.sink.stored == [events[1], events[2], events[4]]
    assert [
        (to_event(letter), letter.source.name, letter.reason, letter.attempts) for letter in bench.dead_letters
    ] == [
        (events[0], "fake", "no number", 1),
        (events[3], "fake", "too long", 1),
    ]
    account = bench.delivery.account()
    assert (account.delivered, account.dead_lettered, account.dropped, account.in_flight) == (3, 2, {}, 0)


async def test_an_evicted_dead_letter_is_an_outcome_of_its_own_and_is_said(autojump_clock: None) -> None:
    bench = make_bench(
        ScriptedSink.following(*[BatchRejected(dict.fromkeys(range(4), "bad")) for _ in range(2)]),
        service=settings(batch_size=5),
        letters=3,
    )
    with structlog.testing.capture_logs() as lines:
        async with running(bench):
            bench.offer_events(5)
            await trio.sleep(10)
            bench.offer_events(5)
    account = bench.delivery.account()
    assert (account.accepted, account.delivered, account.dead_lettered, account.evicted) == (10, 2, 3, 5)
    assert bench.delivery._ledger.dead_lettered == 8
    said = [(line["sink"], line["events"]) for line in lines if line["event"] == "dead letters evicted"]
    assert said == [("fake", 1), ("fake", 5)]


async def test_a_dead_letter_tells_after_how_many_attempts(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(*unavailable(2), BatchRejected({0: "bad"})))
    async with running(bench):
        bench.offer_events(1)
    assert [letter.attempts for letter in bench.dead_letters] == [3]


async def test_a_rejected_batch_is_a_success_for_the_breaker(autojump_clock: None) -> None:
    rejections = [BatchRejected({0: "bad"}) for _ in range(5)]
    bench = make_bench(ScriptedSink.following(*unavailable(2), *rejections), service=settings(batch_size=1))
    async with running(bench):
        for _ in range(5):
            bench.offer_events(1)
            await trio.sleep(10)
            assert bench.state == 0
    assert bench.delivery.account().dead_lettered == 5


async def test_a_rejection_that_names_nothing_means_that_all_is_written(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(BatchRejected({})))
    async with running(bench):
        events = bench.offer_events(3)
    assert bench.sink.stored == events
    account = bench.delivery.account()
    assert (account.delivered, account.dead_lettered, account.in_flight) == (3, 0, 0)


@pytest.mark.parametrize("index", [3, -1, 10**9])
async def test_a_rejected_index_outside_of_the_batch_ends_the_delivery_and_counts_nothing_twice(
    autojump_clock: None, index: int
) -> None:
    bench = make_bench(ScriptedSink.following(BatchRejected({0: "bad", index: "whose?"})))
    with pytest.RaisesGroup(
        pytest.RaisesExc(ValueError, match=rf"sink 'fake' rejected index {index} of 3 events"), flatten_subgroups=True
    ):
        async with running(bench):
            bench.offer_events(3)
            await trio.sleep_forever()
    account = bench.delivery.account()
    assert (account.delivered, account.dead_lettered, account.dropped, account.in_flight) == (0, 0, {"shutdown": 3}, 0)
    assert len(bench.dead_letters) == 0


async def test_a_dead_letter_does_not_keep_the_body_of_its_request_alive(autojump_clock: None) -> None:
    class Body(bytearray):
        """Bytes that can be watched."""

    body = Body(b"x" * 1000 + b'{"a":1}' + b"x" * 1000)
    gone = weakref.ref(body)
    event = Event("id", "user", "song_played", 1, Raw(memoryview(body)[1000:1007]))
    del body
    bench = make_bench(ScriptedSink.following(BatchRejected({0: "bad"})))
    async with running(bench):
        bench.offer(make_chunk([event]))
        del event
        await bench.sink.wait_writes(1)
    bench.sink.writes.clear()
    bench.settled.clear()
    gc.collect()
    assert gone() is None
    assert [letter.body for letter in bench.dead_letters] == [b'{"a":1}']


# Bounds and noise


async def test_a_full_buffer_drops_what_comes_and_counts_it_as_settled(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink(max_batch=10), service=settings(queue_size=20, batch_size=10))
    bench.sink.stall()
    async with running(bench):
        for _ in range(3):  # 10 in the worker's hands, 20 in the buffer
            bench.offer_events(10)
            await trio.testing.wait_all_tasks_blocked()
        bench.offer_events(1, prefix="late")
        assert bench.dropped == {"queue_full": 1}
        assert ids(bench.settled[0].events) == ["late-0"]
        bench.sink.resume()
    assert len(bench.sink.stored) == 30


async def test_a_buffer_is_bounded_in_bytes(autojump_clock: None) -> None:
    service = settings(queue_bytes=10_000, max_body_bytes=1, batch_size=1)
    bench = make_bench(ScriptedSink(max_batch=1000), service=service)
    bench.sink.stall()
    big = make_event("big", payload=b'{"v":"' + b"x" * 4800 + b'"}')
    async with running(bench):
        for _ in range(4):
            bench.offer(make_chunk([big]))
            await trio.testing.wait_all_tasks_blocked()
        assert bench.dropped == {"queue_full": 1}  # one is being written, two wait
        bench.sink.resume()


async def test_a_sink_that_is_down_is_told_of_now_and_then_and_its_rejections_beside_it(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink(), service=settings(batch_size=1), retries=0, breaker_failures=10_000)
    bench.sink.fail()
    with structlog.testing.capture_logs() as lines:
        async with running(bench):
            for _ in range(100):
                bench.offer_events(1)
                await trio.sleep(0.1)
            bench.sink.fail(BatchRejected({0: "poison"}))
            bench.offer_events(1)
            await trio.sleep(0.1)
    told = [line["event"] for line in lines]
    assert told == ["write failed", "events dropped", "write failed", "events dropped", "events rejected"]
    # A line sums up what was dropped since the one before it.
    first, second = [line["events"] for line in lines if line["event"] == "events dropped"]
    assert first == 1
    assert 49 <= second <= 51  # 5 s at ten a second, give or take what adding up 0.1 does
    assert lines[-1]["reason"] == "poison"


async def test_a_bug_in_a_sink_is_told_with_the_name_of_the_sink() -> None:
    bench = make_bench(ScriptedSink.following(ZeroDivisionError("oops")), service=settings(batch_size=1))
    with structlog.testing.capture_logs() as lines, pytest.raises(ExceptionGroup):
        async with running(bench):
            bench.offer_events(1)
    assert [(line["event"], line["sink"], line["error"]) for line in lines if line["log_level"] == "error"] == [
        ("a bug in the sink ends the service", "fake", "ZeroDivisionError('oops')")
    ]


async def test_the_metrics_of_a_sink_move(autojump_clock: None) -> None:
    bench = make_bench(ScriptedSink.following(None, BatchRejected({0: "bad"}), SinkUnavailable("x")), retries=0)
    async with running(bench):
        for _ in range(3):
            bench.offer_events(2)
            await trio.sleep(1)
    numbers, account = bench.delivery.numbers, bench.delivery.account()
    assert (account.delivered, account.dead_lettered, account.dropped) == (3, 1, {"unavailable": 2})
    assert numbers.flush_seconds.buckets()[0][-1] == ("+Inf", 3.0)
    assert numbers.batch_size.buckets() == (
        [(repr(float(bound)), 0.0 if bound < 2 else 3.0) for bound in (1, 10, 50, 100, 250, 500, 1000, 2500, 5000)]
        + [("10000.0", 3.0), ("25000.0", 3.0), ("50000.0", 3.0), ("+Inf", 3.0)],
        6.0,
    )


# What the machine lacks


@pytest.mark.parametrize(
    "shortage",
    [OSError(number, "") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)]
    + [RuntimeError("can't start new thread")],
    ids=repr,
)
async def test_what_the_machine_lacks_is_no_bug_of_the_sink_and_the_batch_is_tried_again(
    autojump_clock: None, shortage: Exception
) -> None:
    bench = make_bench(ScriptedSink.following(shortage))
    async with running(bench):
        events = bench.offer_events(3)
        await bench.sink.wait_stored(3)
        assert bench.sink.stored == events
