"""The layout of partitions: two segments whatever a type holds, and never more of them than allowed."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hermes_sinks.parquet.layout import DAY, ELSEWHERE, Days, Partition, file_name, limit, sort_by_partition
from hypothesis import given
from hypothesis import strategies as st

from hermes.testing import make_event

NOON = 1_700_049_600.0  # 2023-11-15 12:00:00 UTC
TODAY = int(NOON) // DAY


@pytest.mark.parametrize(
    ("partition", "folder"),
    [
        (Partition(TODAY, "song_played"), "date=2023-11-15/type=song_played"),
        (Partition(0, "Ad-Clicked.2"), "date=1970-01-01/type=Ad-Clicked.2"),
        (Partition(TODAY, "app:started"), "date=2023-11-15/type=app%3Astarted"),
        (Partition(TODAY, ".."), "date=2023-11-15/type=%2E%2E"),
        (Partition(TODAY, "../../etc/passwd"), "date=2023-11-15/type=..%2F..%2Fetc%2Fpasswd"),
        (Partition(TODAY, "a\\b\0=%"), "date=2023-11-15/type=a%5Cb%00%3D%25"),
        (Partition(None, "song_played"), "date=__HIVE_DEFAULT_PARTITION__/type=song_played"),
        (ELSEWHERE, "date=__HIVE_DEFAULT_PARTITION__/type=__HIVE_DEFAULT_PARTITION__"),
    ],
)
def test_a_partition_is_a_folder_in_the_layout_of_hive(partition: Partition, folder: str) -> None:
    assert partition.folder == folder


@given(st.text(min_size=1, max_size=64).filter(lambda text: text.isprintable() or "\0" in text))
def test_whatever_a_type_holds_it_is_one_segment_that_reads_back(text: str) -> None:
    date, _, segment = Partition(TODAY, text).folder.partition("/")
    assert date == "date=2023-11-15"
    assert "/" not in segment
    assert not segment.endswith(".")
    assert segment.isascii()
    assert unquote(segment.removeprefix("type=")) == text


def test_days_outside_the_bound_have_no_folder_of_their_own() -> None:
    days = Days.around(NOON, 2)
    offsets = (-3, -2, 0, 1, 2)
    events = [make_event(timestamp=int(NOON) + offset * DAY) for offset in offsets]
    found: dict[Partition, list[int]] = {}
    sort_by_partition(events, 100, days, found)
    assert found == {
        Partition(None, "song_played"): [100, 104],
        Partition(TODAY - 2, "song_played"): [101],
        Partition(TODAY, "song_played"): [102],
        Partition(TODAY + 1, "song_played"): [103],
    }


def test_partitions_beyond_the_limit_share_one_the_smallest_first() -> None:
    partitions = {Partition(TODAY, str(size)): list(range(size * 100, size * 100 + size)) for size in (1, 5, 2, 4, 3)}
    assert limit(partitions, 5) == partitions
    assert limit(partitions, 3) == {
        Partition(TODAY, "5"): [500, 501, 502, 503, 504],
        Partition(TODAY, "4"): [400, 401, 402, 403],
        ELSEWHERE: [100, 200, 201, 300, 301, 302],
    }
    assert list(limit(partitions, 1)) == [ELSEWHERE]


def test_a_file_is_called_by_its_time_and_its_content() -> None:
    name = file_name(NOON + 0.9, b"content")
    assert name == file_name(NOON, memoryview(b"content"))
    assert name.startswith("part-20231115T120000Z-")
    assert name.endswith(".parquet")
    assert name != file_name(NOON, b"other content")
