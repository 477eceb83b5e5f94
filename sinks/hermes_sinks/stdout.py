"""The sink that prints: one JSON line an event, the payload as the client's own bytes.

The lines are what POST /events takes as NDJSON, so one Hermes can be piped into another. Invariant: lines never
interleave and are never torn, and the loop never waits for the reader. Writing happens on a thread, and that thread
finishes the block it has begun even when the write was cancelled meanwhile; the next write waits for it.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from hermes import Batch, BatchRejected, Event, SinkPlugin, SinkUnavailable
from hermes.config import Settings
from hermes.sink import NoSettings

STDOUT = 1
SLICE = 1000  # events encoded between two checkpoints: about 0.3 ms of the loop
CLOSE_TIMEOUT = 2.0

_encoder = msgspec.json.Encoder()


def encode_lines(events: Sequence[Event]) -> bytes:
    """One line of JSON an event. Raises UnicodeEncodeError for text that is no Unicode.

    Only line breaks change: in JSON text they can stand between tokens alone, and there a space means the same.
    """
    lines = _encoder.encode_lines(events)
    if lines.count(b"\n") == len(events):
        return lines
    return b"".join([_encoder.encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for event in events])


def encode_the_good(events: Sequence[Event], first: int, refused: dict[int, str]) -> bytes:
    """The same, leaving out events that cannot be encoded; ``refused`` learns why, by index counted from ``first``."""
    lines = []
    for index, event in enumerate(events, first):
        try:
            lines.append(encode_lines([event]))
        except UnicodeEncodeError as error:
            refused[index] = f"no valid Unicode: {error}"
    return b"".join(lines)


class StdoutSink:
    """A sink that writes lines to a file descriptor of any kind: a pipe, a terminal, a file, a socket.

    ``fd`` stays the caller's to close, after ``aclose``.
    """

    max_batch = 10_000
    concurrency = 1

    def __init__(self, fd: int = STDOUT) -> None:
        self._fd = fd
        # One thread at a time, and a thread that its caller left keeps its token until it ends.
        self._writer = trio.CapacityLimiter(1)
        self._torn = b""

    async def write(self, batch: Batch) -> None:
        """Print the batch.

        Raises `hermes.SinkUnavailable` (nobody reads any more, the disk behind it is full) and `hermes.BatchRejected`.
        """
        parts = []
        refused: dict[int, str] = {}
        for start in range(0, len(batch), SLICE):
            events = batch[start : start + SLICE]
            try:
                parts.append(encode_lines(events))
            except UnicodeEncodeError:
                parts.append(encode_the_good(events, start, refused))
            await trio.lowlevel.checkpoint()
        try:
            await trio.to_thread.run_sync(
                self._write_block, b"".join(parts), abandon_on_cancel=True, limiter=self._writer
            )
        except OSError as error:
            raise SinkUnavailable(f"standard output: {error.strerror or error}") from error
        if refused:
            raise BatchRejected(refused)

    async def aclose(self) -> None:
        """Give a thread that still writes a moment; a reader that has stalled for good is left behind."""
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            async with self._writer:
                pass

    def _write_block(self, block: bytes) -> None:
        """Write all of ``block``, however often it takes (on the writer's thread)."""
        rest = memoryview(self._torn + block)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        finally:
            self._remember_torn_line(block, rest)

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # whoever made the descriptor set O_NONBLOCK: wait here instead
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll()
            return 0

    def _remember_torn_line(self, block: bytes, rest: memoryview) -> None:
        """After an error in the middle of a line, keep its remainder: it goes first next time, so no line is torn."""
        if len(rest) > len(block):
            self._torn = bytes(rest[: len(rest) - len(block)])
            return
        written = len(block) - len(rest)
        at_line_start = written == 0 or block[written - 1 : written] == b"\n"
        self._torn = b"" if at_line_start else block[written : block.index(b"\n", written) + 1]


@asynccontextmanager
async def open_stdout(_settings: NoSettings, _service: Settings) -> AsyncIterator[StdoutSink]:
    """Open the sink on the process's standard output."""
    sink = StdoutSink()
    try:
        await trio.lowlevel.checkpoint()
        yield sink
    finally:
        await sink.aclose()


plugin = SinkPlugin(open_stdout, summary="prints one line of JSON an event")
