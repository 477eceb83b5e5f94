"""While a sink refuses everything, refused events leave memory for others that lie on disk, and come back in time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import trio

from hermes.base.errors import BatchRejected
from hermes.events.ack import Outcome, Receipt
from hermes.events.letters import to_event
from hermes.testing import ScriptedSink, make_chunk, make_events
from tests.events.engine.durable import Durable, ScriptedLog, backlog_of, durable_running, make_durable
from tests.events.engine.kit import ids, settings
from tests.events.engine.test_suspicion import Judging, held

BAD = "bad"
HOLD = 3600.0


def is_bad(name: str) -> bool:
    return name.startswith(BAD)


def refusing(max_batch: int, concurrency: int = 1) -> Judging:
    sink = Judging(max_batch=max_batch, concurrency=concurrency)
    sink.refuses = is_bad
    return sink


async def put(durable: Durable, counts: Sequence[int], *, good_at: Callable[[int], bool]) -> None:
    """Put a record of each of these sizes; ``good_at`` says which events of the whole are good."""
    number = durable.journal.events
    for count in counts:
        events = make_events(count, prefix=BAD + str(number))
        good = make_events(count, prefix="good" + str(number))
        await durable.put(make_chunk([good[n] if good_at(number + n) else events[n] for n in range(count)]))
        number += count


def one_of(every: int) -> Callable[[int], bool]:
    """Whether this event of the whole is good, where one of ``every`` is; 0: none."""
    return lambda number: every > 0 and number % every == 0


def stored(sink: ScriptedSink) -> list[str]:
    return ids(sink.stored)


def buried(durable: Durable) -> list[str]:
    return [to_event(letter).id for letter in durable.dead_letters]


@pytest.mark.parametrize(("workers", "order"), [(1, "oldest"), (2, "interleaved")])
@pytest.mark.parametrize(
    ("sizes", "good_at"),
    [
        ([50] * 19, one_of(0)),
        ([1] * 600, lambda _: False),
        ([120] * 8, lambda _: False),
        ([900], lambda _: False),
        ([50] * 19, lambda number: number % 25 == 3),
        ([7, 120] * 8, lambda number: number % 30 == 3),
    ],
    ids=["batches", "single events", "larger than a batch", "larger than memory", "nearly all", "pieces of nearly all"],
)
async def test_good_events_on_disk_do_not_wait_for_refused_ones_that_fill_the_memory(
    autojump_clock: None, sizes: list[int], good_at: Callable[[int], bool], workers: int, order: str
) -> None:
    """Memory has room for 500 events, or one batch of them; the sink takes 50 a write."""
    sink = refusing(max_batch=50, concurrency=workers)
    service = settings(queue_size=500, batch_size=50, worker_count=workers)
    durable = await make_durable(sinks=sink, service=service, catch_up_order=order, refusal_hold=HOLD)
    async with durable_running(durable):
        await put(durable, sizes, good_at=good_at)
        await trio.sleep(900)
        assert held(durable) > 450
        asked_at, before = trio.current_time(), len(sink.stored)
        await put(durable, [10], good_at=one_of(1))
        await sink.wait_stored(before + 10)
        assert trio.current_time() - asked_at < 120
        # The good ones are witnesses: what is refused again is at fault itself.
        await trio.sleep(300)
        assert (durable.account.in_flight, held(durable)) == (0, 0)
    names = stored(sink) + buried(durable)
    assert len(names) == len(set(names)) == sum(sizes) + 10
    assert all(map(is_bad, buried(durable)))
    assert not any(map(is_bad, stored(sink)))
    assert durable.log.first == durable.log.next


async def test_what_was_put_back_is_held_no_longer_than_said(autojump_clock: None) -> None:
    service = settings(queue_size=100, batch_size=50, worker_count=1)
    durable = await make_durable(sinks=refusing(max_batch=50), service=service, refusal_hold=300)
    async with durable_running(durable):
        await put(durable, [50] * 20, good_at=one_of(0))
        await trio.sleep(290)
        assert held(durable) > 200  # more than memory has room for
        assert durable.account.dead_lettered < 100
        await trio.sleep(60)
        assert (durable.account.dead_lettered, held(durable)) == (1000, 0)


async def test_when_nothing_else_is_left_to_try_what_was_put_back_is_tried(autojump_clock: None) -> None:
    """The events in memory become dead letters, each for its own reason: that is no witness, and memory is empty."""
    sink = refusing(max_batch=50)
    service = settings(queue_size=100, batch_size=50, worker_count=1)
    durable = await make_durable(sinks=sink, service=service)
    async with durable_running(durable):
        await put(durable, [50] * 10, good_at=one_of(0))
        await trio.sleep(600)
        backlog = backlog_of(durable.delivery)
        in_memory = durable.account.in_flight - backlog.records.refused_on_disk
        assert 0 < in_memory <= 100
        assert not backlog.unread
        sink.refuses = lambda _: False
        sink.script.extend([BatchRejected({n: ("one", "two")[n % 2] for n in range(50)})] * (in_memory // 50))
        await trio.sleep(120)
        assert durable.account.in_flight == 0
    assert len(set(stored(sink) + buried(durable))) == 500


async def test_the_rest_of_a_batch_does_not_wait_for_its_refused_part(autojump_clock: None) -> None:
    sink = refusing(max_batch=50)
    sink.script.append(trio.Event())  # the write of the whole times out, so it is tried in halves
    durable = await make_durable(sinks=sink, service=settings(batch_size=50, worker_count=1), refusal_rows=1)
    async with durable_running(durable):
        await put(durable, [50], good_at=lambda number: number >= 25)
        await sink.wait_stored(25)
        assert trio.current_time() - durable.start < 120
        assert held(durable) in (0, 25)


async def test_a_request_hears_of_its_events_although_some_were_put_back_between(autojump_clock: None) -> None:
    sink = refusing(max_batch=50)
    service = settings(queue_size=100, batch_size=50, worker_count=1)
    durable = await make_durable(sinks=sink, service=service)
    heard: list[Outcome] = []
    async with durable_running(durable):
        durable.delivery.awaited = True
        chunk = make_chunk([*make_events(48, prefix=BAD), *make_events(2, prefix="good")])
        chunk.receipt = receipt = Receipt(50, ("fake",), lambda outcome, _receipt: heard.append(outcome))
        await put(durable, [50] * 2, good_at=one_of(0))
        await durable.put(chunk)
        await put(durable, [50] * 6, good_at=one_of(0))
        await trio.sleep(600)
        assert receipt.sinks["fake"].known in (0, 2)
        assert backlog_of(durable.delivery).records.put_back.events > 100
        sink.refuses = lambda _: False
        await trio.sleep(120)
    assert heard == [Outcome.TAKEN]
    assert receipt.sinks["fake"].delivered == 50


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_meanwhile_every_event_has_one_outcome(autojump_clock: None, seed: int) -> None:
    """Two sinks, of which one refuses; stops, a crowded journal, lost records: `Durable.check` looks at every step."""
    chance = random.Random(seed)
    log = ScriptedLog()
    counted: dict[str, int] = {"delivered": 0, "dead_lettered": 0, "dropped": 0}
    put_events = 0
    for last in (False, False, True):
        judging = refusing(max_batch=chance.choice([5, 20]), concurrency=chance.choice([1, 3]))
        sinks: dict[str, ScriptedSink] = {"judging": judging, "other": ScriptedSink()}
        durable = await make_durable(
            log,
            sinks,
            service=settings(queue_size=chance.choice([20, 60]), batch_size=20, worker_count=2),
            refusal_rows=chance.choice([1, 30]),
            refusal_hold=chance.choice([100.0, 3600.0]),
            breaker_open=5.0,
            catch_up_order=chance.choice(["oldest", "interleaved"]),
        )
        log.lost = {index for index in range(log.first, log.next) if chance.random() < 0.05}
        delivery = durable.deliveries["judging"]
        async with durable_running(durable):
            for _ in range(chance.randrange(4, 12)):
                good_at = one_of(chance.choice([0, 0, 25, 2]))
                sizes = [chance.choice([1, 3, 19, 50]) for _ in range(chance.randrange(1, 30))]
                await put(durable, sizes, good_at=good_at)
                await trio.sleep(chance.choice([0.0, 1.0, 30.0, 100.0]))
                if chance.random() < 0.3:
                    stop = chance.randint(log.first, durable.journal.next)
                    for one in durable.deliveries.values():
                        await one.give_up_below(max(stop, one.cursor))
                if chance.random() < 0.3:
                    judging.refuses = chance.choice([is_bad, is_bad, lambda _: False])
                await durable.journal.save()
                assert log.first <= delivery.cursor
            put_events += durable.offered
            if last:
                judging.refuses = lambda _: False
                await trio.sleep(600)
                assert not any(one.account().in_flight for one in durable.deliveries.values())
        account = delivery.account()
        counted["delivered"] += account.delivered
        counted["dead_lettered"] += account.dead_lettered + account.evicted
        counted["dropped"] += sum(account.dropped.values())
        assert not durable.journal.untrimmed()
    assert log.first == log.next
    # A record of which a part has its outcome at a stop is delivered again as a whole.
    assert sum(counted.values()) >= put_events
