"""A sink that appends events to a file, one line of JSON each: an example of a sink as a distribution of its own.

Invariant: a batch is in the file and on the disk when ``write`` returns, or nothing of it is. Blocking calls run on a
thread, one at a time, and run to their end even when the write is cancelled meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import trio

from hermes import Batch, BatchRejected, ConfigError, Event, SinkPlugin, SinkUnavailable, Storage
from hermes.config import about

__all__ = ["JsonlSettings", "JsonlSink", "open_jsonl", "plugin"]

_encoder = msgspec.json.Encoder()


class JsonlSettings(msgspec.Struct, frozen=True):
    """The sink's settings: a field ``path`` is the variable ``SINK_JSONL_PATH``."""

    path: Annotated[Path, about("the file to append to; a relative path starts in HERMES_DATA_DIR")] = Path(
        "events.jsonl"
    )


class JsonlSink:
    """A sink over an open file, which it owns the end of: no other program may write to it."""

    max_batch = 5000  # what the engine may hand over at once
    concurrency = 1  # how many writes it may have running at once

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._writer = trio.CapacityLimiter(1)

    async def write(self, batch: Batch) -> None:
        """Append the batch and force it to the disk."""
        lines, refused = [], {}
        for index, event in enumerate(batch):
            try:
                lines.append(_line(event))
            except UnicodeEncodeError:  # the event's own fault, and it will not get better
                # A reason is shown in logs and counted by its text: no values of the event in it.
                refused[index] = "no valid Unicode"
        try:
            await trio.to_thread.run_sync(self._append, b"".join(lines), limiter=self._writer)
        except OSError as error:  # may pass: the engine tries again, and opens the circuit breaker if it does not
            raise SinkUnavailable(f"{error.strerror}") from error
        if refused:
            raise BatchRejected(refused)

    def _append(self, block: bytes) -> None:
        end = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end)
            raise


def _line(event: Event) -> bytes:
    # The payload goes in as the client's own bytes; a line break between its tokens is no more than a space.
    return _encoder.encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _open_file(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


@asynccontextmanager
async def open_jsonl(settings: JsonlSettings, storage: Storage) -> AsyncIterator[JsonlSink]:
    """Open the sink while the block runs. A `ConfigError` is for the operator: it names the variable."""
    path = storage.hermes_data_dir / settings.path
    try:
        fd = await trio.to_thread.run_sync(_open_file, path)
    except OSError as error:
        raise ConfigError(f"SINK_JSONL_PATH={str(path)!r}: cannot be opened: {error.strerror}") from error
    try:
        yield JsonlSink(fd)
    finally:
        os.close(fd)


plugin = SinkPlugin(open_jsonl, JsonlSettings, summary="lines of JSON in a file")
