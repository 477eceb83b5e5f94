"""Rows: what is written is read again, any change of it is found, and what to cut at the end of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.base.errors import LogDamaged
from hermes.store.log.rows import (
    CHECKED_ROWS,
    MAX_CUT_ROWS,
    MAX_RECORD_BYTES,
    ROW_BYTES,
    Cut,
    Row,
    check_records,
    decode_row,
    encode_row,
    encode_rows,
    examine,
    fault,
    lost_row,
    size_of_first,
)

RECORDS = st.lists(st.binary(max_size=300), min_size=1, max_size=30)


@given(RECORDS, st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_row_gives_back_its_records(records: list[bytes], index: int, offset: int) -> None:
    row = encode_row(index, offset, records)
    assert not fault(row)
    assert decode_row(row) == records
    assert (row.end, row.end_offset) == (index + len(records), offset + sum(map(len, records)))


@given(RECORDS, st.data())
def test_any_flipped_bit_is_found(records: list[bytes], data: st.DataObject) -> None:
    row = encode_row(5, 77, records)
    place = data.draw(st.integers(0, len(row.data) * 8 - 1))
    flipped = bytearray(row.data)
    flipped[place // 8] ^= 1 << place % 8
    assert fault(replace(row, data=bytes(flipped)))


@pytest.mark.parametrize(
    "change",
    [
        {"index": 6},
        {"count": 2},
        {"count": 0},
        {"count": 2**40},
        {"offset": 78},
        {"checksum": 1},
        {"index": -1},
        {"index": "5"},
        {"count": None},
        {"checksum": 2**64},
        {"data": b""},
        {"data": "text"},
        {"data": b"\0" * 12},
    ],
    ids=str,
)
def test_any_changed_column_is_found(change: dict[str, Any]) -> None:
    assert fault(replace(encode_row(5, 77, [b"a", b"b", b"c"]), **change))


def test_a_row_says_that_its_records_are_lost() -> None:
    row = lost_row(7, 3, 100)
    assert not fault(row)
    assert decode_row(row) == []
    assert (row.end, row.end_offset) == (10, 100)
    assert fault(replace(row, count=4))


@given(st.lists(st.integers(0, ROW_BYTES * 3 // 2), min_size=1, max_size=12))
def test_many_records_become_rows_of_bounded_size_without_a_gap(sizes: list[int]) -> None:
    records = [bytes(size) for size in sizes]
    rows = list(encode_rows(10, 1000, records))
    assert [data for row in rows for data in decode_row(row)] == records
    assert (rows[0].index, rows[0].offset) == (10, 1000)
    for row, following in pairwise(rows):
        assert (row.end, row.end_offset) == (following.index, following.offset)
        assert row.size + len(decode_row(following)[0]) > ROW_BYTES
    assert all(row.count == 1 or row.size <= ROW_BYTES for row in rows)


@given(RECORDS, st.data())
def test_the_size_of_the_first_records_is_known_from_the_head_of_a_row(
    records: list[bytes], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(records)))
    head = encode_row(0, 0, records).data[: 4 * count]
    assert size_of_first(count, head) == sum(map(len, records[:count]))


def test_an_append_of_nothing_and_an_enormous_record_are_refused() -> None:
    assert check_records([b"ab", b""]) == 2
    with pytest.raises(ValueError, match="at least one record"):
        check_records([])
    with pytest.raises(ValueError, match=f"at most {MAX_RECORD_BYTES} are possible"):
        check_records([b"", bytes(MAX_RECORD_BYTES + 1)])


# The end of a log


def make_rows(count: int, first: int = 0) -> list[Row]:
    """Rows of two records, of 10 bytes together."""
    return [encode_row(first + 2 * n, 10 * n, [b"abcd", b"efghij"]) for n in range(count)]


def broken(row: Row) -> Row:
    return replace(row, data=row.data[:-1] + b"?")


def judge(rows: Sequence[Row], first: int = 0) -> Cut | None:
    return examine(reversed(rows), first, 500, "x.db")


@pytest.mark.parametrize("count", [0, 1, 2, CHECKED_ROWS, CHECKED_ROWS + 1])
def test_a_good_end_is_left_alone(count: int) -> None:
    assert judge(make_rows(count)) is None


@pytest.mark.parametrize("bad", [1, 2, 5])
def test_damaged_rows_at_the_end_are_cut_and_their_indexes_stay_taken(bad: int) -> None:
    rows = make_rows(5)
    cut = judge(rows[: 5 - bad] + [broken(row) for row in rows[5 - bad :]])
    assert cut is not None
    assert [row.index for row in cut.rows] == [row.index for row in rows[5 - bad :]]
    assert (cut.lost.index, cut.lost.end) == (10 - 2 * bad, 10)
    assert cut.lost.offset == (10 * (5 - bad) if bad < 5 else 500)
    assert not fault(cut.lost)


@pytest.mark.parametrize("count", [0, -3, 2**40, "two", None])
def test_a_damaged_last_row_with_an_impossible_count_is_taken_for_one_record(count: int) -> None:
    rows = make_rows(3)
    cut = judge([*rows[:2], replace(rows[2], count=count)])
    assert cut is not None
    assert (cut.lost.index, cut.lost.count) == (4, 1)


DAMAGE: dict[str, tuple[list[Row], int, str]] = {
    "middle": ([*make_rows(1), broken(make_rows(2)[1]), *make_rows(3)[2:]], 0, "records 2 to 3: the checksum does not"),
    "first": ([broken(make_rows(1)[0]), *make_rows(3)[1:]], 0, "records 0 to 1: the checksum"),
    "gap": ([*make_rows(2), *make_rows(4)[3:]], 0, "records 4 to 5: missing"),
    "gap before a damaged end": ([*make_rows(2), broken(make_rows(4)[3])], 0, "records 4 to 5: missing"),
    "start": (make_rows(3)[1:], 0, "records 0 to 1: missing"),
    "start, inside a row": (make_rows(3)[1:], 1, "record 1: missing"),
    "start, the rest damaged": ([broken(row) for row in make_rows(3)[1:]], 0, "records 0 to 1: missing"),
    "overlap": ([*make_rows(2), *make_rows(3, first=3)], 0, "record 3: stored twice"),
    "everything": ([broken(row) for row in make_rows(MAX_CUT_ROWS + 1)], 0, "records 0 to 1: the checksum"),
}


@pytest.mark.parametrize(("rows", "first", "words"), DAMAGE.values(), ids=DAMAGE)
def test_other_damage_is_an_error_that_names_the_place_and_what_to_do(rows: list[Row], first: int, words: str) -> None:
    advice = "; stop Hermes, see `hermes log check`, then `hermes log repair`"
    with pytest.raises(LogDamaged, match=f"^x.db: {words}.*{advice}$"):
        judge(rows, first)


def test_a_row_that_the_log_begins_inside_of_is_no_gap() -> None:
    assert judge(make_rows(3)[1:], first=3) is None


def test_no_more_of_a_long_log_is_read_than_is_checked() -> None:
    rows = make_rows(CHECKED_ROWS * 3)
    newest = reversed([broken(row) for row in rows[:CHECKED_ROWS]] + rows[CHECKED_ROWS:])
    assert examine(newest, 0, 0, "x.db") is None
    assert next(newest).index == 2 * (CHECKED_ROWS * 2 - 1)
