"""The sqlite log by itself: appends from many tasks, and the latency of one, beside what the bare disk does.

The witness is a file of its own on the same disk that is written and synced in turns with the log: how long a commit
takes, and how many bytes a second there are, is first of all a property of the disk.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles

import trio

from hermes.store.log.sqlite.log import open_sqlite_log
from tests.perf.rows import NO_TARGET, Row

_RECORD = os.urandom(1024)
_RECORDS = 32  # an append
_TASKS = 64
_PAGES = 16384  # bytes of the least that the log writes for a commit
_PLACES = 64  # of the witness's file that are written over and over


def appends(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Records a second of appends of 32 x 1 KiB from 64 tasks, nothing trimmed."""
    group = _RECORD * _RECORDS * _TASKS
    by_log, by_file, shared = [], [], []
    for _ in range(rounds):
        records, commits, elapsed = trio.run(_append_from_many, folder / "log", seconds)
        shutil.rmtree(folder / "log")
        by_log.append(records / elapsed)
        shared.append(records / _RECORDS / commits)
        by_file.append(_RECORDS * _TASKS / median(write_and_sync(folder, group, 50 * seconds)))
    return [
        Row(
            "sqlite log: appends of 32 x 1 KiB from 64 tasks",
            f"{median(by_log):,.0f} records/s, {median(shared):.0f} appends a commit "
            f"(a bare file, as much at once: {median(by_file):,.0f})",
            NO_TARGET,
            None,
            {"records_per_second": by_log, "appends_per_commit": shared, "bare_file_records_per_second": by_file},
        )
    ]


def latency(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Milliseconds until one record is durable, one at a time, and of a write and fdatasync of as many pages."""
    by_log: list[float] = []
    by_file: list[float] = []
    for _ in range(rounds):
        by_log += trio.run(_append_one_by_one, folder / "log", seconds)
        shutil.rmtree(folder / "log")
        by_file += write_and_sync(folder, bytes(_PAGES), 500 * seconds)
    (log_50, log_99), (file_50, file_99) = _percentiles(by_log), _percentiles(by_file)
    return [
        Row(
            "sqlite log: commit latency of one record, p50 / p99",
            f"{log_50:.2f} / {log_99:.2f} ms (write and fdatasync of one page: {file_50:.2f} / {file_99:.2f} ms)",
            NO_TARGET,
            None,
            {"p50_ms": log_50, "p99_ms": log_99, "fdatasync_p50_ms": file_50, "fdatasync_p99_ms": file_99},
        )
    ]


async def _append_from_many(folder: Path, seconds: float) -> tuple[int, int, float]:
    """Records, commits and seconds."""
    async with open_sqlite_log(folder) as log:
        began = time.perf_counter()
        end = began + seconds

        async def work() -> None:
            while time.perf_counter() < end:
                await log.append([_RECORD] * _RECORDS)

        async with trio.open_nursery() as nursery:
            for _ in range(_TASKS):
                nursery.start_soon(work)
        return log.next, log.statistics().commits, time.perf_counter() - began


async def _append_one_by_one(folder: Path, seconds: float) -> list[float]:
    async with open_sqlite_log(folder) as log:
        found = []
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            await log.append([_RECORD])
            found.append(time.perf_counter() - began)
        return found


def write_and_sync(folder: Path, data: bytes, times: int) -> list[float]:
    """Seconds of each write and fdatasync; the file has its size already, as a write-ahead file that is used again."""
    path = folder / "witness"
    with path.open("wb", buffering=0) as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, len(data) * _PLACES)
        found = [
            _timed(partial(_write_at, descriptor, data, place * len(data)))
            for place, _ in zip(cycle(range(_PLACES)), range(_PLACES + times), strict=False)
        ]
    path.unlink()
    return found[_PLACES:]  # the first time round, the file system has more to do


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    os.pwrite(descriptor, data, offset)
    os.fdatasync(descriptor)


def _timed(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000
