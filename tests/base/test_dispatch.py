"""The dispatcher: exact times on the virtual clock, every refusal, cancelled and competing consumers, and a model.

The last test drives the dispatcher and a naive model of it with the same random actions and compares all they can see.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.base.dispatch import (
    Dispatcher,
    DispatchError,
    DispatcherStatistics,
    PayloadTooLarge,
    QueueFull,
    ShuttingDown,
    Stopped,
)

Taken = list[tuple[float, list[bytes]]]


async def take_all(dispatcher: Dispatcher[bytes], taken: Taken) -> None:
    """Iterate to the end and note when each batch came."""
    async for batch in dispatcher:
        taken.append((trio.current_time(), batch))


# When a batch is due


async def test_a_single_item_is_flushed_exactly_one_interval_after_it_came(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=0.1) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"a")
        await trio.sleep(1)
        assert taken == [(1.1, [b"a"])]


async def test_the_interval_counts_from_the_first_item_of_the_batch(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=8) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        for at, item in [(1, b"a"), (8, b"b"), (10, b"c")]:
            await trio.sleep_until(at)
            dispatcher.enqueue(item)
        await trio.sleep_until(100)
        assert taken == [(9, [b"a", b"b"]), (18, [b"c"])]


async def test_a_consumer_that_comes_late_waits_only_for_the_rest_of_the_interval(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dispatcher = Dispatcher[bytes](interval=8)
    dispatcher.enqueue(b"a")
    await trio.sleep(5)
    assert await anext(dispatcher) == [b"a"]
    assert trio.current_time() == 8


async def test_a_consumer_that_comes_after_the_interval_takes_at_once_what_has_gathered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dispatcher = Dispatcher[bytes](interval=8)
    dispatcher.enqueue(b"a")
    await trio.sleep(20)
    dispatcher.enqueue(b"b")
    assert await anext(dispatcher) == [b"a", b"b"]
    assert trio.current_time() == 20


async def test_with_interval_zero_every_burst_is_due_at_once(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=0) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"a")
        dispatcher.enqueue(b"b")
        await trio.sleep(1)
        dispatcher.enqueue(b"c")
        await trio.sleep(1)
        assert taken == [(1, [b"a", b"b"]), (2, [b"c"])]


async def test_with_an_infinite_interval_only_targets_and_closing_flush(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=math.inf, max_batch_items=2) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        for item in (b"a", b"b", b"c"):
            dispatcher.enqueue(item)
        await trio.sleep(10_000)
        assert taken == [(0, [b"a", b"b"])]
    assert taken == [(0, [b"a", b"b"]), (10_000, [b"c"])]


async def test_a_batch_of_max_batch_items_is_due_at_once_and_the_rest_keeps_its_own_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=4, max_batch_items=3) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"0")
        await trio.sleep(1)
        for item in (b"1", b"2", b"3"):
            dispatcher.enqueue(item)
        await trio.sleep(10)
        assert taken == [(2, [b"0", b"1", b"2"]), (6, [b"3"])]


async def test_a_batch_that_reaches_max_batch_bytes_is_due_at_once(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=4, max_batch_bytes=6) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"aaa")
        dispatcher.enqueue(b"bbb")
        await trio.sleep(1)
        assert taken == [(1, [b"aaa", b"bbb"])]


async def test_an_item_that_would_overflow_max_batch_bytes_starts_the_next_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=4, max_batch_bytes=10) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        dispatcher.enqueue(b"a" * 6)
        await trio.sleep(1)
        dispatcher.enqueue(b"b" * 5)
        await trio.sleep(10)
        assert taken == [(1, [b"a" * 6]), (5, [b"b" * 5])]


async def test_flush_items_is_a_trigger_and_not_a_cap() -> None:
    dispatcher = Dispatcher[bytes](interval=math.inf, flush_items=2, max_batch_items=5)
    for number in range(7):
        dispatcher.enqueue(b"%d" % number)
    assert await anext(dispatcher) == [b"0", b"1", b"2", b"3", b"4"]
    assert await anext(dispatcher) == [b"5", b"6"]


async def test_flush_items_wakes_a_waiting_consumer_without_the_timer(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=9, flush_items=2) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"a")
        await trio.sleep(1)
        assert taken == []
        dispatcher.enqueue(b"b")
        await trio.sleep(1)
        assert taken == [(2, [b"a", b"b"])]


async def test_flush_bytes_is_a_trigger_of_the_same_kind(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=9, flush_bytes=6) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"aaaa")
        await trio.sleep(1)
        assert taken == []
        dispatcher.enqueue(b"bbbb")
        dispatcher.enqueue(b"cccc")
        await trio.sleep(1)
        assert taken == [(2, [b"aaaa", b"bbbb", b"cccc"])]


async def test_items_wait_for_nothing_once_an_item_has_been_refused_for_want_of_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=60, max_buffered_bytes=5) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.sleep(1)
        dispatcher.enqueue(b"aaa")
        with pytest.raises(QueueFull):
            dispatcher.enqueue(b"bbb")
        await trio.sleep(1)
        dispatcher.enqueue(b"bbb")
        assert taken == [(1, [b"aaa"])]


async def test_items_of_no_bytes_count_as_items() -> None:
    dispatcher = Dispatcher[bytes](interval=math.inf, max_batch_items=2, max_batch_bytes=10)
    for _ in range(4):
        dispatcher.enqueue(b"")
    assert await anext(dispatcher) == [b"", b""]
    assert dispatcher.statistics().buffered_items == 2
    assert dispatcher.statistics().buffered_bytes == 0


# Items that stand for many


async def test_weights_decide_when_a_batch_is_due_and_full(autojump_clock: trio.testing.MockClock) -> None:
    weights: list[tuple[float, list[int]]] = []

    async def consume() -> None:
        async for batch in dispatcher:
            chunks = [len(chunk) for chunk in batch]
            weights.append((trio.current_time(), chunks))

    dispatcher = Dispatcher[range](
        interval=8, flush_items=5, max_batch_items=10, size=lambda chunk: 100 * len(chunk), count=len
    )
    async with trio.open_nursery() as nursery, dispatcher:
        nursery.start_soon(consume)
        await trio.sleep(1)
        dispatcher.enqueue(range(4))
        await trio.sleep(1)
        dispatcher.enqueue(range(8))  # 12 in all: it starts the next batch, and is itself above the trigger
        await trio.sleep(1)
        dispatcher.enqueue(range(1))
        statistics = dispatcher.statistics()
        assert (statistics.buffered_items, statistics.buffered_bytes) == (1, 100)
        assert (statistics.taken_items, statistics.taken_bytes, statistics.taken_batches) == (12, 1200, 2)
        await trio.sleep(100)
    assert weights == [(2, [4]), (2, [8]), (11, [1])]


async def test_an_item_heavier_than_a_whole_batch_is_too_large() -> None:
    dispatcher = Dispatcher[range](max_batch_items=10, count=len)
    with pytest.raises(PayloadTooLarge, match="counts as 11, the limit is 10; split it"):
        dispatcher.enqueue(range(11))
    dispatcher.enqueue(range(10))
    assert dispatcher.statistics().buffered_items == 10
    assert dispatcher.statistics().refused_too_large == 11


# Refusals


def refused(dispatcher: Dispatcher[bytes], item: bytes) -> type[DispatchError] | None:
    before = dispatcher.statistics()
    try:
        dispatcher.enqueue(item)
    except DispatchError as refusal:
        after = dispatcher.statistics()
        assert (before.buffered_items, before.buffered_bytes) == (after.buffered_items, after.buffered_bytes)
        return type(refusal)
    return None


async def test_the_buffer_takes_exactly_max_buffered_bytes_and_has_room_again_after_a_take() -> None:
    dispatcher = Dispatcher[bytes](interval=0, max_batch_bytes=4, max_buffered_bytes=10)
    assert [refused(dispatcher, b"xxx") for _ in range(3)] == [None] * 3
    assert refused(dispatcher, b"xx") is QueueFull
    assert refused(dispatcher, b"x") is None
    assert refused(dispatcher, b"x") is QueueFull
    assert await anext(dispatcher) == [b"xxx"]
    assert dispatcher.statistics().buffered_bytes == 7
    assert refused(dispatcher, b"xxx") is None
    assert dispatcher.statistics().refused_full == 2


async def test_the_buffer_takes_exactly_max_buffered_items() -> None:
    dispatcher = Dispatcher[bytes](interval=0, max_batch_items=2, max_buffered_items=5)
    assert [refused(dispatcher, b"x") for _ in range(7)] == [None] * 5 + [QueueFull] * 2
    assert await anext(dispatcher) == [b"x", b"x"]
    assert [refused(dispatcher, b"x") for _ in range(3)] == [None] * 2 + [QueueFull]


async def test_the_room_in_the_buffer_is_exact_in_the_midst_of_a_later_batch() -> None:
    dispatcher = Dispatcher[bytes](interval=0, max_batch_items=4, max_buffered_items=6)
    assert [refused(dispatcher, b"x") for _ in range(7)] == [None] * 6 + [QueueFull]
    dispatcher = Dispatcher[bytes](interval=0, max_batch_bytes=4, max_buffered_bytes=6)
    assert [refused(dispatcher, b"x") for _ in range(7)] == [None] * 6 + [QueueFull]


@pytest.mark.parametrize(
    "limits", [{"max_batch_bytes": 8}, {"max_buffered_bytes": 8}, {"max_batch_bytes": 9, "max_buffered_bytes": 8}]
)
async def test_an_item_above_a_limit_in_bytes_is_too_large_even_when_all_is_empty(limits: dict[str, Any]) -> None:
    dispatcher = Dispatcher[bytes](interval=0, **limits)
    with pytest.raises(PayloadTooLarge, match="9 bytes in one item, the limit is 8; split it"):
        dispatcher.enqueue(b"x" * 9)
    assert refused(dispatcher, b"x" * 8) is None
    assert refused(dispatcher, b"x" * 9) is PayloadTooLarge  # and not QueueFull: a later attempt is useless
    assert dispatcher.statistics().refused_too_large == 2


async def test_after_close_enqueue_says_shutting_down_until_the_last_batch_is_taken_and_then_stopped() -> None:
    dispatcher = Dispatcher[bytes](max_batch_items=1)
    dispatcher.enqueue(b"a")
    dispatcher.enqueue(b"b")
    dispatcher.close()
    assert refused(dispatcher, b"c") is ShuttingDown
    assert await anext(dispatcher) == [b"a"]
    assert refused(dispatcher, b"c") is ShuttingDown
    assert await anext(dispatcher) == [b"b"]
    assert refused(dispatcher, b"c") is Stopped
    assert dispatcher.statistics().refused_closed == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"interval": -1}, "interval is -1"),
        ({"interval": math.nan}, "interval is nan"),
        ({"max_batch_items": -1}, "max_batch_items is -1"),
        ({"max_batch_bytes": -1}, "max_batch_bytes is -1"),
        ({"max_buffered_items": -1}, "max_buffered_items is -1"),
        ({"max_buffered_bytes": -1}, "max_buffered_bytes is -1"),
        ({"flush_items": -1}, "flush_items is -1"),
        ({"flush_items": 11, "max_batch_items": 10}, "flush_items is 11; give at most max_batch_items, 10"),
        ({"flush_bytes": -1}, "flush_bytes is -1"),
        ({"flush_bytes": 11, "max_batch_bytes": 10}, "flush_bytes is 11; give at most max_batch_bytes, 10"),
    ],
)
async def test_an_impossible_limit_is_refused_by_name(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Dispatcher[bytes](**arguments)


# Several consumers, cancelled consumers


class Line:
    """Consumers that take one batch each, started one after the other and cancellable one by one."""

    def __init__(self, dispatcher: Dispatcher[bytes], nursery: trio.Nursery) -> None:
        self.dispatcher = dispatcher
        self.nursery = nursery
        self.scopes: dict[str, trio.CancelScope] = {}
        self.taken: dict[str, tuple[float, list[bytes]]] = {}

    async def join(self, name: str) -> None:
        async def consume() -> None:
            with self.scopes[name]:
                batch = await anext(self.dispatcher)
                self.taken[name] = (trio.current_time(), batch)

        self.scopes[name] = trio.CancelScope()
        self.nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()


async def test_batches_go_to_consumers_in_the_order_in_which_they_came(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=3, max_batch_items=2)
        line = Line(dispatcher, nursery)
        for name in "ABC":
            await line.join(name)
        for number in range(5):
            dispatcher.enqueue(b"%d" % number)
        await trio.testing.wait_all_tasks_blocked()
        # Trio runs A and B, woken at once, in an order of its own; it is C that has to wait for the timer.
        assert sorted(line.taken) == ["A", "B"]
        assert sorted(line.taken.values()) == [(0, [b"0", b"1"]), (0, [b"2", b"3"])]
        await trio.sleep(10)
        assert line.taken["C"] == (3, [b"4"])


async def test_a_batch_wakes_one_consumer_and_the_others_go_on_waiting(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=3)
        line = Line(dispatcher, nursery)
        await line.join("A")
        await line.join("B")
        dispatcher.enqueue(b"a")
        await trio.sleep(10)
        assert line.taken == {"A": (3, [b"a"])}
        dispatcher.enqueue(b"b")
        await trio.sleep(10)
        assert line.taken == {"A": (3, [b"a"]), "B": (13, [b"b"])}


async def test_a_newcomer_does_not_overtake_a_consumer_that_has_been_woken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=math.inf, max_batch_items=1)
        line = Line(dispatcher, nursery)
        await line.join("A")
        dispatcher.enqueue(b"for A")
        with trio.move_on_after(1):  # comes after A was woken and before A has run
            pytest.fail(f"took {await anext(dispatcher)}")
        assert line.taken["A"] == (0, [b"for A"])


async def test_consumers_of_a_busy_dispatcher_take_turns() -> None:
    shares = dict.fromkeys("ABC", 0)

    async def consume(name: str) -> None:
        async for _ in dispatcher:
            shares[name] += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, Dispatcher[bytes](max_batch_items=1) as dispatcher:
        for name in shares:
            nursery.start_soon(consume, name)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(300):
            dispatcher.enqueue(b"x")
    assert sum(shares.values()) == 300
    assert all(95 <= share <= 105 for share in shares.values())


async def test_the_newest_batch_can_be_taken_first_but_never_from_under_a_waiting_consumer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dispatcher = Dispatcher[bytes](interval=9, max_batch_items=2, max_buffered_items=5)
    assert dispatcher.take_newest_nowait() is None
    for item in (b"a", b"b", b"c", b"d", b"e"):
        dispatcher.enqueue(item)
    assert [dispatcher.take_newest_nowait() for _ in range(2)] == [[b"e"], [b"c", b"d"]]
    dispatcher.enqueue(b"f")
    taken: Taken = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_all, dispatcher, taken)
        await trio.testing.wait_all_tasks_blocked()
        assert dispatcher.take_newest_nowait() is None
        await trio.sleep(10)
        assert taken == [(0, [b"a", b"b"]), (9, [b"f"])]
        dispatcher.close()
    statistics = dispatcher.statistics()
    assert (statistics.enqueued_items, statistics.taken_items, statistics.buffered_items) == (6, 6, 0)


async def test_a_consumer_cancelled_while_it_waits_hands_the_timer_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=8)
        line = Line(dispatcher, nursery)
        await line.join("A")
        await line.join("B")
        dispatcher.enqueue(b"x")
        await trio.sleep(5)
        line.scopes["A"].cancel()
        await trio.sleep(20)
        assert line.taken == {"B": (8, [b"x"])}


async def test_a_consumer_cancelled_after_it_was_woken_leaves_its_batch_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=math.inf, max_batch_items=1)
        line = Line(dispatcher, nursery)
        await line.join("A")
        await line.join("B")
        dispatcher.enqueue(b"x")
        line.scopes["A"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert line.taken == {"B": (0, [b"x"])}


async def test_a_consumer_cancelled_at_the_very_moment_of_the_flush_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dispatcher = Dispatcher[bytes](interval=8)
    dispatcher.enqueue(b"x")
    with trio.move_on_at(8) as scope:
        await anext(dispatcher)
    assert scope.cancelled_caught
    assert dispatcher.statistics().buffered_items == 1
    assert dispatcher.statistics().consumers_waiting == 0
    assert await anext(dispatcher) == [b"x"]
    assert trio.current_time() == 8


async def test_a_cancelled_consumer_is_told_so_even_when_a_batch_is_due() -> None:
    dispatcher = Dispatcher[bytes](max_batch_items=1)
    dispatcher.enqueue(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(dispatcher)
    assert scope.cancelled_caught
    assert await anext(dispatcher) == [b"x"]


async def test_taking_lets_other_tasks_run_even_when_batches_are_always_due() -> None:
    dispatcher = Dispatcher[bytes](max_batch_items=1)
    for _ in range(3):
        dispatcher.enqueue(b"x")
    for _ in range(3):
        with trio.testing.assert_checkpoints():
            await anext(dispatcher)


async def test_no_consumer_runs_before_a_batch_is_due(autojump_clock: trio.testing.MockClock) -> None:
    wakes: list[str] = []

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name == "the consumer":
                wakes.append("step")

    taken: Taken = []
    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=math.inf, max_batch_items=100) as dispatcher:
        nursery.start_soon(take_all, dispatcher, taken, name="the consumer")
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(count := Count())
        for _ in range(99):
            dispatcher.enqueue(b"x")
            await trio.testing.wait_all_tasks_blocked()
        assert wakes == []
        dispatcher.enqueue(b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert wakes == ["step"]
        trio.lowlevel.remove_instrument(count)


# The end


async def test_shutdown_waits_until_all_was_taken(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []

    async def consume_slowly() -> None:
        async for batch in dispatcher:
            taken.append((trio.current_time(), batch))
            await trio.sleep(2)

    async with trio.open_nursery() as nursery, Dispatcher[bytes](interval=60, max_batch_items=2) as dispatcher:
        nursery.start_soon(consume_slowly)
        for item in (b"a", b"b", b"c"):
            dispatcher.enqueue(item)
        await trio.testing.wait_all_tasks_blocked()
        assert await dispatcher.shutdown(trio.current_time() + 10)
        assert trio.current_time() == 2  # the last batch was taken; what its consumer does is its own matter
        assert taken == [(0, [b"a", b"b"]), (2, [b"c"])]
        assert refused(dispatcher, b"d") is Stopped


async def test_shutdown_that_meets_its_deadline_says_so_counts_the_rest_and_ends_every_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dispatcher = Dispatcher[bytes](max_batch_items=2)
    for item in (b"a", b"b", b"ccc"):
        dispatcher.enqueue(item)
    await trio.sleep(1)
    assert not await dispatcher.shutdown(trio.current_time() + 5)
    assert trio.current_time() == 6
    statistics = dispatcher.statistics()
    assert (statistics.abandoned_items, statistics.abandoned_bytes) == (3, 5)
    assert (statistics.buffered_items, statistics.buffered_bytes) == (0, 0)
    assert statistics.enqueued_items == 3
    assert refused(dispatcher, b"d") is Stopped
    assert [batch async for batch in dispatcher] == []


async def test_shutdown_of_an_empty_dispatcher_is_done_at_once_and_ends_waiting_consumers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes]()
        for _ in range(3):
            nursery.start_soon(take_all, dispatcher, [])
        await trio.testing.wait_all_tasks_blocked()
        assert dispatcher.statistics().consumers_waiting == 3
        assert await dispatcher.shutdown(deadline=-math.inf)
        assert refused(dispatcher, b"a") is Stopped
    assert dispatcher.statistics().consumers_waiting == 0
    assert trio.current_time() == 0


async def test_shutdown_does_not_wait_for_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    taken: Taken = []
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=60)
        nursery.start_soon(take_all, dispatcher, taken)
        dispatcher.enqueue(b"a")
        await trio.testing.wait_all_tasks_blocked()
        assert await dispatcher.shutdown()
    assert taken == [(0, [b"a"])]


async def test_an_idle_consumer_stays_while_a_batch_could_still_come_back_to_it() -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher[bytes](interval=math.inf)
        line = Line(dispatcher, nursery)
        await line.join("A")
        await line.join("B")
        dispatcher.enqueue(b"x")
        dispatcher.close()  # wakes A for the only batch
        line.scopes["A"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert line.taken["B"][1] == [b"x"]


async def test_a_cancelled_shutdown_abandons_nothing(autojump_clock: trio.testing.MockClock) -> None:
    dispatcher = Dispatcher[bytes]()
    dispatcher.enqueue(b"a")
    with trio.move_on_after(1) as scope:
        await dispatcher.shutdown()
    assert scope.cancelled_caught
    assert refused(dispatcher, b"b") is ShuttingDown
    assert [batch async for batch in dispatcher] == [[b"a"]]
    assert await dispatcher.shutdown()


async def test_of_two_shutdowns_the_earlier_deadline_counts_for_both(autojump_clock: trio.testing.MockClock) -> None:
    answers: list[tuple[float, bool]] = []

    async def shut_down(deadline: float) -> None:
        answers.append((deadline, await dispatcher.shutdown(deadline)))

    dispatcher = Dispatcher[bytes]()
    dispatcher.enqueue(b"a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut_down, 5)
        nursery.start_soon(shut_down, 50)
    assert sorted(answers) == [(5, False), (50, False)]
    assert trio.current_time() == 5


async def test_leaving_the_block_closes_the_intake_and_discards_nothing() -> None:
    async with Dispatcher[bytes](max_batch_items=2) as dispatcher:
        for item in (b"a", b"b", b"c"):
            dispatcher.enqueue(item)
    assert dispatcher.statistics().buffered_items == 3
    assert refused(dispatcher, b"d") is ShuttingDown
    assert [batch async for batch in dispatcher] == [[b"a", b"b"], [b"c"]]


async def test_leaving_the_block_by_an_error_discards_nothing_either() -> None:
    dispatcher = Dispatcher[bytes]()

    async def fail() -> None:
        async with dispatcher:
            dispatcher.enqueue(b"a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert [batch async for batch in dispatcher] == [[b"a"]]


# Everything at once, against a model


@dataclass
class Model:
    """The dispatcher as its documentation tells it: no horizons, no clever order, everything counted anew each time."""

    interval: float
    max_batch_items: float
    max_batch_bytes: float
    max_buffered_items: float
    max_buffered_bytes: float
    flush_items: float
    flush_bytes: float
    batches: list[list[tuple[int, int]]] = field(default_factory=list)  # (number, size) of each item; the last may grow
    begun: float = 0.0
    growing: bool = False
    triggered: bool = False
    closed: bool = False

    def enqueue(self, number: int, size: int, weigh: Callable[[int], int], now: float) -> type[DispatchError] | None:
        def items(batch: list[tuple[int, int]]) -> int:
            return sum(weigh(size) for _, size in batch)

        def total(batch: list[tuple[int, int]]) -> int:
            return sum(size for _, size in batch)

        if self.closed:
            return ShuttingDown if self.batches else Stopped
        alone = [(number, size)]
        if items(alone) > min(self.max_batch_items, self.max_buffered_items) or size > min(
            self.max_batch_bytes, self.max_buffered_bytes
        ):
            return PayloadTooLarge
        everything = [item for batch in self.batches for item in batch] + alone
        if items(everything) > self.max_buffered_items or total(everything) > self.max_buffered_bytes:
            self.triggered = True
            return QueueFull
        if self.growing:
            grown = self.batches[-1] + alone
            if items(grown) > self.max_batch_items or total(grown) > self.max_batch_bytes:
                self.growing = False
        if self.growing:
            self.batches[-1] = grown
        else:
            self.batches.append(alone)
            self.growing, self.triggered, self.begun = True, False, now
        batch = self.batches[-1]
        self.triggered = self.triggered or items(batch) >= (self.flush_items or self.max_batch_items)
        self.triggered = self.triggered or total(batch) >= (self.flush_bytes or self.max_batch_bytes)
        self.growing = items(batch) < self.max_batch_items and total(batch) < self.max_batch_bytes
        return None

    def due(self, now: float) -> bool:
        if not self.batches:
            return False
        grows = len(self.batches) == 1 and self.growing and not self.closed
        return not grows or self.triggered or now >= self.begun + self.interval

    def take(self) -> list[int]:
        if len(self.batches) == 1:
            self.growing = False
        return [number for number, _ in self.batches.pop(0)]


batch_limits = st.sampled_from([0, 1, 2, 3, 4, 6, 9])
buffer_limits = st.sampled_from([0, 3, 5, 8, 13, 20])
actions = st.one_of(
    st.tuples(st.just("enqueue"), st.lists(st.integers(0, 4), min_size=1, max_size=12)),
    st.tuples(st.just("consumer joins"), st.none()),
    st.tuples(st.just("consumer is cancelled"), st.integers(0, 3)),
    st.tuples(st.just("time passes"), st.sampled_from([1.0, 2.0, 4.0, 5.0])),
    st.tuples(st.just("others run"), st.none()),
    st.tuples(st.just("others run"), st.none()),
    st.tuples(st.sampled_from(["close", *["consumer joins"] * 3]), st.none()),
)


@settings(max_examples=1000)
@given(
    interval=st.sampled_from([0.0, 4.0, math.inf]),
    max_batch_items=batch_limits,
    max_batch_bytes=batch_limits,
    max_buffered_items=buffer_limits,
    max_buffered_bytes=buffer_limits,
    flush_items=batch_limits,
    flush_bytes=batch_limits,
    weighed=st.booleans(),
    consumers=st.integers(0, 4),
    script=st.lists(actions, min_size=5, max_size=50),
)
def test_it_does_what_the_model_does(
    interval: float,
    max_batch_items: int,
    max_batch_bytes: int,
    max_buffered_items: int,
    max_buffered_bytes: int,
    flush_items: int,
    flush_bytes: int,
    weighed: bool,
    consumers: int,
    script: list[tuple[str, Any]],
) -> None:
    if max_batch_items:
        flush_items = min(flush_items, max_batch_items)
    if max_batch_bytes:
        flush_bytes = min(flush_bytes, max_batch_bytes)
    configured: dict[str, Any] = {
        "max_batch_items": max_batch_items,
        "max_batch_bytes": max_batch_bytes,
        "max_buffered_items": max_buffered_items,
        "max_buffered_bytes": max_buffered_bytes,
    }
    bounds: dict[str, Any] = {name: limit or math.inf for name, limit in configured.items()}
    model = Model(interval=interval, flush_items=flush_items, flush_bytes=flush_bytes, **bounds)

    def weigh(size: int) -> int:
        return 1 + size // 2 if weighed else 1

    clock = trio.testing.MockClock()

    async def scenario() -> None:
        dispatcher = Dispatcher[tuple[int, int]](
            interval=interval,
            flush_items=flush_items,
            flush_bytes=flush_bytes,
            size=lambda item: item[1],
            count=(lambda item: weigh(item[1])) if weighed else None,
            **configured,
        )
        line: dict[int, trio.CancelScope] = {}  # consumers that wait, in the order in which they came
        taken: list[list[int]] = []
        served: set[int] = set()
        ended: set[int] = set()
        gone: list[int] = []  # what was taken up to the last look
        sizes: list[int] = []
        accepted: list[int] = []
        refusals: dict[type[DispatchError], int] = {}
        joined = 0

        async def consume(name: int, scope: trio.CancelScope) -> None:
            with scope:
                try:
                    batch = await anext(dispatcher)
                except StopAsyncIteration:
                    ended.add(name)
                else:
                    taken.append([number for number, _ in batch])
                    served.add(name)

        def check_what_was_taken() -> None:
            expected: list[list[int]] = []
            lucky: set[int] = set()
            while line and model.due(trio.current_time()):
                expected.append(model.take())
                first = next(iter(line))
                del line[first]
                lucky.add(first)
            finished: set[int] = set()
            if model.closed and not model.batches:
                finished.update(line)
                line.clear()
            assert (taken, served, ended) == (expected, lucky, finished)
            gone.extend(number for batch in taken for number in batch)
            for noted in (taken, served, ended):
                noted.clear()

        def check_statistics() -> None:
            left = [number for batch in model.batches for number, _ in batch]
            assert gone + left == accepted  # in order, nothing lost, nothing twice
            statistics = dispatcher.statistics()
            assert statistics == DispatcherStatistics(
                buffered_items=sum(weigh(sizes[n]) for n in left),
                buffered_bytes=sum(sizes[n] for n in left),
                enqueued_items=sum(weigh(sizes[n]) for n in accepted),
                enqueued_bytes=sum(sizes[n] for n in accepted),
                taken_items=sum(weigh(sizes[n]) for n in gone),
                taken_bytes=sum(sizes[n] for n in gone),
                taken_batches=statistics.taken_batches,
                abandoned_items=0,
                abandoned_bytes=0,
                refused_full=refusals.get(QueueFull, 0),
                refused_too_large=refusals.get(PayloadTooLarge, 0),
                refused_closed=refusals.get(ShuttingDown, 0) + refusals.get(Stopped, 0),
                consumers_waiting=len(line),
            )

        async with trio.open_nursery() as nursery:
            for action, argument in [("consumer joins", None)] * consumers + script + [("others run", None)]:
                if action == "enqueue":
                    for size in argument:
                        number = len(sizes)
                        sizes.append(size)
                        try:
                            dispatcher.enqueue((number, size))
                            refusal = None
                            accepted.append(number)
                        except DispatchError as error:
                            refusal = type(error)
                            refusals[refusal] = refusals.get(refusal, 0) + weigh(size)
                        assert refusal is model.enqueue(number, size, weigh, trio.current_time())
                elif action == "consumer joins":
                    scope = trio.CancelScope()
                    nursery.start_soon(consume, joined, scope)
                    await trio.testing.wait_all_tasks_blocked()
                    line[joined] = scope
                    joined += 1
                    check_what_was_taken()
                    check_statistics()
                elif action == "consumer is cancelled":
                    if argument < len(line):
                        name = list(line)[argument]
                        line.pop(name).cancel()
                elif action == "time passes":
                    clock.jump(argument)
                elif action == "close":
                    dispatcher.close()
                    model.closed = True
                else:
                    await trio.testing.wait_all_tasks_blocked()
                    check_what_was_taken()
                    check_statistics()
            nursery.cancel_scope.cancel()

    trio.run(scenario, clock=clock)
