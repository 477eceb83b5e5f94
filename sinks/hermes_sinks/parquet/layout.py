"""Decides which events share a file, and the file's folder and name. Pure.

    date=2026-11-21/type=song_played/part-20261121T101500Z-<hash>.parquet

The layout is Hive's, which readers know as partitions. Clients choose dates and, with EVENT_TYPES=*, types, so the
number of both is bounded: dates that are too old or too new, and types beyond the bound, go to Hive's partition for
missing values. Each file also has the date and the type of its events in columns.
Invariant: a folder is two segments, ``date=…`` and ``type=…``, for any type.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote

from hermes import Event

DAY = 86_400
NOT_GIVEN = "__HIVE_DEFAULT_PARTITION__"


class Partition(NamedTuple):
    """A day, counted from the Unix epoch, and a type; None: not given.

    >>> Partition(20_778, "page/view").folder
    'date=2026-11-21/type=page%2Fview'
    """

    day: int | None
    type: str | None

    @property
    def folder(self) -> str:
        """The folder, relative to the root."""
        date = NOT_GIVEN if self.day is None else time.strftime("%Y-%m-%d", time.gmtime(self.day * DAY))
        return f"date={date}/type={NOT_GIVEN if self.type is None else _segment(self.type)}"


def _segment(text: str) -> str:
    """Return the text in the encoding that readers of partitions decode."""
    # A dot at the end is encoded, so that no path has a segment such as ``type=..``.
    # A slash too: a type is one segment of the path.
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.endswith(".") else quoted


ELSEWHERE = Partition(None, None)


class Days(NamedTuple):
    """The days that have folders of their own.

    >>> Days.around(now=20_778 * DAY, back=30)
    Days(first=20748, last=20779)
    """

    first: int
    last: int

    @classmethod
    def around(cls, now: float, back: int) -> Days:
        """Return the days from ``back`` days before ``now``, in Unix seconds, to the day after ``now``."""
        # The day after, because clocks of clients may be ahead.
        today = int(now) // DAY
        return cls(today - back, today + 1)


def sort_by_partition(
    events: Iterable[Event], first_index: int, days: Days, partitions: dict[Partition, list[int]]
) -> None:
    """Add the indexes of events, counted from ``first_index``, to the lists of their partitions.

    >>> partitions = {}
    >>> sort_by_partition([Event("1", "u", "a", 0), Event("2", "u", "a", 0)], 5, Days(0, 10), partitions)
    >>> partitions
    {Partition(day=0, type='a'): [5, 6]}
    """
    for index, event in enumerate(events, first_index):
        day: int | None = event.timestamp // DAY
        if not days.first <= event.timestamp // DAY <= days.last:
            # Clients choose their timestamps, so without a bound they would choose the number of folders and files.
            day = None
        partitions.setdefault(Partition(day, event.type), []).append(index)


def limit(partitions: Mapping[Partition, list[int]], most: int) -> Mapping[Partition, list[int]]:
    """Return at most ``most`` partitions; the smallest partitions become one.

    >>> limit({Partition(1, "a"): [0, 1], Partition(1, "b"): [2], Partition(2, "c"): [3]}, 2)
    {Partition(day=1, type='a'): [0, 1], Partition(day=None, type=None): [2, 3]}
    """
    if len(partitions) <= most:
        return partitions
    by_size = sorted(partitions.items(), key=lambda item: len(item[1]), reverse=True)
    kept = dict(by_size[: most - 1])
    # Sorted, so that these events are in the order of the batch too.
    kept[ELSEWHERE] = sorted(index for _, indexes in by_size[most - 1 :] for index in indexes)
    return kept


def file_name(first_arrival: float, content: bytes | memoryview) -> str:
    """Return the name of a file, from the Unix time at which its first event arrived and a hash of its content.

    >>> file_name(0.0, b"")
    'part-19700101T000000Z-cae66941d9efbd404e4d88758ea67670.parquet'
    """
    # By its content: a batch that is written again makes the same file, which replaces the first one.
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(first_arrival))
    return f"part-{moment}-{blake2b(content, digest_size=16).hexdigest()}.parquet"
