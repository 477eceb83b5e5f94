"""Counts by type and minute: what is kept, what makes room, and that nothing goes uncounted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hermes.events.engine.aggregate import MAX_CELLS, MAX_TYPES, OTHER, Aggregator
from hermes.events.event import MAX_TIMESTAMP, Chunk
from hermes.testing import make_chunk, make_event
from hermes.testing.events import RECEIVED_AT


def at(minute: int, kind: str = "song_played", second: int = 0) -> Chunk:
    return make_chunk([make_event(type=kind, timestamp=minute * 60 + second)])


def test_counts_are_keyed_by_type_and_minute() -> None:
    aggregator = Aggregator(10)
    aggregator.add([at(5), at(5, second=59), at(6), at(5, "ad_clicked")])
    assert aggregator.snapshot() == {"ad_clicked:5": 1, "song_played:5": 2, "song_played:6": 1}
    assert aggregator.received == {"song_played": 3, "ad_clicked": 1}


def test_the_oldest_minute_makes_room_and_is_counted_as_dropped() -> None:
    aggregator = Aggregator(2)
    aggregator.add([at(1), at(1), at(2)])
    aggregator.add([at(3)])
    assert aggregator.snapshot() == {"song_played:2": 1, "song_played:3": 1}
    assert aggregator.dropped == 2


def test_a_minute_older_than_all_that_is_kept_is_dropped_and_counted() -> None:
    aggregator = Aggregator(2)
    aggregator.add([at(10), at(11)])
    aggregator.add([at(9), at(9)])
    assert aggregator.snapshot() == {"song_played:10": 1, "song_played:11": 1}
    assert aggregator.dropped == 2
    assert aggregator.received == {"song_played": 4}


def test_a_client_whose_clock_is_wrong_takes_nobodys_place() -> None:
    aggregator = Aggregator(3)
    now = int(RECEIVED_AT) // 60
    aggregator.add([at(minute) for minute in (now - 1, now)])
    for strange in (*range(MAX_TIMESTAMP // 60 - 50, MAX_TIMESTAMP // 60), *range(50), *range(now + 60, now + 110)):
        aggregator.add([at(strange)])
    kept = aggregator.snapshot()
    assert {f"song_played:{now - 1}", f"song_played:{now}"} <= set(kept)
    assert sum(kept.values()) + aggregator.dropped == 152
    aggregator.add([at(now - 2)])
    assert list(aggregator.snapshot()) == [f"song_played:{minute}" for minute in (now - 2, now - 1, now)]


def test_a_late_minute_has_its_place_while_there_is_room() -> None:
    aggregator = Aggregator(3)
    aggregator.add([at(10), at(12)])
    aggregator.add([at(11)])
    assert list(aggregator.snapshot()) == ["song_played:10", "song_played:11", "song_played:12"]


def test_types_beyond_the_first_thousand_count_as_one() -> None:
    aggregator = Aggregator(10)
    aggregator.add([at(1, f"type-{n}") for n in range(MAX_TYPES)])
    aggregator.add([at(1, "one-more"), at(1, "and-another"), at(1, "type-0")])
    assert aggregator.received["type-0"] == 2
    assert aggregator.received[OTHER] == 2
    assert len(aggregator.received) == MAX_TYPES + 1
    assert aggregator.snapshot()[f"{OTHER}:1"] == 2


def test_types_beyond_the_bound_on_all_cells_count_as_one_in_each_minute() -> None:
    aggregator = Aggregator(3, max_cells=4)
    aggregator.add([at(1, "a"), at(1, "b"), at(2, "a"), at(2, "b")])
    aggregator.add([at(1, "c"), at(2, "c"), at(2, "d"), at(2, "a"), at(3, "a")])
    assert aggregator.snapshot() == {
        "a:1": 1,
        "b:1": 1,
        f"{OTHER}:1": 1,
        "a:2": 2,
        "b:2": 1,
        f"{OTHER}:2": 2,
        f"{OTHER}:3": 1,
    }
    assert aggregator.received == {"a": 4, "b": 2, "c": 2, "d": 1}


def test_a_minute_that_makes_room_gives_its_cells_back() -> None:
    aggregator = Aggregator(2, max_cells=4)
    aggregator.add([at(1, "a"), at(1, "b"), at(2, "a"), at(2, "b")])
    aggregator.add([at(3, "a"), at(3, "b"), at(3, "c")])
    assert aggregator.snapshot() == {"a:2": 1, "b:2": 1, "a:3": 1, "b:3": 1, f"{OTHER}:3": 1}


def test_a_thousand_types_in_every_minute_stay_within_the_cells() -> None:
    aggregator = Aggregator(1440)
    for minute in range(200):
        aggregator.add([at(minute, f"type-{n}") for n in range(MAX_TYPES)])
    kept = aggregator.snapshot()
    assert len(kept) <= MAX_CELLS + 200
    assert sum(kept.values()) == 200 * MAX_TYPES
    assert kept["(other):199"] == MAX_TYPES


def test_what_hermes_made_of_other_events_is_not_counted_again() -> None:
    aggregator = Aggregator(10)
    aggregator.add([Chunk([make_event()], 0.0, 1, derived=True)])
    assert aggregator.snapshot() == {}
    assert not aggregator.received


def test_a_snapshot_is_a_copy() -> None:
    aggregator = Aggregator(10)
    aggregator.add([at(1)])
    before = aggregator.snapshot()
    aggregator.add([at(1)])
    assert before == {"song_played:1": 1}


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 15), st.sampled_from("ab")), max_size=12), max_size=20),
    st.integers(1, 6),
    st.integers(0, 8) | st.just(MAX_CELLS),
)
def test_kept_and_dropped_are_all_that_was_added_and_the_latest_minutes_are_right(
    requests: list[list[tuple[int, str]]], most: int, cells: int
) -> None:
    aggregator = Aggregator(most, cells)
    everything: Counter[str] = Counter()
    for request in requests:
        aggregator.add([make_chunk([make_event(type=kind, timestamp=minute * 60) for minute, kind in request])])
        everything.update(f"{kind}:{minute}" for minute, kind in request)
        kept = aggregator.snapshot()
        assert sum(kept.values()) + aggregator.dropped == everything.total() == aggregator.received.total()
        minutes = {int(key.partition(":")[2]) for key in kept}
        assert len(minutes) <= most
        assert len(kept) <= cells + len(minutes)
        assert all(kept[key] <= everything[key] for key in kept if not key.startswith(OTHER))
        if minutes and not aggregator.dropped and len(everything) <= cells:
            assert kept == everything
    seen = sorted({int(key.partition(":")[2]) for key in everything})
    minutes = {int(key.partition(":")[2]) for key in aggregator.snapshot()}
    if seen:
        assert minutes == set(seen[-most:])
        latest = Counter({key: n for key, n in aggregator.snapshot().items() if key.endswith(f":{seen[-1]}")})
        expected = {f"{kind}:{seen[-1]}": everything[f"{kind}:{seen[-1]}"] for kind in "ab"}
        assert latest.total() == sum(expected.values())
        if cells == MAX_CELLS:
            assert all(latest[key] == expected[key] for key in expected)
