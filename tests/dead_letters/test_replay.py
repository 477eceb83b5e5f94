"""Replaying dead letters: each to its own sink, at a pace, and nothing lost wherever it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hermes import Batch, BatchRejected, SinkUnavailable
from hermes.base.errors import LogUnavailable
from hermes.dead_letters import DeadLetter, MemoryDeadLetters, Selection, Source
from hermes.dead_letters import replay as module
from hermes.dead_letters.replay import Replayed, Target, replay
from hermes.events.letters import sink_source, sink_target, to_batch, to_event
from hermes.testing import ScriptedSink, unavailable
from tests.dead_letters.kit import EVERYTHING, REJECTED_AT, everything, ids, make_letter, select_events


async def store_of(*letters: DeadLetter) -> MemoryDeadLetters:
    store = MemoryDeadLetters(100_000)
    await store.add(letters)
    return store


def targets(sink: ScriptedSink, *names: str) -> dict[Source, Target]:
    return {sink_source(name): sink_target(sink.write, sink.max_batch) for name in names or ("fake",)}


def fake(write: Callable[[Batch], Awaitable[None]], max_batch: int) -> dict[Source, Target]:
    return {sink_source("fake"): sink_target(write, max_batch)}


def outcome(sink: str, left: int, **counts: Any) -> Replayed:
    return Replayed(sink_source(sink), left, **counts)


def names_of(sink: ScriptedSink) -> list[str]:
    return [event.id for event in sink.stored]


def names(*numbers: int) -> list[str]:
    return [f"event-{n}" for n in numbers]


async def test_what_is_delivered_leaves_the_store() -> None:
    store, sink = await store_of(*map(make_letter, range(5))), ScriptedSink()
    assert await replay(store, EVERYTHING, targets(sink)) == [outcome("fake", 0, delivered=5)]
    assert names_of(sink) == names(0, 1, 2, 3, 4)
    assert await everything(store) == []


async def test_a_second_run_finds_nothing() -> None:
    store, sink = await store_of(make_letter()), ScriptedSink()
    await replay(store, EVERYTHING, targets(sink))
    assert await replay(store, EVERYTHING, targets(sink)) == []
    assert len(sink.writes) == 1


async def test_batches_are_as_large_as_the_target_wants_and_pages_no_larger() -> None:
    store, sink = await store_of(*map(make_letter, range(25))), ScriptedSink(max_batch=10)
    await replay(store, EVERYTHING, targets(sink))
    assert [len(write.events) for write in sink.writes] == [10, 10, 5]


async def test_a_batch_holds_no_more_than_a_page_of_bytes() -> None:
    payload = b'{"v":"' + b"x" * (3 * 2**20) + b'"}'
    store, sink = await store_of(*(make_letter(n, payload=payload) for n in range(5))), ScriptedSink()
    await replay(store, EVERYTHING, targets(sink))
    assert [len(write.events) for write in sink.writes] == [2, 2, 1]


def test_a_batch_keeps_each_letters_place_and_time_of_arrival() -> None:
    letters = [make_letter(n, received_at=arrived) for n, arrived in enumerate([5.5, 5.5, 7.0, 5.5])]
    batch = to_batch(letters)
    assert batch.events == [to_event(letter) for letter in letters]
    assert batch.arrivals == [5.5, 5.5, 7.0, 5.5]
    assert [len(chunk) for chunk in batch.chunks] == [2, 1, 1]


# Refused and unavailable


async def test_what_is_refused_again_stays_with_its_new_reason_and_one_more_attempt() -> None:
    letters = [make_letter(n, attempts=3) for n in range(4)]
    store, sink = await store_of(*letters), ScriptedSink.following(BatchRejected({1: "still no", 3: "never"}))
    before = await everything(store)
    assert await replay(store, EVERYTHING, targets(sink)) == [outcome("fake", 0, delivered=2, refused=2)]
    assert names_of(sink) == names(0, 2)
    one, three = await everything(store)
    assert (one.number, to_event(one), one.reason, one.attempts) == (
        before[1].number,
        to_event(before[1]),
        "still no",
        4,
    )
    assert (three.number, three.reason, three.attempts) == (before[3].number, "never", 4)
    assert one.rejected_at > REJECTED_AT
    assert one.received_at == before[1].received_at


async def test_what_is_refused_again_is_not_met_twice_in_a_run() -> None:
    store = await store_of(*map(make_letter, range(30)))
    calls = 0

    async def refuse(batch: Batch) -> None:
        nonlocal calls
        await trio.lowlevel.checkpoint()
        calls += 1
        raise BatchRejected(dict.fromkeys(range(len(batch)), "no"))

    assert await replay(store, EVERYTHING, fake(refuse, 10)) == [outcome("fake", 0, refused=30)]
    assert calls == 3
    assert len(await everything(store)) == 30


async def test_letters_that_come_during_a_run_are_left_for_the_next() -> None:
    store = await store_of(make_letter(0))
    written: list[str] = []

    async def write(batch: Batch) -> None:
        written.extend(event.id for event in batch)
        await store.add([make_letter(len(written))])

    assert await replay(store, EVERYTHING, fake(write, 10)) == [outcome("fake", 0, delivered=1)]
    assert (written, await ids(store)) == (names(0), names(1))


async def test_letters_that_leave_during_a_run_are_not_said_to_be_left() -> None:
    store = await store_of(*map(make_letter, range(20)))

    async def write(_batch: Batch) -> None:
        await store.remove(EVERYTHING)

    assert await replay(store, EVERYTHING, fake(write, 10)) == [outcome("fake", 0, delivered=10)]


async def test_a_sink_that_is_unavailable_ends_its_turn_and_loses_nothing() -> None:
    store = await store_of(*map(make_letter, range(25)))
    sink = ScriptedSink.following(None, *unavailable(), max_batch=10)
    assert await replay(store, EVERYTHING, targets(sink)) == [
        outcome("fake", 15, delivered=10, stopped="refusal 1 of 1")
    ]
    assert await ids(store) == names(*range(10, 25))
    assert len(sink.writes) == 2


async def test_a_sink_that_is_unavailable_does_not_keep_the_next_one_waiting() -> None:
    store = await store_of(make_letter(0, sink="bad"), make_letter(1, sink="good"))
    good, bad = ScriptedSink(), ScriptedSink.following(*unavailable())
    assert await replay(store, EVERYTHING, targets(bad, "bad") | targets(good, "good")) == [
        outcome("bad", 1, stopped="refusal 1 of 1"),
        outcome("good", 0, delivered=1),
    ]


async def test_a_sink_that_names_an_event_that_it_was_not_given_is_a_bug_and_nothing_is_removed() -> None:
    store, sink = await store_of(*map(make_letter, range(2))), ScriptedSink.following(BatchRejected({2: "no"}))
    with pytest.raises(ValueError, match="'fake' rejected index 2 of 2 events"):
        await replay(store, EVERYTHING, targets(sink))
    assert len(await everything(store)) == 2


# Which letters, and where they go


async def test_each_sink_gets_its_own_letters() -> None:
    store = await store_of(*(make_letter(n, sink="red" if n % 2 else "blue") for n in range(6)))
    red, blue = ScriptedSink(), ScriptedSink()
    await replay(store, EVERYTHING, targets(red, "red") | targets(blue, "blue"))
    assert (names_of(red), names_of(blue)) == (names(1, 3, 5), names(0, 2, 4))


async def test_letters_of_a_sink_that_is_not_configured_stay_and_that_is_said() -> None:
    store, sink = await store_of(make_letter(0, sink="gone"), make_letter(1)), ScriptedSink()
    assert await replay(store, EVERYTHING, targets(sink)) == [
        outcome("fake", 0, delivered=1),
        outcome("gone", 1, stopped="no sink of this name is configured"),
    ]
    assert await ids(store) == names(0)


async def test_only_what_is_selected_goes() -> None:
    store = await store_of(
        make_letter(0, reason="overflow"),
        make_letter(1, type="ad_clicked", reason="overflow"),
        make_letter(2, type="ad_clicked", reason="other"),
        make_letter(3, type="ad_clicked", reason="Overflow", sink="else"),
    )
    sink = ScriptedSink()
    selection = replace(select_events("fake", type="ad_clicked", reason="overflow"), up_to=10**6)
    assert await replay(store, selection, targets(sink, "fake", "else")) == [outcome("fake", 0, delivered=1)]
    assert await ids(store) == names(0, 2, 3)


async def test_a_dry_run_counts_and_writes_nothing() -> None:
    store, sink = await store_of(make_letter(0), make_letter(1), make_letter(2, sink="gone")), ScriptedSink()
    before = await everything(store)
    assert await replay(store, EVERYTHING, targets(sink), dry_run=True) == [
        outcome("fake", 2),
        outcome("gone", 1, stopped="no sink of this name is configured"),
    ]
    assert (sink.writes, await everything(store)) == ([], before)


async def test_a_run_ends_at_its_bound_across_sinks() -> None:
    store = await store_of(*(make_letter(n, sink="a" if n < 5 else "b") for n in range(10)))
    sink = ScriptedSink(max_batch=2)
    assert await replay(store, EVERYTHING, targets(sink, "a", "b"), most=7) == [
        outcome("a", 0, delivered=5),
        outcome("b", 3, delivered=2),
    ]
    assert await ids(store) == names(7, 8, 9)


# Pace and progress


async def test_a_rate_is_kept_evenly(autojump_clock: MockClock) -> None:
    store, sink = await store_of(*map(make_letter, range(100))), ScriptedSink()
    began = trio.current_time()
    await replay(store, EVERYTHING, targets(sink), rate=50)
    times = [round(write.began_at - began, 6) for write in sink.writes for _ in write.events]
    assert len(times) == 100
    assert times == sorted(times)
    # In any second that begins with a write: the rate, and what is in that write.
    assert max(sum(begin <= time < begin + 1 for time in times) for begin in times) <= 50 + 5
    assert times[-1] == pytest.approx(1.9)


@pytest.mark.parametrize(("rate", "seconds"), [(0.5, 4.0), (1, 2.0), (1000, 0.0)])
async def test_slow_and_fast_rates(autojump_clock: MockClock, rate: float, seconds: float) -> None:
    store, sink = await store_of(*map(make_letter, range(3))), ScriptedSink()
    began = trio.current_time()
    await replay(store, EVERYTHING, targets(sink), rate=rate)
    assert trio.current_time() - began == pytest.approx(seconds)


async def test_the_rate_is_that_of_the_whole_run(autojump_clock: MockClock) -> None:
    store = await store_of(*(make_letter(n, sink=f"sink-{n}") for n in range(4)))
    began = trio.current_time()
    await replay(store, EVERYTHING, targets(ScriptedSink(), *(f"sink-{n}" for n in range(4))), rate=1)
    assert trio.current_time() - began == pytest.approx(3.0)


async def test_progress_is_told_before_the_first_batch_and_after_each() -> None:
    store, sink = await store_of(*map(make_letter, range(5))), ScriptedSink(max_batch=2)
    told: list[Replayed] = []
    await replay(store, EVERYTHING, targets(sink), on_progress=told.append)
    assert [(each.delivered, each.left) for each in told] == [(0, 5), (2, 3), (4, 1), (5, 0)]


# Crashes


class Crash(Exception):
    pass


class CrashingStore(MemoryDeadLetters):
    """Its process dies when what was written is about to be removed."""

    crashing = True

    async def remove(self, selection: Selection) -> int:
        if self.crashing:
            raise Crash
        return await super().remove(selection)


async def test_a_crash_between_write_and_removal_leaves_letters_that_are_replayed_again() -> None:
    store = CrashingStore(100)
    await store.add([make_letter(n) for n in range(3)])
    sink = ScriptedSink()
    with pytest.raises(Crash):
        await replay(store, EVERYTHING, targets(sink))
    assert (names_of(sink), await ids(store)) == (names(0, 1, 2), names(0, 1, 2))
    store.crashing = False
    assert await replay(store, EVERYTHING, targets(sink)) == [outcome("fake", 0, delivered=3)]
    assert await ids(store) == []


async def test_a_cancelled_write_leaves_its_letters(autojump_clock: MockClock) -> None:
    store, sink = await store_of(*map(make_letter, range(3))), ScriptedSink()
    sink.stall()
    with trio.move_on_after(5):
        await replay(store, EVERYTHING, targets(sink))
    assert (sink.stored, await ids(store)) == ([], names(0, 1, 2))


async def test_a_run_that_is_cancelled_still_notes_what_it_has_written() -> None:
    store = await store_of(*map(make_letter, range(4)))
    scope = trio.CancelScope()

    async def write(batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        scope.cancel()
        raise BatchRejected({0: "again"})

    with scope:
        await replay(store, EVERYTHING, fake(write, 2))
    assert [(to_event(letter).id, letter.reason) for letter in await everything(store)] == [
        ("event-0", "again"),
        ("event-2", "no"),
        ("event-3", "no"),
    ]


async def test_a_store_that_hangs_while_noting_is_given_up(autojump_clock: MockClock) -> None:
    class HangingStore(MemoryDeadLetters):
        async def remove(self, selection: Selection) -> int:
            await trio.sleep_forever()

    store = HangingStore(10)
    await store.add([make_letter()])
    began = trio.current_time()
    with pytest.raises(LogUnavailable, match="did not answer"):
        await replay(store, EVERYTHING, targets(ScriptedSink()))
    assert trio.current_time() - began == pytest.approx(module.NOTE_SECONDS)


async def test_a_store_that_fails_is_said_and_the_next_run_goes_on() -> None:
    class FailingStore(MemoryDeadLetters):
        async def page(self, *arguments: object, **options: object) -> list[DeadLetter]:
            raise LogUnavailable("disk full")

    store = FailingStore(10)
    await store.add([make_letter()])
    with pytest.raises(LogUnavailable, match="disk full"):
        await replay(store, EVERYTHING, targets(ScriptedSink()))
    assert len(store) == 1


async def test_an_error_of_the_sink_that_is_no_outcome_passes_and_removes_nothing() -> None:
    store, sink = await store_of(make_letter()), ScriptedSink.following(RuntimeError("bug"))
    with pytest.raises(RuntimeError, match="bug"):
        await replay(store, EVERYTHING, targets(sink))
    assert len(store) == 1


async def test_the_words_of_a_sink_that_is_unavailable_are_kept() -> None:
    store = await store_of(make_letter())
    sink = ScriptedSink.following(SinkUnavailable("Postgres: 57P03 the database system is starting up"))
    (found,) = await replay(store, EVERYTHING, targets(sink))
    assert found == replace(found, stopped="Postgres: 57P03 the database system is starting up", left=1)
