"""Stores each batch as Parquet files, one file for each date and type, one after the other.

Invariants: no step holds the loop for longer than a slice of rows; a write that is cancelled between two files has
stored some of its events, and a repeated batch makes the same files. So an event is stored at least once, and
repeatedly only if a later batch is cut differently, as after a crash.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hermes import Batch, BatchRejected, ConfigError, Event, SinkUnavailable, Storage
from hermes.kit import clean_up, run_on_thread
from hermes_sinks.common.slices import slice_events
from hermes_sinks.parquet.columns import Rows, encode, make_rows, what_is_wrong
from hermes_sinks.parquet.layout import Days, Partition, file_name, limit, sort_by_partition
from hermes_sinks.parquet.settings import ParquetSettings, bucket_of, check_settings
from hermes_sinks.parquet.stores import BucketStore, FolderStore, Store

# Events sorted, or made rows of, between two checkpoints: about 0.5 ms of the loop.
SLICE = 1000
# Seconds for threads whose writes were cancelled.
CLOSE_TIMEOUT = 2.0
# Characters of a server's error.
_MOST_WORDS = 500


class ParquetSink:
    """A sink that writes to ``store`` and closes the store. ``clock`` returns the Unix time.

    ::

        async with open_parquet(ParquetSettings(url="s3://bucket/events"), Storage()) as sink:
            await sink.write(batch)
    """

    def __init__(self, store: Store, settings: ParquetSettings, clock: Callable[[], float] = time.time) -> None:
        self.max_batch = settings.max_batch
        self.concurrency = settings.concurrency
        self._settings = settings
        self._store = store
        self._clock = clock
        # A thread whose write was cancelled keeps its token until it ends, so the number of threads is bounded.
        self._threads = trio.CapacityLimiter(settings.concurrency)

    async def write(self, batch: Batch) -> None:
        """Store the batch, durably when this returns.

        Raises `hermes.SinkUnavailable` (disk full, server away, no such bucket, no permission) and
        `hermes.BatchRejected` (invalid Unicode).
        """
        refused: dict[int, str] = {}
        events, arrivals = batch.events, batch.arrivals
        for partition, indexes in (await self._sort(batch)).items():
            rows = []
            for first in range(0, len(indexes), SLICE):
                slice_ = indexes[first : first + SLICE]
                for start, stop in slice_events([events[index] for index in slice_], SLICE):
                    rows.append(_make_good_rows(events, arrivals, slice_[start:stop], refused))
                    await trio.lowlevel.checkpoint()
            if any(part.num_rows for part in rows):
                await self._put(partition, rows, arrivals[indexes[0]])
        if refused:
            raise BatchRejected(refused)

    async def _sort(self, batch: Batch) -> Mapping[Partition, Sequence[int]]:
        days = Days.around(self._clock(), self._settings.partition_days)
        partitions: dict[Partition, list[int]] = {}
        for start in range(0, len(batch), SLICE):
            sort_by_partition(batch[start : start + SLICE], start, days, partitions)
            await trio.lowlevel.checkpoint()
        return limit(partitions, self._settings.max_files)

    async def _put(self, partition: Partition, rows: Sequence[Rows], first_arrival: float) -> None:
        def put() -> None:
            content = encode(rows, self._settings.compression)
            self._store.put(partition.folder, file_name(first_arrival, content), content)

        try:
            # A cancelled write lets go at once. Its thread may still store the file, which the same batch replaces
            # later.
            await run_on_thread(put, abandon_on_cancel=True, limiter=self._threads)
        except OSError as error:
            raise SinkUnavailable(f"{self._settings.url}: {_in_one_line(error)}") from error

    async def aclose(self) -> None:
        """Close the store. If a disk or a server hangs, its threads stay until the process ends."""
        with clean_up(CLOSE_TIMEOUT):
            for _ in range(self.concurrency):
                # Each thread of a cancelled write keeps a token until it ends: with all tokens no thread uses the
                # store.
                await self._threads.acquire_on_behalf_of(object())
            self._store.close()


def _make_good_rows(
    events: Sequence[Event], arrivals: Sequence[float], indexes: Sequence[int], refused: dict[int, str]
) -> Rows:
    """Return the rows of the good events with these indexes; add the reasons of the others to ``refused``."""
    try:
        return make_rows([events[index] for index in indexes], [arrivals[index] for index in indexes])
    except ValueError:
        # pyarrow does not say which of the events it cannot take.
        bad = {index: wrong for index in indexes if (wrong := what_is_wrong(events[index]))}
        if not bad:
            raise
        refused.update(bad)
        return _make_good_rows(events, arrivals, [index for index in indexes if index not in bad], refused)


def _in_one_line(error: OSError) -> str:
    line = " ".join((error.strerror or str(error)).split())
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"


def check_parquet(settings: ParquetSettings, _storage: Storage) -> None:
    """Raise `ConfigError` for invalid settings, without asking the server."""
    check_settings(settings)


@asynccontextmanager
async def open_parquet(settings: ParquetSettings, storage: Storage) -> AsyncIterator[ParquetSink]:
    """Open the sink on its folder or bucket. Raises `ConfigError`. The first write connects to a server."""
    check_settings(settings)
    sink = ParquetSink(await trio.to_thread.run_sync(_open_store, settings, storage.hermes_data_dir), settings)
    try:
        yield sink
    finally:
        await sink.aclose()


def _open_store(settings: ParquetSettings, data_folder: Path) -> Store:
    bucket = bucket_of(settings.url)
    if bucket is not None:
        return BucketStore(bucket, settings)
    # An absolute path takes the place of the data folder.
    folder = data_folder / settings.url
    try:
        return FolderStore(folder)
    except OSError as error:
        raise ConfigError(f"SINK_PARQUET_URL={str(folder)!r}: cannot be used: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"SINK_PARQUET_URL={str(folder)!r}: {error}") from error
