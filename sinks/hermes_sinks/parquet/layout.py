"""Which events share a file, and what its folder and its name are. Pure.

    date=2026-11-21/type=song_played/part-20261121T101500Z-<hash>.parquet

The layout is Hive's, which readers know as partitions. Clients choose dates and, with EVENT_TYPES=*, types, so both are
bounded: what is too old, too new or one too many goes to the partition that Hive has for values that are not given.
Every file also tells date and type of its events in columns. Invariant: a folder is two segments, ``date=…`` and
``type=…``, whatever a type holds.
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
    """A day, counted from the Unix epoch, and a type; None: not given."""

    day: int | None
    type: str | None

    @property
    def folder(self) -> str:
        """The folder, relative to the root."""
        date = NOT_GIVEN if self.day is None else time.strftime("%Y-%m-%d", time.gmtime(self.day * DAY))
        return f"date={date}/type={NOT_GIVEN if self.type is None else _segment(self.type)}"


def _segment(text: str) -> str:
    """The text as readers of partitions decode it. There is no ``../`` in a path, not even behind ``type=``."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.endswith(".") else quoted


ELSEWHERE = Partition(None, None)


class Days(NamedTuple):
    """The days that have folders of their own."""

    first: int
    last: int

    @classmethod
    def around(cls, now: float, back: int) -> Days:
        """From ``back`` days before ``now``, in Unix seconds, to the day after: clocks differ."""
        today = int(now) // DAY
        return cls(today - back, today + 1)


def sort_by_partition(
    events: Iterable[Event], first_index: int, days: Days, partitions: dict[Partition, list[int]]
) -> None:
    """Add the indexes of events, counted from ``first_index``, to those of their partitions."""
    for index, event in enumerate(events, first_index):
        day: int | None = event.timestamp // DAY
        if not days.first <= event.timestamp // DAY <= days.last:
            day = None
        partitions.setdefault(Partition(day, event.type), []).append(index)


def limit(partitions: Mapping[Partition, list[int]], most: int) -> Mapping[Partition, list[int]]:
    """At most so many partitions: the smallest ones become one."""
    if len(partitions) <= most:
        return partitions
    by_size = sorted(partitions.items(), key=lambda item: len(item[1]), reverse=True)
    kept = dict(by_size[: most - 1])
    kept[ELSEWHERE] = sorted(index for _, indexes in by_size[most - 1 :] for index in indexes)
    return kept


def file_name(first_arrival: float, content: bytes | memoryview) -> str:
    """The name of a file: when its first event arrived, in Unix seconds, and a hash of all that is in it.

    The same events in the same batch make the same file, which takes its own place when it is written again.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(first_arrival))
    return f"part-{moment}-{blake2b(content, digest_size=16).hexdigest()}.parquet"
