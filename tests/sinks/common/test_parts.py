"""Finding refused events: only they are lost, whatever the other side says about them, and the requests are bounded."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from hermes_sinks.common.parts import MOST_REFUSALS, Refusal, Send, cut, send_the_good

from hermes import SinkUnavailable


class Taker:
    """The other side: takes parts without a bad event; ``style`` says what it tells about the others."""

    def __init__(self, bad: Collection[int], style: str = "mute") -> None:
        self.bad = set(bad)
        self.style = style
        self.taken: list[int] = []
        self.parts: list[list[int]] = []

    async def send(self, part: Sequence[int]) -> Refusal | None:
        self.parts.append(list(part))
        bad = [place for place, index in enumerate(part) if index in self.bad]
        if not bad:
            self.taken += part
            return None
        if self.style == "takes the rest":
            self.taken += [index for index in part if index not in self.bad]
            return Refusal("", dict.fromkeys(bad, "bad"), rest_taken=True)
        if self.style == "names all":
            return Refusal("", dict.fromkeys(bad, "bad"))
        suspects = {"points": bad[0], "lies": len(part) - 1 - bad[0], "raves": 10**9, "mute": None}
        return Refusal("bad", suspect=suspects[self.style])


STYLES = ["mute", "points", "lies", "raves", "names all", "takes the rest"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("bad", [[], [0], [19], [3, 4, 5, 11], [0, 2, 4, 6, 8, 10, 12, 14, 16, 18], range(20)])
async def test_only_the_bad_events_are_refused_and_all_others_are_taken(style: str, bad: Collection[int]) -> None:
    taker = Taker(bad, style)
    refused = await send_the_good([range(13), range(13, 20)], taker.send)
    assert refused == dict.fromkeys(bad, "bad")
    assert sorted(taker.taken) == [index for index in range(20) if index not in bad]


@pytest.mark.parametrize(
    ("style", "most"),
    [("mute", 21), ("points", 3), ("names all", 2), ("takes the rest", 1)],
    ids=lambda value: str(value),
)
async def test_one_bad_event_of_a_thousand_costs_few_requests(style: str, most: int) -> None:
    taker = Taker([357], style)
    await send_the_good([range(1000)], taker.send)
    assert len(taker.parts) <= most


async def test_a_batch_of_bad_events_costs_a_bounded_number_of_requests_and_is_refused() -> None:
    taker = Taker(range(2000))
    refused = await send_the_good([range(2000)], taker.send)
    assert refused.keys() == set(range(2000))
    assert len(taker.parts) <= MOST_REFUSALS + 12
    assert any("refused together" in reason for reason in refused.values())


async def test_parts_that_were_never_refused_are_taken_even_when_the_patience_is_over() -> None:
    taker = Taker(range(1000))
    await send_the_good([range(1000), range(1000, 1010)], taker.send)
    assert taker.taken == list(range(1000, 1010))


async def test_an_outage_in_the_middle_ends_it() -> None:
    taker = Taker([])

    async def send(part: Sequence[int]) -> Refusal | None:
        if taker.parts:
            raise SinkUnavailable("down")
        return await taker.send(part)

    checked: Send = send
    with pytest.raises(SinkUnavailable):
        await send_the_good([range(3), range(3, 6)], checked)
    assert taker.taken == [0, 1, 2]


@pytest.mark.parametrize(
    ("sizes", "most", "parts"),
    [
        ([], 10, []),
        ([4, 4, 4], 12, [[0, 1, 2]]),
        ([4, 4, 4], 11, [[0, 1], [2]]),
        ([4, 40, 4], 11, [[0], [1], [2]]),
        ([40, 4, 4, 40], 11, [[0], [1, 2], [3]]),
    ],
)
def test_parts_keep_to_the_size_except_for_single_events(sizes: list[int], most: int, parts: list[list[int]]) -> None:
    assert [list(part) for part in cut(range(len(sizes)), sizes, most)] == parts


def test_what_is_left_out_is_in_no_part() -> None:
    assert [list(part) for part in cut([0, 2, 3], [5, 100, 5, 5], 10)] == [[0, 2], [3]]
