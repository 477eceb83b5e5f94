"""Prints one JSON line for each event, the payload as the client's own bytes.

The lines are the NDJSON that POST /events takes, so one Hermes can be piped into another. Invariants: lines never
interleave and are never torn, and the loop never waits for the reader. A thread writes, and finishes a block that it
has begun even if the write is cancelled; the next write waits for the thread.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from hermes import Batch, BatchRejected, SinkPlugin, SinkUnavailable, Storage
from hermes.config import NoSettings
from hermes.kit import clean_up, run_on_thread
from hermes_sinks.common.lines import encode_batch

STDOUT = 1
CLOSE_TIMEOUT = 2.0


class StdoutSink:
    """A sink that writes lines to a file descriptor of any kind: a pipe, a terminal, a file, a socket.

    The caller closes ``fd``, after ``aclose``. ::

        sink = StdoutSink(fd)
        await sink.write(batch)
        await sink.aclose()
    """

    max_batch = 10_000
    concurrency = 1

    def __init__(self, fd: int = STDOUT) -> None:
        self._fd = fd
        # One thread at a time: a thread whose write was cancelled keeps its token until it ends.
        self._writer = trio.CapacityLimiter(1)
        self._torn = b""

    async def write(self, batch: Batch) -> None:
        """Print the batch.

        Raises `hermes.SinkUnavailable` (nobody reads any more, the disk behind it is full) and `hermes.BatchRejected`.
        """
        blocks, refused = await encode_batch(batch)
        try:
            # A reader that stops holds the thread, and never the loop. The thread of a cancelled write finishes its
            # block.
            await run_on_thread(self._write_blocks, blocks, abandon_on_cancel=True, limiter=self._writer)
        except OSError as error:
            raise SinkUnavailable(f"standard output: {error.strerror or error}") from error
        if refused:
            raise BatchRejected(refused)

    async def aclose(self) -> None:
        """Wait a moment for a thread that still writes; a thread with a stalled reader ends with the process."""
        with clean_up(CLOSE_TIMEOUT):
            # The token is free once no thread writes.
            async with self._writer:
                pass

    def _write_blocks(self, blocks: Sequence[bytes]) -> None:
        """Write all of ``blocks``, on the writer's thread."""
        for block in blocks:
            self._write_block(block)

    def _write_block(self, block: bytes) -> None:
        # The next write begins with the remainder of a torn line, so that the reader gets whole lines.
        rest = memoryview(self._torn + block)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        finally:
            self._remember_torn_line(block, rest)

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        # O_NONBLOCK is set, perhaps by a program that shares the pipe: wait here.
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            # Returns also if the reader has gone: the next write then raises the error.
            poll.poll()
            return 0

    def _remember_torn_line(self, block: bytes, rest: memoryview) -> None:
        """Keep the remainder of a line after an error in its middle. The next write begins with the remainder."""
        # Not even the torn line of an earlier write was finished.
        if len(rest) > len(block):
            self._torn = bytes(rest[: len(rest) - len(block)])
            return
        written = len(block) - len(rest)
        at_line_start = written == 0 or block[written - 1 : written] == b"\n"
        self._torn = b"" if at_line_start else block[written : block.index(b"\n", written) + 1]


@asynccontextmanager
async def open_stdout(_settings: NoSettings, _storage: Storage) -> AsyncIterator[StdoutSink]:
    """Open the sink on the process's standard output."""
    sink = StdoutSink()
    try:
        await trio.lowlevel.checkpoint()
        yield sink
    finally:
        await sink.aclose()


plugin = SinkPlugin(open_stdout, summary="prints one line of JSON an event")
