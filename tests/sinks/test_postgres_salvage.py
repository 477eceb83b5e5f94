"""Finding refused rows: exactly those are named, all others are stored once and in order, and the cost is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import trio
from hermes_sinks.postgres.faults import RowFault
from hermes_sinks.postgres.salvage import store_the_good
from hypothesis import given, settings
from hypothesis import strategies as st


class Server:
    """Refuses parts that hold a bad row; names a line as it is told to."""

    def __init__(self, bad: set[int], hint: str) -> None:
        self.bad = bad
        self.hint = hint
        self.stored: list[int] = []
        self.attempts = 0
        self.sent = 0

    async def store(self, part: Sequence[bytes]) -> RowFault | None:
        await trio.lowlevel.checkpoint()
        numbers = [int(row) for row in part]
        self.attempts += 1
        self.sent += len(part)
        wrong = [at for at, number in enumerate(numbers) if number in self.bad]
        if wrong:
            line = {"exact": wrong[0], "none": None, "last": len(part) - 1, "beyond": len(part) + 3}[self.hint]
            return RowFault(f"row {numbers[wrong[0]]} is bad", line)
        self.stored += numbers
        return None


def salvage(count: int, bad: set[int], hint: str) -> tuple[Server, dict[int, str]]:
    server = Server(bad, hint)
    return server, trio.run(store_the_good, [b"%d" % n for n in range(count)], server.store)


@given(st.integers(0, 200), st.sets(st.integers(0, 199)), st.sampled_from(["exact", "none", "last", "beyond"]))
@settings(max_examples=200)
def test_the_bad_rows_are_named_and_all_others_stored_once_in_order(count: int, bad: set[int], hint: str) -> None:
    bad = {n for n in bad if n < count}
    server, refused = salvage(count, bad, hint)
    assert refused == {n: f"row {n} is bad" for n in bad}
    assert server.stored == [n for n in range(count) if n not in bad]


@given(st.sets(st.integers(0, 999), min_size=1), st.sampled_from(["exact", "none"]))
@settings(max_examples=50)
def test_k_bad_rows_of_n_cost_k_log_n_attempts(bad: set[int], hint: str) -> None:
    server, _ = salvage(1000, bad, hint)
    assert server.attempts <= (len(bad) + 1) * (2 * log2(1000) + 3)


def test_nothing_but_bad_rows_costs_one_attempt_each() -> None:
    server, refused = salvage(1000, set(range(1000)), "exact")
    assert len(refused) == 1000
    assert server.attempts <= 1010
    assert server.sent <= 3000


def test_rows_that_are_bad_here_and_there_are_not_sent_again_and_again() -> None:
    server, refused = salvage(10_000, set(range(0, 10_000, 20)), "exact")
    assert len(refused) == 500
    assert server.sent <= 50_000


def test_what_is_known_of_all_rows_saves_an_attempt() -> None:
    server = Server({70}, "exact")
    rows = [b"%d" % n for n in range(100)]
    trio.run(store_the_good, rows, server.store, RowFault("row 70 is bad", 70))
    assert server.sent < 100 + 100
    assert server.stored == [n for n in range(100) if n != 70]
