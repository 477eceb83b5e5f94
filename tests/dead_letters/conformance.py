"""What every store of dead letters must do: a suite that a test class inherits, beside a fixture ``open_store``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from hermes.dead_letters import DeadLetter, DeadLetters, Selection, Source
from hermes.dead_letters.contract import MAX_NUMBER
from hermes.dead_letters.rows import MAX_REASON
from hermes.events.letters import sink_source, to_event, to_letter
from hermes.testing import awkward_events, big_event
from tests.dead_letters.kit import (
    EVERYTHING,
    REJECTED_AT,
    OpenStore,
    everything,
    ids,
    make_letter,
    select_events,
)


class StoreSuite:
    """Each test opens a store of its own, empty at first."""

    async def test_what_comes_back_is_what_went_in_byte_for_byte(self, open_store: OpenStore) -> None:
        events = [*awkward_events(), big_event(2**20)]
        letters = [
            to_letter(event, "fake", "no", 1, rejected_at=REJECTED_AT, received_at=1e9 + n / 7)
            for n, event in enumerate(events)
        ]
        async with open_store(1000) as store:
            await store.add(letters)
            kept = await everything(store)
        assert kept == [replace(letter, number=number) for letter, number in zip(letters, numbers(kept), strict=True)]
        assert [to_event(letter) for letter in kept] == events
        assert [letter.body for letter in kept] == [bytes(event.payload) for event in events]

    async def test_numbers_go_up_and_are_never_given_again(self, open_store: OpenStore) -> None:
        async with open_store(1000) as store:
            assert await store.last() == 0
            await store.add([make_letter(1), make_letter(2)])
            first = numbers(await everything(store))
            assert first == sorted(first)
            assert await store.last() == first[-1] > first[0] >= 1
            assert await store.remove(EVERYTHING) == 2
            await store.add([make_letter(1)])
            assert await store.last() > first[-1]

    async def test_an_event_that_is_refused_again_takes_the_place_of_its_older_letter(
        self, open_store: OpenStore
    ) -> None:
        again = make_letter(1, reason="still no", attempts=4, rejected_at=REJECTED_AT + 5, received_at=7.0)
        async with open_store(1000) as store:
            await store.add([make_letter(1), make_letter(2)])
            first = await everything(store)
            await store.add([again])
            assert await everything(store) == [replace(again, number=first[0].number), first[1]]

    async def test_the_same_event_twice_in_one_call_is_one_letter_the_last(self, open_store: OpenStore) -> None:
        async with open_store(1000) as store:
            await store.add([make_letter(1, reason="first"), make_letter(2), make_letter(1, reason="last")])
            assert sorted((to_event(each).id, each.reason) for each in await everything(store)) == [
                ("event-1", "last"),
                ("event-2", "no"),
            ]

    @pytest.mark.parametrize(
        "other",
        [
            make_letter(1, sink="else"),
            replace(make_letter(1), source=Source("jobs", "fake")),
            make_letter(2),
            make_letter(1, user_id="else"),
            make_letter(1, type="else"),
            make_letter(1, timestamp=5),
            make_letter(1, payload=b"{ }"),
        ],
        ids=["sink", "part", "id", "user_id", "type", "timestamp", "payload"],
    )
    async def test_what_differs_in_anything_is_another_letter(self, open_store: OpenStore, other: object) -> None:
        async with open_store(1000) as store:
            await store.add([make_letter(1)])
            await store.add([other])  # type: ignore[list-item]
            assert len(await everything(store)) == 2

    async def test_fields_that_share_out_the_same_text_differently_are_two_letters(self, open_store: OpenStore) -> None:
        one, two = make_letter(user_id="ab", type="c"), make_letter(user_id="a", type="bc")
        async with open_store(1000) as store:
            await store.add([one, two])
            assert len(await everything(store)) == 2

    async def test_the_oldest_make_room_and_are_counted(self, open_store: OpenStore) -> None:
        async with open_store(3) as store:
            await store.add([make_letter(n) for n in range(5)])
            assert store.evictions.total == 2
            await store.add([make_letter(5)])
            assert (await ids(store), store.evictions.total) == (["event-3", "event-4", "event-5"], 3)

    async def test_letters_that_are_added_at_the_same_time_are_all_counted_when_they_leave(
        self, open_store: OpenStore
    ) -> None:
        async def add(store: DeadLetters, sink: str) -> None:
            for n in range(0, 60, 20):
                await store.add([make_letter(each, sink=sink) for each in range(n, n + 20)])

        async with open_store(10) as store:
            async with trio.open_nursery() as nursery:
                for sink in ("a", "b", "c", "d"):
                    nursery.start_soon(add, store, sink)
            kept = await store.count(EVERYTHING)
            lost = {source: 60 - kept.get(source, 0) for source in map(sink_source, ("a", "b", "c", "d"))}
            assert sum(lost.values()) == 230 == store.evictions.total
            assert dict(store.evictions.own) == dict(store.evictions.by_source) == lost

    async def test_a_letter_that_is_replaced_makes_nobody_leave(self, open_store: OpenStore) -> None:
        async with open_store(2) as store:
            await store.add([make_letter(1), make_letter(2)])
            await store.add([make_letter(1, reason="again")])
            assert (await ids(store), store.evictions.total) == (["event-1", "event-2"], 0)

    async def test_a_store_without_room_counts_what_it_was_given(self, open_store: OpenStore) -> None:
        async with open_store(0) as store:
            await store.add([make_letter(1), make_letter(2)])
            assert (await ids(store), store.evictions.total) == ([], 2)

    async def test_nothing_to_add_or_to_amend_is_nothing_done(self, open_store: OpenStore) -> None:
        async with open_store(2) as store:
            await store.add([])
            await store.amend([])
            assert (await ids(store), store.evictions.total) == ([], 0)

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            (Selection(), [0, 1, 2, 3, 4]),
            (select_events("blue"), [1, 3]),
            (select_events("BLUE"), []),
            (select_events(type="ad_clicked"), [2, 3]),
            (Selection(reason="OVERFLOW"), [0, 3]),
            (Selection(reason="100%"), [4]),
            (Selection(reason="_"), [3]),
            (Selection(reason="zu groß"), [1]),
            (Selection(reason=""), [0, 1, 2, 3, 4]),
            (Selection(since=REJECTED_AT + 2), [2, 3, 4]),
            (Selection(since=REJECTED_AT + 2.001), [3, 4]),
            (select_events("blue", type="ad_clicked", reason="overflow", since=REJECTED_AT), [3]),
            (select_events("blue", type="song_played", reason="overflow"), []),
            (Selection(numbers=[]), []),
        ],
        ids=repr,
    )
    async def test_a_selection_finds_what_matches_all_of_it(
        self, open_store: OpenStore, selection: Selection, expected: list[int]
    ) -> None:
        reasons = ["22003 Overflow", "Zu groß", "no", "numeric_overflow", "100% wrong"]
        async with open_store(100) as store:
            for n, reason in enumerate(reasons):
                sink, kind = "blue" if n % 2 else "red", "ad_clicked" if n in (2, 3) else "song_played"
                await store.add([make_letter(n, sink=sink, type=kind, reason=reason, rejected_at=REJECTED_AT + n)])
            assert await ids(store, selection) == [f"event-{n}" for n in expected]
            tally = {sink_source(sink): sum(n % 2 == odd for n in expected) for sink, odd in (("blue", 1), ("red", 0))}
            assert await store.count(selection) == {source: count for source, count in tally.items() if count}
            assert await store.remove(selection) == len(expected)
            assert await ids(store) == [f"event-{n}" for n in range(5) if n not in expected]

    async def test_letters_of_several_parts_are_kept_apart_and_each_is_selected_by_its_facts(
        self, open_store: OpenStore
    ) -> None:
        def job(n: int, body: bytes, queue: str = "mail") -> DeadLetter:
            return DeadLetter(Source("jobs", "fake"), {"queue": queue, "n": n}, body, "no", 1, 5.0, 4.0)

        jobs = [job(n, bytes(range(256)) * n) for n in (1, 2)]
        jobs.append(job(2**63 - 1, b"", queue="日本 \"'\\\x01"))
        async with open_store(100) as store:
            await store.add([make_letter(1), *jobs, make_letter(2)])
            assert await store.count(EVERYTHING) == {sink_source("fake"): 2, Source("jobs", "fake"): 3}
            assert await everything(store, select_events()) == await everything(store, select_events("fake"))
            assert await ids(store, select_events()) == ["event-1", "event-2"]
            kept = await everything(store, Selection(part="jobs"))
            assert kept == [replace(each, number=number) for each, number in zip(jobs, numbers(kept), strict=True)]
            for letter in kept:
                assert await everything(store, Selection(facts=letter.facts)) == [letter]
            assert await everything(store, Selection(facts={"queue": "mail"})) == kept[:2]
            assert await everything(store, Selection(facts={"queue": "mail", "n": 3})) == []
            assert await store.remove(Selection("jobs", "fake")) == 3
            assert await ids(store) == ["event-1", "event-2"]

    async def test_numbers_and_a_highest_number_select(self, open_store: OpenStore) -> None:
        async with open_store(100) as store:
            await store.add([make_letter(n) for n in range(6)])
            given = numbers(await everything(store))
            picked = [given[4], given[1], given[1], given[-1] + 1, MAX_NUMBER]
            assert await ids(store, Selection(numbers=picked)) == ["event-1", "event-4"]
            assert await ids(store, Selection(up_to=given[2])) == ["event-0", "event-1", "event-2"]
            assert await store.remove(Selection(numbers=picked, up_to=given[3])) == 1

    async def test_a_page_is_bounded_in_letters(self, open_store: OpenStore) -> None:
        async with open_store(1000) as store:
            await store.add([make_letter(n) for n in range(250)])
            page = await store.page(EVERYTHING)
            assert len(page) == 100
            rest = await store.page(EVERYTHING, after=page[-1].number, limit=1000)
            assert [to_event(letter).id for letter in page + rest] == [f"event-{n}" for n in range(250)]
            assert await store.page(EVERYTHING, after=rest[-1].number) == []

    async def test_a_page_is_bounded_in_bytes_but_never_empty_before_the_end(self, open_store: OpenStore) -> None:
        sizes = [500, 400, 200, 5000, 300]
        async with open_store(1000) as store:
            for n, size in enumerate(sizes):
                await store.add([make_letter(n, payload=b'{"v":"' + b"x" * (size - 8) + b'"}')])
            pages = []
            after = 0
            while page := await store.page(EVERYTHING, after=after, max_bytes=1000):
                pages.append([len(letter.body) for letter in page])
                after = page[-1].number
        assert pages == [[500, 400], [200], [5000], [300]]

    async def test_a_letter_that_is_refused_again_is_amended(self, open_store: OpenStore) -> None:
        async with open_store(1000) as store:
            await store.add([make_letter(1), make_letter(2), make_letter(3)])
            one, two, three = await everything(store)
            await store.remove(Selection(numbers=[three.number]))
            again = [
                replace(letter, reason="still", attempts=2, rejected_at=REJECTED_AT + 9) for letter in (two, three)
            ]
            await store.amend(again)
            assert await everything(store) == [one, again[0]]

    async def test_a_reason_is_kept_in_a_form_that_can_be_stored(self, open_store: OpenStore) -> None:
        async with open_store(1000) as store:
            await store.add([make_letter(1, reason="nul \0, half \ud800"), make_letter(2, reason="é" * 3000)])
            one, two = await everything(store)
            assert one.reason == "nul \\0, half \\ud800"
            assert two.reason == "é" * (MAX_REASON - 1) + "…"
            await store.amend([replace(one, reason="\0\udfff")])
            assert (await everything(store))[0].reason == "\\0\\udfff"

    async def test_many_letters_are_removed_at_once(self, open_store: OpenStore) -> None:
        async with open_store(10_000) as store:
            await store.add([make_letter(n, sink="red" if n % 2 else "blue") for n in range(5000)])
            assert await store.remove(select_events("red")) == 2500
            assert await store.count(EVERYTHING) == {sink_source("blue"): 2500}


class DurableSuite:
    """Beside that, what a store must do whose letters outlive it."""

    async def test_letters_are_there_when_it_is_opened_again(self, open_store: OpenStore) -> None:
        async with open_store(2) as store:
            await store.add([make_letter(n) for n in range(3)])
            before = await everything(store)
        async with open_store(2) as store:
            assert await everything(store) == before
            assert store.evictions.total == 0
            await store.add([make_letter(3)])
            assert await ids(store) == ["event-2", "event-3"]
            assert (store.evictions.total, store.evictions.own.total()) == (1, 0), "the letter was of the last run"
            await store.add([make_letter(4), make_letter(5)])
            assert (store.evictions.total, store.evictions.own.total()) == (3, 1)

    async def test_numbers_are_not_given_again_after_it_was_opened_again(self, open_store: OpenStore) -> None:
        async with open_store(10) as store:
            await store.add([make_letter(1)])
            (letter,) = await everything(store)
            await store.remove(EVERYTHING)
        async with open_store(10) as store:
            await store.add([make_letter(2)])
            assert await store.last() > letter.number

    async def test_each_of_two_knows_which_of_the_letters_that_left_were_its_own(self, open_store: OpenStore) -> None:
        async with open_store(3) as one, open_store(3) as two:
            for n in range(0, 12, 2):
                await one.add([make_letter(n)])
                await two.add([make_letter(n + 1)])
            evictions = one.evictions, two.evictions
            assert sum(each.total for each in evictions) == 9
            assert [each.own.total() for each in evictions] == [0, 0], "each of the two evicts what is the other's"
            await two.add([make_letter(n) for n in range(12, 18)])
            assert two.evictions.own.total() == 5, "two letters from before, and three of these six"

    async def test_two_that_are_open_at_once_see_the_same_letters(self, open_store: OpenStore) -> None:
        async with open_store(10) as one, open_store(10) as two:
            await one.add([make_letter(1)])
            await two.add([make_letter(2), make_letter(1, reason="again")])
            assert await everything(one) == await everything(two)
            assert sorted(await ids(one)) == ["event-1", "event-2"]
            assert await one.remove(EVERYTHING) == 2
            assert await ids(two) == []


def numbers(letters: object) -> list[int]:
    return [letter.number for letter in letters]  # type: ignore[attr-defined]
