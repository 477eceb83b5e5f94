"""The postgres sink sorts its batches in steps: the order is that of one stable sort, and no step takes long."""

from __future__ import annotations

from random import Random

import pytest
from hermes_sinks.postgres.order import order_in_steps

COUNT = 20_000
RUN = 2_000


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_one_stable_sort(seed: int) -> None:
    random = Random(seed)
    for count in range(60):
        ids = ["".join(random.choices("abé", k=random.randrange(4))) for _ in range(count)]
        for run in (1, 2, 3, 7, 60):
            order = [index for part in order_in_steps(ids, run) for index in part]
            assert order == sorted(range(count), key=ids.__getitem__)


@pytest.mark.parametrize(
    "ids",
    [
        [f"{Random(number).getrandbits(128):032x}" for number in range(COUNT)],
        [f"{number:032x}" for number in range(COUNT)],
        [f"{COUNT - number:032x}" for number in range(COUNT)],
        [f"{number * 7919 % COUNT:032x}" if number % 3 else "a" for number in range(COUNT)],
    ],
    ids=["random", "ascending", "descending", "many equal ones"],
)
def test_no_part_is_much_longer_than_a_run(ids: list[str]) -> None:
    parts = [part for part in order_in_steps(ids, RUN) if part]
    equal = ids.count("a")  # equal ids stay together, which takes no time to sort
    assert max(map(len, parts)) <= equal + 1.2 * RUN
    assert [index for part in parts for index in part] == sorted(range(COUNT), key=ids.__getitem__)
