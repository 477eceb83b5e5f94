"""The tap: what a follower sees, what it is not shown and why, and that nobody pays for it who is not looking."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.events.engine.tap import MOST_BYTES, MOST_EVENTS, MOST_FOLLOWERS, Tap, Wanted, in_sample
from hermes.events.event import Chunk
from hermes.testing import ScriptedSink, make_chunk, make_event, make_events
from tests.events.engine.kit import engine_running, ids, make_engine


async def test_a_follower_gets_what_is_handed_on_in_order(autojump_clock: None) -> None:
    engine = make_engine({"fake": ScriptedSink()})
    async with engine_running(engine):
        with engine.intake.tap.follow(Wanted()) as follower:
            engine.offer(2, prefix="first")
            engine.offer(1, prefix="second")
            events, skipped = await follower.receive()
    assert ids(events) == ["first-0", "first-1", "second-0"]
    assert skipped == 0


def test_nobody_listens_before_the_first_comes_and_after_the_last_has_left() -> None:
    tap = Tap()
    assert not tap.listening
    with tap.follow(Wanted()), tap.follow(Wanted()):
        assert tap.listening
    assert not tap.listening


async def test_only_what_is_wanted_is_shown() -> None:
    tap = Tap()
    events = [
        make_event("a", user_id="me", type="song_played"),
        make_event("b", user_id="you", type="song_played"),
        make_event("c", user_id="me", type="ad_clicked"),
        make_event("d", user_id="me", type="trip_started"),
    ]
    with tap.follow(Wanted(frozenset({"song_played", "ad_clicked"}), "me")) as follower:
        tap.show([make_chunk(events)])
        assert ids((await follower.receive())[0]) == ["a", "c"]


async def test_what_does_not_fit_is_counted_and_told() -> None:
    tap = Tap()
    with tap.follow(Wanted()) as follower:
        tap.show([make_chunk(MOST_EVENTS - 1), make_chunk(3), make_chunk(2)])
        events, skipped = await follower.receive()
        assert (len(events), skipped) == (MOST_EVENTS, 4)
        tap.show([make_chunk(1)])
        assert await follower.receive() == (make_events(1), 0)


async def test_the_buffer_is_bounded_in_bytes_too() -> None:
    tap = Tap()
    large = make_events(3, payload=b'{"x":"%b"}' % (b"x" * (MOST_BYTES // 2)))
    small = make_event("small")
    with tap.follow(Wanted()) as follower:
        tap.show([make_chunk([*large, small])])
        events, skipped = await follower.receive()
    assert (ids(events), skipped) == (["event-0", "small"], 2)


async def test_one_who_does_not_read_takes_nothing_from_the_others() -> None:
    tap = Tap()
    with tap.follow(Wanted()), tap.follow(Wanted()) as reader:
        for _ in range(3):
            tap.show([make_chunk(MOST_EVENTS)])
            events, skipped = await reader.receive()
            assert (len(events), skipped) == (MOST_EVENTS, 0)


async def test_a_follower_keeps_no_body_alive() -> None:
    tap = Tap()
    body = memoryview(bytearray(b'{"n": 1}'))
    event = make_event()
    event.payload = type(event.payload)(body)
    with tap.follow(Wanted()) as follower:
        tap.show([Chunk([event], 0.0, 8)])
        ((shown,), _) = await follower.receive()
        body[6:7] = b"2"
    assert bytes(event.payload) == b'{"n": 2}'
    assert bytes(shown.payload) == b'{"n": 1}'


@pytest.mark.parametrize("prefix", ["", "event-", "00000000-0000-0000-0000-"])
def test_a_sample_is_about_as_large_as_it_says_and_always_the_same(prefix: str) -> None:
    names = [f"{prefix}{n:06}" for n in range(10_000)]
    tenth = [name for name in names if in_sample(name, 0.1)]
    assert len(tenth) == pytest.approx(1000, rel=0.15)
    assert all(in_sample(name, 0.5) for name in tenth)
    assert all(in_sample(name, 1.0) for name in names)
    assert not any(in_sample(name, 0.0) for name in names)


async def test_the_sample_is_of_what_is_wanted_otherwise() -> None:
    tap = Tap()
    with tap.follow(Wanted(frozenset({"song_played"}), sample=0.5)) as follower:
        tap.show([make_chunk(100), make_chunk([make_event(f"other-{n}", type="ad_clicked") for n in range(100)])])
        events, _ = await follower.receive()
    assert ids(events) == [name for name in ids(make_events(100)) if in_sample(name, 0.5)]


def test_only_so_many_follow_at_once() -> None:
    tap = Tap()
    followers = [tap.follow(Wanted()) for _ in range(MOST_FOLLOWERS)]
    assert tap.crowded
    with pytest.raises(RuntimeError):
        tap.follow(Wanted())
    with followers[0]:
        pass
    assert not tap.crowded


async def test_a_closed_tap_ends_those_who_wait(autojump_clock: None) -> None:
    tap = Tap()
    ended = []

    async def follow() -> None:
        with tap.follow(Wanted()) as follower:
            ended.append(await follower.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        tap.close()
    assert ended == [([], 0)]


async def test_what_a_follower_has_is_given_before_the_end() -> None:
    tap = Tap()
    with tap.follow(Wanted()) as follower:
        tap.show([make_chunk(1)])
        tap.close()
        assert await follower.receive() == (make_events(1), 0)
        assert await follower.receive() == ([], 0)
