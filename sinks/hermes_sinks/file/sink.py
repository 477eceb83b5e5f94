"""Writes batches to the file of lines, on a thread, for the engine.

Invariant: one thread at a time has the file. The thread finishes an append that it has begun, or leaves no line of it,
even if the write is cancelled; the next write waits for the thread. So a disk that hangs delays only this sink.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hermes import Batch, BatchRejected, ConfigError, SinkUnavailable, Storage
from hermes.kit import clean_up, run_on_thread, run_to_end
from hermes_sinks.common.lines import encode_batch
from hermes_sinks.file.appending import LineFile
from hermes_sinks.file.names import is_name
from hermes_sinks.file.settings import FileSettings

# Seconds for a thread whose write was cancelled.
CLOSE_TIMEOUT = 2.0


class FileSink:
    """A sink that writes to ``file`` and closes the file. ``clock`` returns the Unix time.

    ::

        async with open_file(FileSettings(), Storage()) as sink:
            await sink.write(batch)
    """

    max_batch = 10_000
    concurrency = 1

    def __init__(self, file: LineFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        # One thread at a time: a thread whose write was cancelled keeps its token until it ends.
        self._writer = trio.CapacityLimiter(1)

    async def write(self, batch: Batch) -> None:
        """Append the batch durably.

        Raises `hermes.SinkUnavailable` (disk full or failing) and `hermes.BatchRejected` (invalid Unicode).
        """
        blocks, refused = await encode_batch(batch)
        if blocks:
            try:
                # The thread of a cancelled write goes on by itself, so a disk that hangs delays only this sink.
                await run_on_thread(
                    self._file.append, blocks, self._clock(), abandon_on_cancel=True, limiter=self._writer
                )
            except OSError as error:
                raise SinkUnavailable(f"{self._file.path}: {error.strerror or error}") from error
        if refused:
            raise BatchRejected(refused)

    async def aclose(self) -> None:
        """Close the file. If the disk hangs, the thread and the file stay open until the process ends."""
        with clean_up(CLOSE_TIMEOUT):
            # With the writer's token: after a thread that still appends.
            await run_to_end(self._file.close, limiter=self._writer)


def check_file(settings: FileSettings, _storage: Storage) -> None:
    """Raise `ConfigError` if the name is no good file name."""
    if not is_name(settings.name):
        raise ConfigError(f"SINK_FILE_NAME={settings.name!r}: expected 1 to 64 of A-Z a-z 0-9 _ . -, no dot first")


@asynccontextmanager
async def open_file(settings: FileSettings, storage: Storage) -> AsyncIterator[FileSink]:
    """Open the sink on its folder. Raises `ConfigError` if the folder is unusable or another process has the file."""
    check_file(settings, storage)
    # An absolute path takes the place of the data folder.
    sink = FileSink(await trio.to_thread.run_sync(_take_file, settings, storage.hermes_data_dir / settings.path))
    try:
        yield sink
    finally:
        await sink.aclose()


def _take_file(settings: FileSettings, folder: Path) -> LineFile:
    try:
        return LineFile(folder, settings.name, settings.max_bytes, settings.max_age, settings.compress, settings.keep)
    except BlockingIOError:
        raise ConfigError(
            f"SINK_FILE_PATH={str(folder)!r}: another process writes {settings.name}.jsonl there; stop it, or give "
            "this one another SINK_FILE_PATH or SINK_FILE_NAME"
        ) from None
    except OSError as error:
        raise ConfigError(f"SINK_FILE_PATH={str(folder)!r}: cannot be used: {error}") from error
